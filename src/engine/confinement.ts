import { accessSync, constants, readdirSync, readlinkSync } from 'node:fs';
import { ShimError } from '../error.ts';
import {
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
import { findInstallation } from './installation.ts';
import type { EngineSecurity } from './messages.ts';
import { seccompFilter } from './seccomp-filter.ts';

const listening = capabilities.CAP_NET_BIND_SERVICE;

/** Files that Node and V8 look at while they run. */
const readByNode = ['/proc/self', '/proc/meminfo', '/proc/cpuinfo', '/proc/stat', '/dev/urandom'];

/** What an engine may still open. */
export type GrantedPaths = { readonly readable: readonly string[]; readonly writable: readonly string[] };

/**
 * What takes from every thread of this process what its container does not have: ids, capabilities, files, system calls. Made
 * while the engine waits, so that a claim pays for little of it.
 */
export class Confinement {
  readonly #threads = new EveryThread(findInstallation().threadCalls);
  readonly #landlock = landlockVersion();
  readonly #filter = seccompFilter({
    pid: process.pid,
    arch: process.arch === 'arm64' ? 'arm64' : 'x64',
    hasRings: hasRings(),
  });
  #security: EngineSecurity | undefined;

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

  /** Moves every thread into the network namespace open at `fd`. */
  enterNetwork(fd: number): void {
    this.#threads.run('entering the network of the pod', [enterNetworkCall(fd)]);
  }

  /**
   * Confines this process. What it still has is checked afterwards, thread by thread. CAP_NET_BIND_SERVICE stays on the
   * calling thread, the first one, until `dropListening`. `worker` has to stay readable. Throws `failed-precondition`
   * if it does not, `internal` when a thread kept more than it should.
   */
  apply(security: EngineSecurity, paths: GrantedPaths, worker = findInstallation().worker): void {
    for (const limit of security.limits) setResourceLimit(limit);
    const ruleset =
      this.#landlock === 0
        ? undefined
        : fileRuleset(
            this.#landlock,
            [findInstallation().directory, ...readByNode, ...paths.readable],
            ['/dev/null', ...paths.writable],
          );
    try {
      const restrict = ruleset === undefined ? [] : [ruleset.call];
      this.#threads.run(
        'giving up rights',
        [...identityCalls(security), ...restrict],
        [...identityCalls(security, [listening]), ...restrict],
      );
    } finally {
      ruleset?.close();
    }
    installSeccompFilter(this.#filter);
    this.#security = security;
    checkReadable(worker, security.uid);
    checkThreads(security, [listening]);
  }

  /** Gives up the right to listen on a low port, once there is nothing left to listen on. */
  dropListening(): void {
    if (this.#security === undefined) return;
    this.#threads.run('giving up listening', capabilitySet(this.#security.capabilities));
    checkThreads(this.#security, []);
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
function checkThreads(
  { uid, gid, groups, capabilities: kept }: EngineSecurity,
  onMain: readonly number[],
): void {
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
      throw new ShimError(
        'internal',
        `thread ${thread} of the engine has ${field} ${found} where its container has ${value}`,
      );
    }
  }
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
