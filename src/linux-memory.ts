import { dlopen, getRawPointer, toArrayBuffer } from 'node:ffi';
import { ShimError } from './error.ts';
import { check } from './linux.ts';

/** The Linux calls for memory that Node lacks, by which instances share an image copy-on-write. As `linux.ts`. */

const { functions: libc } = dlopen(null, {
  fcntl: { arguments: ['int32', 'int32', 'int64'], return: 'int32' },
  madvise: { arguments: ['uint64', 'uint64', 'int32'], return: 'int32' },
  memfd_create: { arguments: ['string', 'uint32'], return: 'int32' },
  mmap: { arguments: ['uint64', 'uint64', 'int32', 'int32', 'int32', 'int64'], return: 'int64' },
  munmap: { arguments: ['uint64', 'uint64'], return: 'int32' },
  sysconf: { arguments: ['int32'], return: 'int64' },
});

/** Bytes of one page of this kernel. */
export const systemPageBytes = Number(libc.sysconf(30));

/** Where the bytes of a live memory begin in this process. */
export function addressOf(memory: ArrayBuffer): bigint {
  return getRawPointer(memory);
}

/** A file in memory without a name (memfd_create(2)), close-on-exec; `name` is for those who look into /proc. */
export function createMemoryFile(name: string): number {
  const [closeOnExec, allowSealing] = [1, 2];
  return check(libc.memfd_create(name, closeOnExec | allowSealing), 'making a file in memory');
}

/** From now on nobody can change the contents or the size of a file in memory, us included. */
export function sealMemoryFile(fd: number): void {
  const [addSeals, sealSeal, sealShrink, sealGrow, sealWrite] = [1033, 1, 2, 4, 8];
  const seals = BigInt(sealSeal | sealShrink | sealGrow | sealWrite);
  check(libc.fcntl(fd, addSeals, seals), `sealing descriptor ${fd}`);
}

/**
 * Has a range of memory read from a file, from `place` in it on; what is written there stays in the memory. `memory` is all of
 * a live memory of WebAssembly, `start` and `length` a range of it; they and `place` are whole pages. What was in the
 * range is gone. V8 keeps a memory at its address for as long as it lives, also when it grows.
 */
export function mapPrivately(
  memory: ArrayBuffer,
  start: number,
  length: number,
  fd: number,
  place: number,
): void {
  checkRange(memory, start, length);
  const [readWrite, privateFixed] = [0x1 | 0x2, 0x2 | 0x10];
  const address = getRawPointer(memory) + BigInt(start);
  const at = libc.mmap(address, BigInt(length), readWrite, privateFixed, fd, BigInt(place));
  check(at === -1n ? -1 : 0, `mapping descriptor ${fd} over ${length} bytes of memory`);
}

/**
 * The first `length` bytes of a file as they are in the kernel's memory, without a copy. Nothing may write to them: the
 * process would die. They are there until `unmapFile`.
 */
export function mapFile(fd: number, length: number): ArrayBuffer {
  const [read, private_] = [0x1, 0x2];
  const at = libc.mmap(0n, BigInt(length), read, private_, fd, 0n);
  check(at === -1n ? -1 : 0, `mapping ${length} bytes of descriptor ${fd}`);
  return toArrayBuffer(at, length, false);
}

/** Gives back what `mapFile` gave, which has no bytes from then on, nor have its views. */
export function unmapFile(mapped: ArrayBuffer): void {
  const [address, length] = [getRawPointer(mapped), BigInt(mapped.byteLength)];
  // First, so that no view can reach what is there no more.
  mapped.transfer(0);
  check(libc.munmap(address, length), `unmapping ${length} bytes`);
}

/**
 * Gives a range of memory back to the kernel (MADV_DONTNEED): it reads as the file that is mapped there, else as zeros.
 * `start` and `length` are whole pages.
 */
export function discardMemory(memory: ArrayBuffer, start: number, length: number): void {
  checkRange(memory, start, length);
  const dontNeed = 4;
  const address = getRawPointer(memory) + BigInt(start);
  check(libc.madvise(address, BigInt(length), dontNeed), `discarding ${length} bytes of memory`);
}

/**
 * Asks the kernel for huge pages under a large buffer that is about to be filled: 13 MB then take 7 page faults in place of
 * 3,400. Only a wish: where it is not granted nothing changes.
 */
export function preferHugePages(buffer: ArrayBuffer): void {
  const [hugePageBytes, hugePage] = [2n * 1024n * 1024n, 14];
  const begin = getRawPointer(buffer);
  const start = ((begin + hugePageBytes - 1n) / hugePageBytes) * hugePageBytes;
  const end = ((begin + BigInt(buffer.byteLength)) / hugePageBytes) * hugePageBytes;
  if (end > start) libc.madvise(start, end - start, hugePage);
}

function checkRange(memory: ArrayBuffer, start: number, length: number): void {
  if (start >= 0 && length > 0 && start + length <= memory.byteLength) return;
  throw new ShimError(
    'internal',
    `a range of ${length} bytes at ${start} is not in a memory of ${memory.byteLength} bytes`,
  );
}
