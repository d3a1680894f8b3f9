import type { Worker } from 'node:worker_threads';
import { ShimError } from '../error.ts';
import type { AppLimits } from './app-limits.ts';
import type { CompiledComponent } from './core-modules.ts';
import { load, post, reply, serve } from './guest-worker.ts';
import { findInstallation } from './installation.ts';
import type { EngineClaim } from './messages.ts';
import { PermitLedger } from './permits.ts';
import { clockMs, RequestBoard } from './request-board.ts';
import { startGuestWorker } from './start-worker.ts';
import { Watch } from './watch.ts';
import type { WorkerReply } from './worker-messages.ts';

/** How often a worker with guests at work is looked at, milliseconds. */
const lookEveryMs = 20;

/** Looks that find a worker without work before it is left alone until it says that it has some. */
const freeLooks = 50;

/** A look later than this, milliseconds, means that this process did not run. */
const lateLookMs = 100;

/** Workers beyond the wanted number, while guests that compute keep others from their requests. */
const maxStandIns = 1;

/** How long such a worker stays at least, milliseconds. */
const defaultStandInMs = 60_000;

/** A worker that dies of itself is replaced, but not more often than this within a minute. */
const maxFailures = 5;
const failureWindowMs = 60_000;

/** Requests that a log line names at most. */
const maxNamed = 10;

/** What all workers of an engine run. */
export type CrewApp = {
  readonly claim: EngineClaim;
  readonly components: readonly CompiledComponent[];
  readonly stdout: number | undefined;
  readonly stderr: number | undefined;
  readonly limits: AppLimits;
  /** Worker threads wanted. */
  readonly size: number;
  readonly pagemapFd: number | undefined;
  /** How long a worker that was started while guests compute stays at least, milliseconds; default a minute. */
  readonly standInMs?: number;
};

/** What the crew tells of. */
export type CrewEvents = {
  /** A line for the app's standard error. */
  readonly tell: (line: string) => void;
  /** It cannot go on. */
  readonly fail: (reason: string) => void;
};

type Member = {
  readonly worker: Worker;
  /** Its number among those that share the permits. */
  readonly number: number;
  readonly board: RequestBoard;
  readonly watch: Watch;
  phase: 'loading' | 'serving' | 'retiring';
  /** Whether its board is looked at, and how many looks in turn found nothing. */
  watched: boolean;
  freeLooks: number;
  stalled: boolean;
  /** Why we ended it. */
  ended: string | undefined;
};

/**
 * The workers of an app: one that is loaded first and serves at once, the others after it, all on one listening socket. A
 * worker whose guest computes beyond its time is ended and replaced; one whose guest computes for long gets a stand-in, so
 * that others need not wait. What the workers do is read from their boards; an app without requests is not looked at.
 */
export class WorkerCrew {
  readonly #app: CrewApp;
  readonly #events: CrewEvents;
  readonly #permits: PermitLedger;
  readonly #members: Member[] = [];
  #listening: { readonly fd: number; readonly address: string } | undefined;
  #failures: number[] = [];
  /** Whether a guest has held up a worker for long, or ended it. */
  #wary = false;
  #draining = false;
  #timer: NodeJS.Timeout | undefined;
  #retirement: NodeJS.Timeout | undefined;
  #nextLook = 0;

  constructor(app: CrewApp, events: CrewEvents) {
    this.#app = app;
    this.#events = events;
    this.#permits = PermitLedger.of(app.limits.maxInstances);
  }

  /** The threads that serve now, for whoever asks them something. */
  get workers(): readonly Worker[] {
    return this.#members.filter(({ phase }) => phase === 'serving').map(({ worker }) => worker);
  }

  /** Where the app listens, the port that the kernel chose included; undefined until it does. */
  get address(): string | undefined {
    return this.#listening?.address;
  }

  /** Loads the app into its first worker. Rejects with the reason why it cannot run. */
  async begin(
    worker: Worker,
    networkFd: number | undefined,
  ): Promise<Extract<WorkerReply, { type: 'loaded' }>> {
    const member = this.#enlist(worker);
    try {
      return await this.#load(member, networkFd, false);
    } catch (thrown) {
      if (member.ended === undefined) throw thrown;
      throw new ShimError('deadline-exceeded', `${member.board.current() ?? 'the app'}: ${member.ended}`);
    }
  }

  /** Serves on a listening socket, which stays the caller's; resolves when the first worker does. */
  async serve(fd: number, address: string, announce: boolean): Promise<void> {
    const [first] = this.#members;
    if (first === undefined) throw new ShimError('failed-precondition', 'the app was not loaded');
    await serve(first.worker, fd, address, announce);
    first.phase = 'serving';
    this.#listening = { fd, address };
    this.#fill();
  }

  /** Tells of the end of a worker of this crew. */
  onExit(worker: Worker, reason: string): void {
    const index = this.#members.findIndex((member) => member.worker === worker);
    const [member] = index < 0 ? [] : this.#members.splice(index, 1);
    if (member === undefined) return;
    this.#permits.forget(member.number);
    if (this.#listening === undefined || member.phase === 'retiring') return;
    if (this.#draining) {
      const why = member.ended ?? `a worker failed (${reason})`;
      this.#events.tell(`${why}: its requests end with it${requestsOf(member.board)}`);
      return;
    }
    this.#wary = true;
    if (member.ended === undefined) {
      process.stderr.write(`worker failed: ${reason}\n`);
      this.#events.tell(
        `guests of this app ended with their requests and are started again: ${reason}${requestsOf(member.board)}`,
      );
      const now = performance.now();
      this.#failures = [...this.#failures.filter((at) => now - at < failureWindowMs), now];
      if (this.#failures.length > maxFailures) {
        this.#events.fail(`more than ${maxFailures} workers failed within ${failureWindowMs / 1000} s`);
        return;
      }
    } else {
      this.#events.tell(`${member.ended}, its worker is ended and started again${requestsOf(member.board)}`);
    }
    this.#fill();
  }

  /** Lets the requests in flight finish, within their own limits; resolves when no worker has any. */
  async drain(): Promise<void> {
    this.#draining = true;
    clearTimeout(this.#retirement);
    const drained = this.#members.map(({ worker }) => {
      const answer = reply(worker, 'drained');
      post(worker, { type: 'drain', keepIdle: false });
      // One that dies meanwhile has no requests any more.
      return answer.catch(() => {});
    });
    await Promise.all(drained);
  }

  /** The requests in flight, for the end of a log line. */
  get requests(): string {
    return this.#members.map(({ board }) => requestsOf(board)).join('');
  }

  #enlist(worker: Worker): Member {
    const taken = new Set(this.#members.map(({ number }) => number));
    let number = 0;
    while (taken.has(number)) number += 1;
    const board = new RequestBoard();
    const watch = new Watch(board, this.#app.limits.busyTimeoutMs);
    const member: Member = {
      worker,
      number,
      board,
      watch,
      phase: 'loading',
      watched: false,
      freeLooks: 0,
      stalled: false,
      ended: undefined,
    };
    this.#members.push(member);
    worker.on('message', (message: WorkerReply) => {
      if (message.type === 'active') this.#look(member);
    });
    return member;
  }

  #load(
    { worker, board, number }: Member,
    networkFd: number | undefined,
    quiet: boolean,
  ): Promise<Extract<WorkerReply, { type: 'loaded' }>> {
    const { claim, components, stdout, stderr } = this.#app;
    return load(worker, {
      claim,
      components,
      stdout,
      stderr,
      networkFd,
      board: board.buffer,
      permits: this.#permits.buffer,
      worker: number,
      quiet,
      wary: this.#wary,
    });
  }

  /** Starts workers, one after the other, until there are as many as wanted. */
  #fill(): void {
    const working = this.#members.filter(({ phase }) => phase !== 'retiring').length;
    if (this.#draining || working >= this.#app.size || this.#members.some(isLoading)) return;
    this.#hire();
  }

  #hire(): void {
    const listening = this.#listening;
    if (listening === undefined) return;
    const onExit = (reason: string): void => this.onExit(worker, reason);
    const worker = startGuestWorker(findInstallation().worker, this.#app.pagemapFd, onExit);
    const member = this.#enlist(worker);
    this.#load(member, undefined, true)
      .then(async () => {
        if (this.#draining) return;
        await serve(worker, listening.fd, listening.address, false);
        member.phase = 'serving';
        this.#fill();
      })
      .catch((thrown: unknown) => {
        // One that has ended is replaced where its end is told of.
        if (this.#draining || !this.#members.includes(member)) return;
        this.#events.fail(`a new worker could not be started: ${ShimError.from(thrown).message}`);
      });
  }

  /** A worker has something to do: it is looked at until it has had nothing for a while. */
  #look(member: Member): void {
    member.watched = true;
    member.freeLooks = 0;
    if (this.#timer === undefined) this.#armLook();
  }

  #armLook(): void {
    this.#nextLook = performance.now() + lookEveryMs;
    this.#timer = setTimeout(() => this.#lookAtAll(), lookEveryMs);
  }

  #lookAtAll(): void {
    this.#timer = undefined;
    const late = performance.now() - this.#nextLook;
    const now = clockMs();
    for (const member of this.#members)
      if (member.watched) this.#lookAt(member, now, late > lateLookMs ? late : 0);
    if (this.#members.some(({ watched }) => watched)) this.#armLook();
  }

  #lookAt(member: Member, now: number, lateMs: number): void {
    const { watch, worker } = member;
    const sight = watch.look(now, lateMs);
    member.stalled = sight.kind === 'stalled';
    switch (sight.kind) {
      case 'free':
        this.#countFree(member);
        return;
      case 'busy':
        member.freeLooks = 0;
        return;
      case 'stalled':
        this.#standIn();
        return;
      case 'over':
        member.ended = sight.reason;
        member.watched = false;
        void worker.terminate();
        return;
      default:
        sight satisfies never;
    }
  }

  /** After a while without work a worker is left alone; it says when it has some. */
  #countFree(member: Member): void {
    member.freeLooks += 1;
    if (member.freeLooks < freeLooks) return;
    member.board.watched = false;
    // A guest that went on just before found itself watched, and told nobody.
    member.watched = member.board.busy() !== undefined;
    member.board.watched = member.watched;
    member.freeLooks = 0;
  }

  /** One worker more while guests that compute hold up all there are, and for a while after. */
  #standIn(): void {
    this.#wary = true;
    if (this.#draining || this.#members.length >= this.#app.size + maxStandIns) return;
    if (this.#members.some((member) => isLoading(member) || !member.stalled)) return;
    this.#hire();
    if (this.#retirement === undefined) this.#armRetirement();
  }

  #armRetirement(): void {
    const { standInMs = defaultStandInMs } = this.#app;
    this.#retirement = setTimeout(() => this.#retire(), standInMs).unref();
  }

  #retire(): void {
    this.#retirement = undefined;
    const last = this.#members.at(-1);
    if (this.#draining || last === undefined || this.#members.length <= this.#app.size) return;
    if (this.#members.some(({ stalled, phase }) => stalled || phase !== 'serving')) {
      this.#armRetirement();
      return;
    }
    last.phase = 'retiring';
    const answer = reply(last.worker, 'drained');
    post(last.worker, { type: 'drain', keepIdle: true });
    void answer.catch(() => {}).finally(() => last.worker.terminate());
  }
}

function isLoading({ phase }: Member): boolean {
  return phase === 'loading';
}

/** The requests that end with a worker, for the end of a log line; the one whose guest is or was on the CPU first. */
function requestsOf(board: RequestBoard): string {
  const current = board.current();
  const { count, others } = board.inFlight(maxNamed);
  const named = [...(current === undefined ? [] : [current]), ...others].slice(0, maxNamed);
  if (named.length === 0) return '';
  const more = count > named.length ? ` and ${count - named.length} more` : '';
  return ` (${count === 1 ? 'request' : 'requests'} in flight: ${named.join('; ')}${more})`;
}
