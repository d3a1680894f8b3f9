import { existsSync, linkSync, renameSync, unlinkSync } from 'node:fs';

/** Seconds a host without tasks stays. */
export const defaultIdleSeconds = 600;

/** How long a host that has withdrawn its socket waits for a caller that had connected before, milliseconds. */
const withdrawalGraceMs = 1_000;

export type HostIdleOptions = {
  readonly idleMs: number;
  readonly graceMs?: number;
  /** Absolute path of the socket by which launchers find the host; undefined if it has none in the file system. */
  readonly socket: string | undefined;
  readonly hasTasks: () => boolean;
  /** Ends the process. */
  readonly end: () => void;
};

/**
 * Ends a host that nobody uses. It first takes its socket out of the launchers' sight, then waits: a launcher that had
 * found it just before may have sent containerd here. If so the socket goes back, unless another host took its place.
 */
export class HostIdle {
  readonly #options: HostIdleOptions;
  #timer: NodeJS.Timeout | undefined;
  /** Counts whatever shows that the host is used. */
  #activity = 0;
  #ending = false;

  constructor(options: HostIdleOptions) {
    this.#options = options;
    this.touch();
  }

  /** Notes that somebody connected or a task came or went: the idle time begins anew. */
  touch(): void {
    this.#activity++;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#onIdle(), this.#options.idleMs);
  }

  /** Ends the host now if it has no task and nobody comes meanwhile. Gives whether it ended. */
  async endIfUnused(): Promise<boolean> {
    const { socket, hasTasks, end, graceMs = withdrawalGraceMs } = this.#options;
    if (this.#ending || hasTasks()) return false;
    this.#ending = true;
    const activity = this.#activity;
    const hidden = socket === undefined ? undefined : withdraw(socket);
    await new Promise((resolve) => setTimeout(resolve, graceMs));
    if (activity === this.#activity && !hasTasks()) {
      if (hidden !== undefined) unlinkSync(hidden);
      end();
      return true;
    }
    if (socket !== undefined && hidden !== undefined) putBack(hidden, socket);
    this.#ending = false;
    return false;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  async #onIdle(): Promise<void> {
    if (!(await this.endIfUnused()) && !this.#ending) this.touch();
  }
}

/** Renames the socket, which keeps it for `putBack`; undefined if it is not there. */
function withdraw(socket: string): string | undefined {
  if (!existsSync(socket)) return undefined;
  const hidden = `${socket}.${process.pid}`;
  renameSync(socket, hidden);
  return hidden;
}

/** Gives the socket its name back, unless the name is taken. */
function putBack(hidden: string, socket: string): void {
  try {
    linkSync(hidden, socket);
  } catch {
    // Another host has come up; this one serves its callers to the end.
  }
  unlinkSync(hidden);
}
