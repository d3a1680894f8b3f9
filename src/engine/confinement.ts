import { accessSync, constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { ShimError } from '../error.ts';
import {
  appArmorCalls,
  boundingCalls,
  capabilities,
  capabilitySet,
  EveryThread,
  enterNetworkCall,
  fileCapabilities,
  fileRuleset,
  identityCalls,
  installSeccompFilter,
  landlockVersion,
  rightsOfThreads,
  setResourceLimit,
} from '../linux-rights.ts';
import { machine } from '../system-calls.ts';
import { findInstallation } from './installation.ts';
import type { CallFilter, EngineSecurity } from './messages.ts';
import { seccompFilter, sparingRings } from './seccomp-filter.ts';

const listening = capabilities.CAP_NET_BIND_SERVICE;

/** Files that Node and V8 look at while they run. */
const readByNode = ['/proc/self', '/proc/meminfo', '/proc/cpuinfo', '/proc/stat', '/dev/urandom'];

/** What an engine may still open. */
export type GrantedPaths = { readonly readable: readonly string[]; readonly writable: readonly string[] };

/** Where every thread goes, and what a later worker is read from; the installation's own unless a test has another one. */
type ConfinementOptions = { readonly networkFd?: number | undefined; readonly worker?: string };

/**
 * What takes from every thread of this process what its container does not have: ids, capabilities, files, system calls. Made
 * while the engine waits, so that a claim pays for little of it.
 */
export class Confinement {
  readonly #threads = new EveryThread(findInstallation().threadCalls);
  readonly #landlock = landlockVersion();
  readonly #hasRings = hasRings();
  readonly #filter = seccompFilter({ pid: process.pid, arch: machine, hasRings: this.#hasRings });
  #security: EngineSecurity | undefined;
  /** What the first thread keeps until `dropListening`. */
  #onMain: readonly number[] = [];

  /** Where this process may, its threads give up at once what no container keeps; the code of a claim is warm then, too. */
  constructor() {
    const [own] = rightsOfThreads();
    const effective = BigInt(`0x${own?.fields.get('CapEff') ?? '0'}`);
    if ((effective & (1n << BigInt(capabilities.CAP_SETPCAP))) === 0n) return;
    this.#threads.run('giving up rights', boundingCalls(fileCapabilities));
  }

  /** Version of Landlock that the kernel has; 0 for none. */
  get landlock(): number {
    return this.#landlock;
  }

  /**
   * Confines this process, and moves every thread into the network namespace open at `networkFd`. What it still has is checked afterwards, thread by thread. Where listening on `port` needs
   * CAP_NET_BIND_SERVICE, it stays on the calling thread, the first one, until `dropListening`. `worker` has to stay readable.
   * Throws `failed-precondition` if it does not, `internal` when a thread kept more than it should.
   *
   * The pod's own filter comes last: it may refuse what all this takes. Afterwards an engine does what any server on Node does.
   */
  apply(
    security: EngineSecurity,
    paths: GrantedPaths,
    port: number,
    { networkFd, worker = findInstallation().worker }: ConfinementOptions = {},
  ): void {
    this.#onMain = port > 0 && port < firstFreePort() ? [listening] : [];
    for (const limit of security.limits) setResourceLimit(limit);
    const ruleset = this.#ruleset(paths);
    try {
      const profile = security.appArmorProfile;
      // Once for all of it: each time, the slowest thread is waited for.
      const first = networkFd === undefined ? [] : [enterNetworkCall(networkFd)];
      const { open, take } = profile === undefined ? { open: [], take: [] } : appArmorCalls(profile);
      const last = ruleset === undefined ? take : [...take, ruleset.call];
      this.#threads.run(
        'giving up rights',
        [...first, ...open, ...identityCalls(security), ...last],
        [...first, ...open, ...identityCalls(security, this.#onMain), ...last],
      );
    } finally {
      ruleset?.close();
    }
    installSeccompFilter(this.#filter);
    this.#security = security;
    checkReadable(worker, security.uid);
    checkThreads(security, this.#onMain);
    if (security.filter !== undefined) this.#installPodFilter(security.filter);
  }

  /**
   * Gives up the right to listen on a low port, once there is nothing left to listen on. The first thread alone has it, as
   * `apply` has checked, unless it has made another one since: only then is every thread told, which takes until the last of
   * those that compile gets a core. All are looked at in either case.
   */
  dropListening(): void {
    if (this.#security === undefined || this.#onMain.length === 0) return;
    this.#onMain = [];
    const what = 'giving up listening';
    const rights = capabilitySet(this.#security.capabilities);
    this.#threads.runOnFirst(what, rights);
    if (excessOf(this.#security, []) === undefined) return;
    this.#threads.run(what, rights);
    checkThreads(this.#security, []);
  }

  /** Goes through what confining takes without giving anything up, so that a claim finds warm code. */
  rehearse(): void {
    const nobody: EngineSecurity = { uid: 0, gid: 0, groups: [], capabilities: [], limits: [] };
    this.#ruleset({ readable: [], writable: [] })?.close();
    identityCalls(nobody, [listening]);
    checkReadable(findInstallation().worker, nobody.uid);
    excessOf(nobody, [listening]);
  }

  #installPodFilter({ program, isLogged }: CallFilter): void {
    try {
      installSeccompFilter(this.#hasRings ? sparingRings(program, machine) : program, isLogged);
    } catch (cause) {
      throw new ShimError(
        'failed-precondition',
        `the pod's seccomp profile does not come into force: ${ShimError.from(cause).message}`,
        { cause },
      );
    }
  }

  #ruleset({ readable, writable }: GrantedPaths): ReturnType<typeof fileRuleset> | undefined {
    if (this.#landlock === 0) return undefined;
    return fileRuleset(
      this.#landlock,
      [findInstallation().directory, ...readByNode, ...readable],
      ['/dev/null', ...writable],
    );
  }
}

/** Whether this process has a ring of io_uring open. */
function hasRings(): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[io_uring]';
    } catch {
      // The descriptor by which the folder was listed.
      return false;
    }
  });
}

/** The lowest port of this network on which everybody may listen. */
function firstFreePort(): number {
  return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
}

/** A worker that takes the place of a dead one is read from the disk, under the container's user. */
function checkReadable(worker: string, uid: number): void {
  try {
    accessSync(worker, constants.R_OK);
  } catch (cause) {
    throw new ShimError(
      'failed-precondition',
      `user ${uid} of the container cannot read this installation ("${worker}"): make it and the folders above it readable by everybody`,
      { cause },
    );
  }
}

/** Throws `internal` for the first thread that has more, or other, rights than `security` says. */
function checkThreads(security: EngineSecurity, onMain: readonly number[]): void {
  const excess = excessOf(security, onMain);
  if (excess !== undefined) throw new ShimError('internal', excess);
}

/** What the first thread has that has more, or other, rights than `security` says; undefined where none has. */
function excessOf(
  { uid, gid, groups, capabilities: kept }: EngineSecurity,
  onMain: readonly number[],
): string | undefined {
  const four = (id: number): string => `${id} ${id} ${id} ${id}`;
  for (const { thread, fields } of rightsOfThreads()) {
    const caps = capabilityMask(thread === String(process.pid) ? [...kept, ...onMain] : kept);
    const expected: readonly (readonly [field: string, value: string])[] = [
      ['Uid', four(uid)],
      ['Gid', four(gid)],
      ['Groups', sorted(groups.map(String))],
      ['CapInh', capabilityMask([])],
      ['CapPrm', caps],
      ['CapEff', caps],
      ['CapBnd', capabilityMask(kept)],
      ['CapAmb', capabilityMask([])],
      ['NoNewPrivs', '1'],
      ['Seccomp', '2'],
    ];
    for (const [field, value] of expected) {
      const found = fields.get(field) ?? 'nothing';
      if ((field === 'Groups' ? sorted(found.split(' ')) : found) === value) continue;
      return `thread ${thread} of the engine has ${field} ${found} where its container has ${value}`;
    }
  }
  return undefined;
}

/** Set as /proc shows it. */
function capabilityMask(set: readonly number[]): string {
  const bits = set.reduce((mask, capability) => mask | (1n << BigInt(capability)), 0n);
  return bits.toString(16).padStart(16, '0');
}

function sorted(words: readonly string[]): string {
  return words
    .filter((word) => word !== '')
    .toSorted()
    .join(' ');
}
