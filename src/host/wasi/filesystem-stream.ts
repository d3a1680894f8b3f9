import { readSync, writeSync } from 'node:fs';
import { fail } from './filesystem-error.ts';
import type { OpenFile } from './filesystem-open-file.ts';
import type { ByteSink, ByteSource, Readiness } from './io.ts';

/**
 * File contents. Reads and writes are synchronous: at this size they cost microseconds on cached pages, less than a
 * trip through the thread pool, and a slow disk holds up only this worker.
 */

/** Bytes that one read or write of a file moves, whatever the guest asks for. */
export const maxTransferBytes = 64 * 1024;

/** The largest file offset, in bytes: what a JavaScript number and the kernel both hold exactly. */
export const maxFileOffset = Number.MAX_SAFE_INTEGER - maxTransferBytes;

const alwaysReady: Readiness = { isReady: () => true, subscribe: () => () => {} };

/** A WIT offset or size as a number. Throws `invalid` above `maxFileOffset`. */
export function fileOffset(offset: bigint): number {
  return offset > BigInt(maxFileOffset) ? fail('invalid') : Number(offset);
}

/** Reads up to `max` bytes (at most `maxTransferBytes`) at `offset`; fewer only at the end of the file. */
export function readAt(fd: number, offset: number, max: number): Uint8Array {
  const buffer = Buffer.allocUnsafeSlow(Math.min(max, maxTransferBytes));
  let filled = 0;
  while (filled < buffer.length) {
    const count = readSync(fd, buffer, filled, buffer.length - filled, offset + filled);
    if (count === 0) break;
    filled += count;
  }
  return buffer.subarray(0, filled);
}

/** The bytes of a file from `offset` to its end. Takes its own hold of the file. */
export function fileSource(file: OpenFile, offset: number): ByteSource {
  const close = file.hold();
  let position = offset;
  return {
    readiness: alwaysReady,
    read(max) {
      if (max === 0) return new Uint8Array(0);
      if (position > maxFileOffset) return 'end';
      const bytes = readAt(file.fd, position, max);
      position += bytes.length;
      return bytes.length === 0 ? 'end' : bytes;
    },
    close,
  };
}

/** Writes from `offset` on, or always at the end of the file (which must then be open with O_APPEND). */
export function fileSink(file: OpenFile, offset: number | 'append'): ByteSink {
  const close = file.hold();
  let position = offset;
  return {
    readiness: alwaysReady,
    capacity: () => maxTransferBytes,
    write(bytes) {
      let written = 0;
      while (written < bytes.length) {
        const place = position === 'append' ? null : position;
        const count = writeSync(file.fd, bytes, written, bytes.length - written, place);
        written += count;
        if (position !== 'append') position += count;
      }
    },
    flush: () => {},
    isFlushed: () => true,
    close,
  };
}
