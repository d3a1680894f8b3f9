import { dlopen, getInt32, getRawPointer } from 'node:ffi';
import { endianness } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { ShimError } from './error.ts';

/**
 * The Linux calls Node lacks, through `node:ffi`, and nothing else: the one place that knows the C library. Constants
 * are the kernel's and the same on x86-64 and arm64.
 */

const { functions: libc } = dlopen(null, {
  __errno_location: { arguments: [], return: 'pointer' },
  bind: { arguments: ['int32', 'buffer', 'uint32'], return: 'int32' },
  dup: { arguments: ['int32'], return: 'int32' },
  fcntl: { arguments: ['int32', 'int32', 'int64'], return: 'int32' },
  flock: { arguments: ['int32', 'int32'], return: 'int32' },
  fsetxattr: { arguments: ['int32', 'string', 'buffer', 'uint64', 'int32'], return: 'int32' },
  inet_pton: { arguments: ['int32', 'string', 'buffer'], return: 'int32' },
  getsockname: { arguments: ['int32', 'buffer', 'buffer'], return: 'int32' },
  ioctl: { arguments: ['int32', 'uint64', 'buffer'], return: 'int32' },
  listen: { arguments: ['int32', 'int32'], return: 'int32' },
  mkfifo: { arguments: ['string', 'uint32'], return: 'int32' },
  mount: { arguments: ['string', 'string', 'string', 'uint64', 'string'], return: 'int32' },
  setns: { arguments: ['int32', 'int32'], return: 'int32' },
  setsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'uint32'], return: 'int32' },
  recvmsg: { arguments: ['int32', 'buffer', 'int32'], return: 'int64' },
  sendmsg: { arguments: ['int32', 'buffer', 'int32'], return: 'int64' },
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  socketpair: { arguments: ['int32', 'int32', 'int32', 'buffer'], return: 'int32' },
  syscall: { arguments: ['int64', 'int64', 'string', 'buffer', 'uint64'], return: 'int64' },
  umount2: { arguments: ['string', 'int32'], return: 'int32' },
  unshare: { arguments: ['int32'], return: 'int32' },
});

const cloneNewNet = 0x40000000;

/** mount(2) flags by the option names that containerd and fstab use. */
const mountFlags = new Map<string, number>([
  ['ro', 0x1],
  ['nosuid', 0x2],
  ['nodev', 0x4],
  ['noexec', 0x8],
  ['sync', 0x10],
  ['remount', 0x20],
  ['dirsync', 0x80],
  ['noatime', 0x400],
  ['nodiratime', 0x800],
  ['bind', 0x1000],
  ['rbind', 0x5000],
  ['relatime', 0x200000],
  ['strictatime', 0x1000000],
]);

/** Option names that clear a flag or change nothing. */
const neutralMountOptions = new Set([
  'rw',
  'defaults',
  'suid',
  'dev',
  'exec',
  'async',
  'atime',
  'auto',
  'noauto',
]);

/** The last call's errno as a name, `ENOENT`. Valid only right after the failed call. */
function errnoName(): string {
  return getSystemErrorName(-getInt32(libc.__errno_location()));
}

/** Gives a result that is not negative; throws what the failed call's errno means, with `what` in front. */
export function check(result: number, what: string): number {
  if (result >= 0) return result;
  const errno = errnoName();
  const code =
    errno === 'EADDRINUSE'
      ? 'address-in-use'
      : errno === 'EACCES' || errno === 'EPERM'
        ? 'permission-denied'
        : 'internal';
  throw new ShimError(code, `${what} failed: ${errno}`);
}

/** Moves the calling thread into the network namespace open at `fd` (setns(2)). Threads made later inherit it. */
export function enterNetworkNamespace(fd: number): void {
  check(libc.setns(fd, cloneNewNet), `entering the network namespace of descriptor ${fd}`);
}

/** Gives the calling thread a new network namespace whose only interface is `lo`, up. */
export function newNetworkNamespace(): void {
  check(libc.unshare(cloneNewNet), 'making a network namespace');
  bringLoopbackUp();
}

/** `ip link set lo up` in the calling thread's network namespace. */
function bringLoopbackUp(): void {
  const [inet, datagram] = [2, 2];
  const [getInterfaceFlags, setInterfaceFlags] = [0x8913n, 0x8914n];
  const interfaceUp = 0x1;
  const socket = check(libc.socket(inet, datagram, 0), 'opening a socket');
  try {
    const request = Buffer.alloc(40);
    request.write('lo');
    check(libc.ioctl(socket, getInterfaceFlags, request), 'reading the flags of interface "lo"');
    request.writeInt16LE(request.readInt16LE(16) | interfaceUp, 16);
    check(libc.ioctl(socket, setInterfaceFlags, request), 'bringing interface "lo" up');
  } finally {
    closeFd(socket);
  }
}

/**
 * mount(2) with options as containerd gives them (flags and filesystem data mixed). A read-only bind takes the second
 * call it needs. Throws `internal` or `permission-denied`.
 */
export function mount(type: string, source: string, target: string, options: readonly string[]): void {
  let flags = 0;
  const data: string[] = [];
  for (const option of options) {
    const flag = mountFlags.get(option);
    if (flag !== undefined) flags |= flag;
    else if (!neutralMountOptions.has(option)) data.push(option);
  }
  const what = `mounting "${source}" on "${target}" (type "${type}")`;
  check(libc.mount(source, target, type, BigInt(flags), data.join(',')), what);
  const [bind, readOnly, remount] = [0x1000, 0x1, 0x20];
  if ((flags & bind) !== 0 && (flags & readOnly) !== 0) {
    check(libc.mount('', target, '', BigInt((flags & ~0x4000) | remount), ''), what);
  }
}

/** Unmounts lazily without following a symlink; a path that is not mounted is no error. */
export function unmount(target: string): void {
  const [detach, noFollow] = [2, 8];
  if (libc.umount2(target, detach | noFollow) === 0) return;
  const errno = errnoName();
  if (errno === 'EINVAL' || errno === 'ENOENT') return;
  throw new ShimError('internal', `unmounting "${target}" failed: ${errno}`);
}

/** Makes a FIFO with the given permission bits, less the umask. Throws `internal` or `permission-denied`. */
export function makeFifo(path: string, mode: number): void {
  check(libc.mkfifo(path, mode), `making the FIFO "${path}"`);
}

/** Gives an open file the label of SELinux. Throws `permission-denied` or `internal`, for a label that the policy does not have too. */
export function labelFile(fd: number, label: string): void {
  const value = Buffer.from(`${label}\0`);
  const what = `giving descriptor ${fd} the label "${label}"`;
  check(libc.fsetxattr(fd, 'security.selinux', value, BigInt(value.length), 0), what);
}

/** Duplicates a descriptor with close-on-exec. */
export function duplicateFd(fd: number): number {
  const duplicateCloexec = 1030;
  return check(libc.fcntl(fd, duplicateCloexec, 0n), `duplicating descriptor ${fd}`);
}

/**
 * Waits, this thread with all it does, until the open file is locked by nobody else (flock(2)), and locks it. The lock
 * ends with the descriptor's close, or with the process.
 */
export function lockFile(fd: number): void {
  const exclusive = 2;
  check(libc.flock(fd, exclusive), `locking descriptor ${fd}`);
}

/** Closes a descriptor that Node does not know of. */
function closeFd(fd: number): void {
  libc.syscall(closeNumber, BigInt(fd), '', emptyBuffer, 0n);
}

const emptyBuffer = Buffer.alloc(8);
const closeNumber = process.arch === 'arm64' ? 57n : 3n;
const openat2Number = 437n;

/** Two connected stream sockets, of this machine and without a name (non-blocking, close-on-exec). */
export function socketPair(): readonly [number, number] {
  const [unix, stream, nonBlocking, closeOnExec] = [1, 1, 0o4000, 0o2000000];
  const pair = Buffer.alloc(8);
  check(libc.socketpair(unix, stream | nonBlocking | closeOnExec, 0, pair), 'making a pair of sockets');
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/**
 * Has the kernel send this process SIGIO whenever something comes on a socket, or its other end closes (fcntl(2), O_ASYNC).
 * Whatever came before is not told.
 */
export function signalWhenReadable(socket: number): void {
  const [setFlags, setOwner, asynchronous] = [4, 8, 0o20000n];
  const what = `asking for a signal when descriptor ${socket} can be read`;
  check(libc.fcntl(socket, setOwner, BigInt(process.pid)), what);
  check(libc.fcntl(socket, setFlags, asynchronous), what);
}

/**
 * Takes what has come on a socket, without waiting: bytes put into `target`; 0 at its end, undefined when nothing is there. By
 * recvmsg(2), as Node does: a pod's seccomp profile may allow an engine no more than what Node needs.
 */
export function receive(socket: number, target: Buffer): number | undefined {
  const doNotWait = 0x40;
  const message = Buffer.alloc(messageParts.data);
  pointToData(message, getRawPointer(target), target.length);
  const count = Number(libc.recvmsg(socket, message, doNotWait));
  if (count >= 0) return count;
  const errno = errnoName();
  if (errno === 'EAGAIN') return undefined;
  if (errno === 'ECONNRESET') return 0;
  throw new ShimError('internal', `reading from descriptor ${socket} failed: ${errno}`);
}

/** A listening socket of this machine under a name that the kernel chooses, which only who asks for it learns. */
export function listenUnnamed(): number {
  const [unix, stream, nonBlocking, closeOnExec] = [1, 1, 0o4000, 0o2000000];
  const what = 'listening on an unnamed socket';
  const fd = check(libc.socket(unix, stream | nonBlocking | closeOnExec, 0), what);
  try {
    check(libc.bind(fd, Buffer.from([unix, 0]), 2), what);
    check(libc.listen(fd, 1), what);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Bytes that wait in a pipe or FIFO (FIONREAD). */
export function bytesInPipe(fd: number): number {
  const count = Buffer.alloc(8);
  check(libc.ioctl(fd, 0x541bn, count), `asking how many bytes wait in descriptor ${fd}`);
  return count.readInt32LE(0);
}

/** What `openBeneath` may do; numbers are open(2) flags. */
export type OpenBeneath = {
  readonly flags: number;
  /** Permission bits of a file that is created. */
  readonly mode?: number;
};

/**
 * openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS: opens `path` below the directory `dirFd`, following
 * symlinks only as long as they stay beneath it. Returns the descriptor, or the errno's name.
 */
export function openBeneath(
  dirFd: number,
  path: string,
  how: OpenBeneath,
): number | { readonly errno: string } {
  const [resolveBeneath, resolveNoMagicLinks] = [0x08n, 0x02n];
  const closeOnExec = 0o2000000;
  const request = Buffer.alloc(24);
  request.writeBigUInt64LE(BigInt(how.flags | closeOnExec), 0);
  request.writeBigUInt64LE(BigInt(how.mode ?? 0), 8);
  request.writeBigUInt64LE(resolveBeneath | resolveNoMagicLinks, 16);
  const fd = Number(libc.syscall(openat2Number, BigInt(dirFd), path, request, 24n));
  return fd >= 0 ? fd : { errno: errnoName() };
}

/** An address to listen on: IPv4 or IPv6 literal and port (0 = any free one). */
export type ListenAddress = { readonly host: string; readonly port: number };

/**
 * A listening TCP socket in the calling thread's network namespace (SO_REUSEADDR, non-blocking, close-on-exec).
 * Throws `address-in-use` or `permission-denied` naming the address.
 */
export function listenTcp(
  address: ListenAddress,
  backlog = 4096,
): { readonly fd: number; readonly port: number } {
  const sockaddr = encodeSocketAddress(address);
  const v6 = sockaddr.length > 16;
  const [stream, nonBlocking, closeOnExec] = [1, 0o4000, 0o2000000];
  const what = `listening on "${v6 ? `[${address.host}]` : address.host}:${address.port}"`;
  const fd = check(libc.socket(v6 ? 10 : 2, stream | nonBlocking | closeOnExec, 0), what);
  try {
    const one = Buffer.from([1, 0, 0, 0]);
    const [solSocket, reuseAddress] = [1, 2];
    check(libc.setsockopt(fd, solSocket, reuseAddress, one, 4), what);
    check(libc.bind(fd, sockaddr, sockaddr.length), what);
    check(libc.listen(fd, backlog), what);
    const bound = Buffer.alloc(28);
    const length = Buffer.from([28, 0, 0, 0]);
    check(libc.getsockname(fd, bound, length), what);
    return { fd, port: bound.readUInt16BE(2) };
  } catch (error) {
    closeFd(fd);
    if (!(error instanceof ShimError) || error.code !== 'address-in-use') throw error;
    throw new ShimError(
      error.code,
      `${what} failed: the address is in use (EADDRINUSE); set SPIN_HTTP_LISTEN_ADDR to another one, or stop what listens there`,
      { cause: error },
    );
  }
}

/** No packet of an ordinary sender has it: a time to live begins with 64 or 128. */
const noTimeToLive = 255;

/**
 * Lets a listening socket take no new connection, while handshakes that have begun complete and wait to be accepted:
 * accepting them all and closing the socket then resets nobody. The kernel drops what asks for a connection, as of
 * senders that are too far away (IP_MINTTL); those clients try again a second later and are refused. What was under way
 * inherits that: `takePackets`. A filter of ours would need a right that no engine has on some kernels.
 */
export function refuseNewConnections(fd: number): void {
  setLeastTimeToLive(fd, noTimeToLive);
}

/** Has a connection that was accepted of a socket which refuses new ones take packets again; what was dropped comes again. */
export function takePackets(fd: number): void {
  setLeastTimeToLive(fd, 0);
}

function setLeastTimeToLive(fd: number, least: number): void {
  const [solIp, minTtl, solIpv6, minHopCount] = [0, 21, 41, 73];
  const [familyIpv4, familyIpv6] = [2, 10];
  const what = `setting the least time to live of packets of descriptor ${fd}`;
  const value = Buffer.alloc(4);
  value.writeInt32LE(least);
  const address = Buffer.alloc(28);
  check(libc.getsockname(fd, address, Buffer.from([28, 0, 0, 0])), what);
  const family = address.readUInt16LE();
  // Between processes of one machine there is no such time.
  if (family !== familyIpv4 && family !== familyIpv6) return;
  check(libc.setsockopt(fd, solIp, minTtl, value, 4), what);
  if (family === familyIpv6) check(libc.setsockopt(fd, solIpv6, minHopCount, value, 4), what);
}

/** Most descriptors that go in one message of `sendDescriptors`. */
const maxSentDescriptors = 8;

/** Where the parts of a message stand in its one buffer: msghdr, iovec, one byte of data, cmsghdr with descriptors. */
const messageParts = { vector: 56, data: 72, control: 80, descriptors: 96, end: 96 + 4 * maxSentDescriptors };

/** Sends copies of at most eight descriptors over a Unix socket (SCM_RIGHTS), one message. Throws when the other end takes none. */
export function sendDescriptors(socket: number, fds: readonly number[]): void {
  const [doNotWait, noSignal, solSocket, rights] = [0x40, 0x4000, 1, 1];
  const bytes = messageParts.descriptors - messageParts.control + 4 * fds.length;
  // The length in msghdr counts the padding to eight bytes, the one in cmsghdr does not.
  const message = descriptorMessage(8 * Math.ceil(bytes / 8));
  message.writeBigUInt64LE(BigInt(bytes), messageParts.control);
  message.writeInt32LE(solSocket, messageParts.control + 8);
  message.writeInt32LE(rights, messageParts.control + 12);
  fds.forEach((fd, index) => {
    message.writeInt32LE(fd, messageParts.descriptors + 4 * index);
  });
  check(Number(libc.sendmsg(socket, message, doNotWait | noSignal)), 'handing over descriptors');
}

/** Takes the next message of `sendDescriptors`; the descriptors are close-on-exec. Throws when there is none. */
export function receiveDescriptors(socket: number): readonly number[] {
  const [doNotWait, closeOnExec] = [0x40, 0x40000000];
  const message = descriptorMessage(messageParts.end - messageParts.control);
  check(Number(libc.recvmsg(socket, message, doNotWait | closeOnExec)), 'taking descriptors');
  const end = messageParts.control + Number(message.readBigUInt64LE(messageParts.control));
  const fds: number[] = [];
  for (let at = messageParts.descriptors; at < end; at += 4) fds.push(message.readInt32LE(at));
  return fds;
}

/** A struct msghdr and what it points to, which is one byte of data and `controlBytes` of control data. */
function descriptorMessage(controlBytes: number): Buffer {
  const message = Buffer.alloc(messageParts.end);
  const address = getRawPointer(message);
  pointToData(message, address + BigInt(messageParts.data), 1);
  message.writeBigUInt64LE(address + BigInt(messageParts.control), 32);
  message.writeBigUInt64LE(BigInt(controlBytes), 40);
  return message;
}

/** Fills in the parts of a struct msghdr, and the one struct iovec behind it, that say where the data is. */
function pointToData(message: Buffer, address: bigint, length: number): void {
  message.writeBigUInt64LE(getRawPointer(message) + BigInt(messageParts.vector), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(address, messageParts.vector);
  message.writeBigUInt64LE(BigInt(length), messageParts.vector + 8);
}

/** struct sock_fprog of encoded instructions, which have to live as long as it. */
export function bpfDescriptor(instructions: Uint8Array): Buffer {
  const descriptor = Buffer.alloc(16);
  descriptor.writeUInt16LE(instructions.length / 8, 0);
  descriptor.writeBigUInt64LE(getRawPointer(instructions), 8);
  return descriptor;
}

/** The bytes of an IPv4 (4) or IPv6 (16) address in its text form, without a zone; undefined for any other text. */
export function addressBytes(text: string): Uint8Array | undefined {
  const [inet, inet6] = [2, 10];
  if (!/^[\da-f.:]+$/i.test(text)) return undefined;
  for (const [family, length] of [
    [inet, 4],
    [inet6, 16],
  ] as const) {
    const bytes = Buffer.alloc(length);
    if (libc.inet_pton(family, text, bytes) === 1) return bytes;
  }
  return undefined;
}

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28 bytes). Throws `invalid-argument`. */
function encodeSocketAddress({ host, port }: ListenAddress): Buffer {
  const bytes = addressBytes(host);
  if (bytes === undefined) throw new ShimError('invalid-argument', `"${host}" is not an IP address`);
  const isV6 = bytes.length === 16;
  const sockaddr = Buffer.alloc(isV6 ? 28 : 16);
  sockaddr.writeUInt16LE(isV6 ? 10 : 2, 0);
  sockaddr.writeUInt16BE(port, 2);
  sockaddr.set(bytes, isV6 ? 8 : 4);
  return sockaddr;
}

if (endianness() !== 'LE')
  throw new ShimError('unsupported', 'this machine is big-endian: only x86-64 and arm64 are supported');
