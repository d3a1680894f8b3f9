import { dlopen, getRawPointer } from 'node:ffi';
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { ShimError } from './error.ts';
import { bpfDescriptor, check } from './linux.ts';

/**
 * How a process gives up rights, through `node:ffi`: ids, capabilities, Landlock, seccomp, resource limits. Most of these
 * belong to threads, so that each call here reaches every thread of the process.
 */

const { functions: libc } = dlopen(null, {
  prctl: { arguments: ['int32', 'uint64', 'uint64', 'uint64', 'uint64'], return: 'int32' },
  setrlimit: { arguments: ['int32', 'buffer'], return: 'int32' },
  syscall: { arguments: ['int64', 'int64', 'int64', 'int64', 'int64'], return: 'int64' },
});

const onArm = process.arch === 'arm64';
const numbers = {
  capset: onArm ? 91n : 126n,
  close: onArm ? 57n : 3n,
  openat: onArm ? 56n : 257n,
  prctl: onArm ? 167n : 157n,
  setgroups: onArm ? 159n : 116n,
  setresgid: onArm ? 149n : 119n,
  setresuid: onArm ? 147n : 117n,
  setns: onArm ? 268n : 308n,
  write: onArm ? 64n : 1n,
  seccomp: onArm ? 277n : 317n,
  landlockCreateRuleset: 444n,
  landlockAddRule: 445n,
  landlockRestrictSelf: 446n,
} as const;

/** Options of prctl(2). */
const options = {
  setKeepCaps: 8,
  readBounding: 23,
  dropBounding: 24,
  setNoNewPrivileges: 38,
  ambient: 47,
} as const;

/** Capabilities by number (capabilities(7)); only those that are spoken of here. */
export const capabilities = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_SETPCAP: 8,
  CAP_NET_BIND_SERVICE: 10,
} as const;

/** Those that bear on files: all that a container's engine may keep. */
export const fileCapabilities = [
  capabilities.CAP_CHOWN,
  capabilities.CAP_DAC_OVERRIDE,
  capabilities.CAP_DAC_READ_SEARCH,
  capabilities.CAP_FOWNER,
  capabilities.CAP_FSETID,
] as const;

/** One system call of `EveryThread`: number and arguments; a Buffer stands for its address. */
type Call = readonly [number: bigint, ...args: (bigint | Buffer)[]];

/** Rounds in which threads that were made meanwhile are looked for. */
const maxRounds = 20;

/** Makes system calls on every thread of this process, those that come into being meanwhile included. */
export class EveryThread {
  readonly #library: {
    readonly others: (threads: Buffer, threadCount: number, list: Buffer, count: number) => number;
    readonly own: (list: Buffer, count: number) => number;
  };

  /** `library`: path of `thread-calls.so`. Throws `failed-precondition` when it cannot be loaded. */
  constructor(library: string) {
    try {
      const { functions } = dlopen(library, {
        thread_calls: { arguments: ['buffer', 'int32', 'buffer', 'int32'], return: 'int32' },
        own_calls: { arguments: ['buffer', 'int32'], return: 'int32' },
      });
      this.#library = { others: functions.thread_calls, own: functions.own_calls };
    } catch (cause) {
      throw new ShimError(
        'failed-precondition',
        `"${library}" cannot be loaded, without which no container gives up its rights: install this version whole`,
        { cause },
      );
    }
  }

  /**
   * Makes the calls of `list` on every thread but this process's first one, which has to be the caller, and last on that one
   * those of `onFirst`. Throws `internal` naming `what`, the thread and the errno if a call fails on one.
   */
  run(what: string, list: readonly Call[], onFirst: readonly Call[] = list): void {
    const encoded = encodeCalls(list);
    const done = new Set([String(process.pid)]);
    for (let round = 0; ; round += 1) {
      const fresh = readdirSync('/proc/self/task').filter((thread) => !done.has(thread));
      if (fresh.length === 0) break;
      if (round === maxRounds)
        throw new ShimError('internal', `${what} did not end: threads come faster than they are told`);
      this.#runOn(what, fresh.map(Number), encoded, list.length);
      for (const thread of fresh) done.add(thread);
    }
    this.runOnFirst(what, onFirst);
  }

  /** Makes the calls on this process's first thread alone, which has to be the caller. Throws as `run` does. */
  runOnFirst(what: string, list: readonly Call[]): void {
    const errno = this.#library.own(encodeCalls(list), list.length);
    if (errno !== 0) throw new ShimError('internal', `${what} failed with errno ${errno}`);
  }

  #runOn(what: string, threads: readonly number[], list: Buffer, count: number): void {
    const gone = 3;
    const table = Buffer.alloc(8 * threads.length);
    threads.forEach((thread, index) => void table.writeInt32LE(thread, 8 * index));
    check(-this.#library.others(table, threads.length, list, count), what);
    threads.forEach((thread, index) => {
      const errno = table.readInt32LE(8 * index + 4);
      if (errno !== 0 && errno !== gone)
        throw new ShimError('internal', `${what} failed on thread ${thread} with errno ${errno}`);
    });
  }
}

/** The array that `thread-calls.c` takes: number and five arguments each. */
function encodeCalls(list: readonly Call[]): Buffer {
  const callBytes = 48;
  const encoded = Buffer.alloc(callBytes * list.length);
  list.forEach((call, index) => {
    call.forEach((value, place) => {
      const word = typeof value === 'bigint' ? value : getRawPointer(value);
      encoded.writeBigInt64LE(BigInt.asIntN(64, word), callBytes * index + 8 * place);
    });
  });
  return encoded;
}

/** The call by which a thread enters the network namespace open at `fd`. */
export function enterNetworkCall(fd: number): Call {
  const cloneNewNet = 0x40000000n;
  return [numbers.setns, BigInt(fd), cloneNewNet];
}

/** Stands in a call for the descriptor that the thread's last openat has given. */
const opened = -(2n ** 63n);

/**
 * The calls by which a thread takes an AppArmor profile: `open` while it is root's, `take` when it is not any more. Only a
 * thread itself may do so, through a file of its own in /proc.
 */
export function appArmorCalls(profile: string): {
  readonly open: readonly Call[];
  readonly take: readonly Call[];
} {
  const current = '/proc/thread-self/attr/current';
  const path = '/proc/thread-self/attr/apparmor/current';
  const [fromHere, writeOnly, closeOnExec] = [-100n, 1n, 0o2000000n];
  const name = Buffer.from(`${existsSync(path) ? path : current}\0`);
  const order = Buffer.from(`changeprofile ${profile}`);
  return {
    open: [[numbers.openat, fromHere, name, writeOnly | closeOnExec]],
    take: [
      [numbers.write, opened, order, BigInt(order.length)],
      [numbers.close, opened],
    ],
  };
}

function prctl(option: number, ...args: readonly (bigint | number)[]): Call {
  return [numbers.prctl, BigInt(option), ...args.map(BigInt)];
}

/** PR_SET_NO_NEW_PRIVS for the calling thread and those it makes. */
export function setNoNewPrivileges(): void {
  check(libc.prctl(options.setNoNewPrivileges, 1n, 0n, 0n, 0n), 'setting no_new_privs');
}

/** What a thread is to be. */
export type ThreadIdentity = {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** Capabilities it keeps, by number; the bounding set is cut to them too. */
  readonly capabilities: readonly number[];
};

/**
 * The calls by which a thread sets no_new_privs, takes the ids, and keeps of all its sets of capabilities those given alone,
 * permitted and effective; `extra` stay as well, outside of the bounding set. Needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
 */
export function identityCalls(
  { uid, gid, groups, capabilities: kept }: ThreadIdentity,
  extra: readonly number[] = [],
): readonly Call[] {
  const clearAmbient = 4;
  const list = Buffer.alloc(4 * Math.max(1, groups.length));
  groups.forEach((group, index) => void list.writeUInt32LE(group, 4 * index));
  const three = (id: number): [bigint, bigint, bigint] => [BigInt(id), BigInt(id), BigInt(id)];
  return [
    prctl(options.setNoNewPrivileges, 1),
    prctl(options.ambient, clearAmbient, 0, 0, 0),
    ...boundingCalls(kept),
    // Permitted capabilities then survive the change of ids.
    prctl(options.setKeepCaps, 1),
    [numbers.setgroups, BigInt(groups.length), list],
    [numbers.setresgid, ...three(gid)],
    [numbers.setresuid, ...three(uid)],
    ...capabilitySet([...kept, ...extra]),
  ];
}

/** The calls by which a thread keeps of its bounding set no more than `kept`. Needs CAP_SETPCAP. */
export function boundingCalls(kept: readonly number[]): readonly Call[] {
  const calls: Call[] = [];
  for (let capability = 0; ; capability += 1) {
    const has = libc.prctl(options.readBounding, BigInt(capability), 0n, 0n, 0n);
    if (has < 0) return calls;
    if (has === 1 && !kept.includes(capability)) calls.push(prctl(options.dropBounding, capability));
  }
}

/** The calls by which a thread has exactly these capabilities, permitted and effective; none inheritable. */
export function capabilitySet(kept: readonly number[]): readonly Call[] {
  const version3 = 0x20080522;
  const header = Buffer.alloc(8);
  header.writeUInt32LE(version3, 0);
  const data = Buffer.alloc(24);
  for (const capability of kept) {
    const word = 12 * (capability >> 5);
    const bit = (1 << (capability & 31)) >>> 0;
    for (const set of [0, 4]) data.writeUInt32LE((data.readUInt32LE(word + set) | bit) >>> 0, word + set);
  }
  return [[numbers.capset, header, data], prctl(options.setKeepCaps, 0)];
}

/** A limit of setrlimit(2): its number, soft and hard value. */
export type ResourceLimit = { readonly resource: number; readonly soft: bigint; readonly hard: bigint };

export function setResourceLimit({ resource, soft, hard }: ResourceLimit): void {
  const values = Buffer.alloc(16);
  values.writeBigUInt64LE(BigInt.asUintN(64, soft), 0);
  values.writeBigUInt64LE(BigInt.asUintN(64, hard), 8);
  check(libc.setrlimit(resource, values), `setting resource limit ${resource} to ${soft}/${hard}`);
}

/**
 * Installs a classic BPF program as seccomp filter of all threads at once, besides those they have: of their answers the
 * strictest counts. They must have no_new_privs. `isLogged`: the kernel's log tells of what it refuses. Throws `internal`.
 */
export function installSeccompFilter(program: Uint8Array, isLogged = false): void {
  const [setModeFilter, threadSync, log] = [1n, 1n, 2n];
  const descriptor = bpfDescriptor(program);
  const flags = isLogged ? threadSync | log : threadSync;
  const result = Number(libc.syscall(numbers.seccomp, setModeFilter, flags, getRawPointer(descriptor), 0n));
  check(result, 'installing the seccomp filter');
  if (result > 0) throw new ShimError('internal', `thread ${result} does not take the seccomp filter`);
}

/** Rights of Landlock on files (landlock(7)), as bits, and the version they came with. */
const fileRights = { writeFile: 1n << 1n, readFile: 1n << 2n, truncate: 1n << 14n } as const;
const readRights = fileRights.readFile | (1n << 3n);
/** Also: making and removing files, directories and symlinks; neither devices nor sockets nor FIFOs. */
const writeRights =
  readRights |
  fileRights.writeFile |
  fileRights.truncate |
  [4n, 5n, 7n, 8n, 12n, 13n].reduce((bits, bit) => bits | (1n << bit), 0n);

/** What the kernel knows of Landlock: 0 where there is none or it is switched off. */
export function landlockVersion(): number {
  const askVersion = 1n;
  return Math.max(0, Number(libc.syscall(numbers.landlockCreateRuleset, 0n, 0n, askVersion, 0n)));
}

/**
 * A Landlock ruleset that takes from a thread every file but those at and below `readable` and `writable`, and, from
 * version 7 on, abstract sockets and signals of others (before, a thread could not signal its own process either). A path that is
 * not there is left out. The call for `EveryThread` is valid until `close`.
 */
export function fileRuleset(
  version: number,
  readable: readonly string[],
  writable: readonly string[],
): { readonly call: Call; close(): void } {
  const handled = (1n << (version >= 5 ? 16n : version >= 3 ? 15n : version === 2 ? 14n : 13n)) - 1n;
  const attributes = Buffer.alloc(24);
  attributes.writeBigUInt64LE(handled, 0);
  attributes.writeBigUInt64LE(version >= 7 ? 3n : 0n, 16);
  const size = version >= 6 ? 24n : version >= 4 ? 16n : 8n;
  const ruleset = check(
    Number(libc.syscall(numbers.landlockCreateRuleset, getRawPointer(attributes), size, 0n, 0n)),
    'making a Landlock ruleset',
  );
  for (const path of readable) addPath(ruleset, path, readRights & handled);
  for (const path of writable) addPath(ruleset, path, writeRights & handled);
  return {
    call: [numbers.landlockRestrictSelf, BigInt(ruleset), 0n],
    close: () => closeSync(ruleset),
  };
}

function addPath(ruleset: number, path: string, rights: bigint): void {
  const pathOnly = 0o10000000;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const onFiles = fileRights.readFile | fileRights.writeFile | fileRights.truncate;
  const fd = openSync(path, constants.O_RDONLY | pathOnly);
  try {
    const rule = Buffer.alloc(12);
    rule.writeBigUInt64LE(stat.isDirectory() ? rights : rights & onFiles, 0);
    rule.writeInt32LE(fd, 8);
    const beneath = 1n;
    const result = libc.syscall(numbers.landlockAddRule, BigInt(ruleset), beneath, getRawPointer(rule), 0n);
    check(Number(result), `granting "${path}"`);
  } finally {
    closeSync(fd);
  }
}

/** The rights of one thread as /proc/…/status shows them. */
export type ThreadRights = { readonly thread: string; readonly fields: ReadonlyMap<string, string> };

/** The rights of every thread of this process. */
export function rightsOfThreads(): readonly ThreadRights[] {
  return readdirSync('/proc/self/task').flatMap((thread) => {
    let status: string;
    try {
      status = readFileSync(`/proc/self/task/${thread}/status`, 'utf8');
    } catch {
      // It has ended.
      return [];
    }
    return [{ thread, fields: new Map(status.split('\n').map(fieldOf)) }];
  });
}

function fieldOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(':');
  return [
    line.slice(0, colon),
    line
      .slice(colon + 1)
      .trim()
      .replaceAll('\t', ' '),
  ];
}
