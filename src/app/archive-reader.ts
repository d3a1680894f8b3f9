import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { ShimError } from '../error.ts';

/**
 * Archives of assets (`tar+gzip`) read as a stream. Only the contents of regular files come out; names are for
 * messages, since files are found by their digest. Long-name and pax headers, which a general reader has to hold in
 * memory at whatever length they state, are passed over unread (threats.md row 17).
 */

export type ArchiveLimits = {
  /** Most bytes after decompression, headers and padding included. Default {@link defaultMaxArchiveBytes}. */
  readonly maxBytes?: number;
  /** Most entries of any type. Default 100,000. */
  readonly maxEntries?: number;
  /** Most decompressed bytes for each compressed one, once `ratioFloorBytes` have come out. Default 200. */
  readonly maxRatio?: number;
  /** Decompressed bytes below which the ratio does not count, as small repetitive archives are fine. Default 16 MiB. */
  readonly ratioFloorBytes?: number;
};

/** A regular file of an archive. */
export type ArchiveFile = {
  /** As stored, shortened when the archive used a long-name header; for messages only. */
  readonly name: string;
  readonly size: number;
  readonly content: AsyncIterable<Uint8Array>;
};

/** 2 GiB. */
export const defaultMaxArchiveBytes = 2 * 1024 ** 3;

const blockBytes = 512;

/** Header type characters → what to do with the entry (POSIX pax, GNU tar). */
const entryKinds: ReadonlyMap<string, 'file' | 'skip'> = new Map([
  ['0', 'file'],
  ['\0', 'file'],
  ['7', 'file'],
  ['5', 'skip'],
  ['x', 'skip'],
  ['g', 'skip'],
  ['L', 'skip'],
  ['K', 'skip'],
]);

const entryNames: ReadonlyMap<string, string> = new Map([
  ['1', 'a hard link'],
  ['2', 'a symbolic link'],
  ['3', 'a character device'],
  ['4', 'a block device'],
  ['6', 'a fifo'],
  ['S', 'a sparse file'],
]);

function broken(why: string, cause?: unknown): ShimError {
  return new ShimError(
    'invalid-image',
    `asset archive ${why}: push the app again`,
    cause === undefined ? {} : { cause },
  );
}

function tooBig(why: string): ShimError {
  return new ShimError('resource-exhausted', `asset archive ${why}: put fewer or smaller files into the app`);
}

/**
 * Calls `onFile` for each regular file, one after the other; what it leaves unread of the content is passed over.
 * Gives the number of decompressed bytes.
 * Throws `invalid-image` for broken data and for entries other than files and folders, `resource-exhausted` at a limit.
 */
export async function readArchive(
  compressed: AsyncIterable<Uint8Array>,
  onFile: (file: ArchiveFile) => Promise<void>,
  limits: ArchiveLimits = {},
): Promise<number> {
  const gunzip = createGunzip();
  let compressedBytes = 0;
  let total = 0;
  const count = (bytes: number): number => {
    total += bytes;
    return total;
  };
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of compressed) {
      compressedBytes += chunk.byteLength;
      yield chunk;
    }
  };
  try {
    await pipeline(
      Readable.from(counted(), { objectMode: false }),
      gunzip,
      (chunks: AsyncIterable<Uint8Array>) =>
        readEntries(
          limitBytes(chunks, count, () => compressedBytes, limits),
          onFile,
          limits.maxEntries ?? 100_000,
        ),
    );
    return total;
  } catch (error) {
    if (error instanceof ShimError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    throw code.startsWith('Z_') ? broken('is not gzip data', error) : ShimError.from(error, 'unavailable');
  }
}

async function* limitBytes(
  chunks: AsyncIterable<Uint8Array>,
  count: (bytes: number) => number,
  compressedBytes: () => number,
  limits: ArchiveLimits,
): AsyncGenerator<Uint8Array, void> {
  const { maxBytes = defaultMaxArchiveBytes, maxRatio = 200, ratioFloorBytes = 16 * 1024 * 1024 } = limits;
  for await (const chunk of chunks) {
    const total = count(chunk.byteLength);
    if (total > maxBytes) throw tooBig(`holds more than ${maxBytes} bytes`);
    if (total > ratioFloorBytes && total > compressedBytes() * maxRatio) {
      throw tooBig(`grows more than ${maxRatio} times when unpacked`);
    }
    yield chunk;
  }
}

async function readEntries(
  chunks: AsyncIterable<Uint8Array>,
  onFile: (file: ArchiveFile) => Promise<void>,
  maxEntries: number,
): Promise<void> {
  const reader = new ChunkReader(chunks);
  for (let entries = 0; ; entries += 1) {
    const header = await reader.block();
    if (header === undefined || header.every((byte) => byte === 0)) break;
    if (entries >= maxEntries) throw tooBig(`has more than ${maxEntries} entries`);
    const { name, type, size } = parseHeader(header);
    const padding = (blockBytes - (size % blockBytes)) % blockBytes;
    const kind = entryKinds.get(type);
    if (kind === undefined) {
      const what = entryNames.get(type) ?? `an entry of the unknown type ${JSON.stringify(type)}`;
      throw broken(`holds ${what}, ${JSON.stringify(name)}, and only files and folders are taken`);
    }
    const content = reader.take(size);
    if (kind === 'file') await onFile({ name, size, content });
    await drain(content);
    await drain(reader.take(padding));
  }
  // What follows the end mark is read, so that limits and checksums see all of the data.
  await drain(reader.rest());
}

async function drain(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of chunks) {
    // passed over
  }
}

function parseHeader(header: Buffer): { name: string; type: string; size: number } {
  const stated = parseOctal(header.subarray(148, 156));
  let sum = 8 * 0x20;
  for (const [i, byte] of header.entries()) if (i < 148 || i >= 156) sum += byte;
  if (stated !== sum) throw broken('has a header with a wrong checksum');
  const size = parseSize(header.subarray(124, 136));
  const end = header.indexOf(0);
  const name = header.toString('utf8', 0, end < 0 || end > 100 ? 100 : end);
  return { name, type: String.fromCharCode(header[156] ?? 0), size };
}

function parseOctal(field: Buffer): number {
  const text = field
    .toString('latin1')
    .replace(/[\0 ]+$/, '')
    .trimStart();
  if (text !== '' && !/^[0-7]+$/.test(text)) throw broken('has a header with a number that is not octal');
  return text === '' ? 0 : Number.parseInt(text, 8);
}

/** Octal, or GNU's base 256 with the top bit set. */
function parseSize(field: Buffer): number {
  if (((field[0] ?? 0) & 0x80) === 0) return parseOctal(field);
  const value = field.readBigUInt64BE(4);
  const high = field.readUInt32BE(0) & 0x7fffffff;
  if (high !== 0 || value > BigInt(Number.MAX_SAFE_INTEGER))
    throw broken('has an entry of an impossible size');
  return Number(value);
}

/** Cuts a stream of chunks into the lengths asked for, holding one chunk at a time. */
class ChunkReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#iterator = chunks[Symbol.asyncIterator]();
  }

  /** Up to `most` bytes; nothing at the end of the stream. */
  async #some(most: number): Promise<Uint8Array | undefined> {
    while (this.#chunk.byteLength === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return undefined;
      this.#chunk = next.value;
    }
    const part = this.#chunk.subarray(0, most);
    this.#chunk = this.#chunk.subarray(part.byteLength);
    return part;
  }

  /** One block, or nothing when the stream ends before it. */
  async block(): Promise<Buffer | undefined> {
    const block = Buffer.alloc(blockBytes);
    let filled = 0;
    while (filled < blockBytes) {
      const part = await this.#some(blockBytes - filled);
      if (part === undefined && filled === 0) return undefined;
      if (part === undefined) throw broken('ends in the middle of a header');
      block.set(part, filled);
      filled += part.byteLength;
    }
    return block;
  }

  /** Exactly `length` bytes, in pieces; what one reader leaves, the next iteration of the same value goes on with. */
  take(length: number): AsyncIterable<Uint8Array> {
    let left = length;
    const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
      if (left === 0) return { done: true, value: undefined };
      const part = await this.#some(left);
      if (part === undefined) throw broken('ends in the middle of a file');
      left -= part.byteLength;
      return { done: false, value: part };
    };
    return { [Symbol.asyncIterator]: () => ({ next }) };
  }

  async *rest(): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      const part = await this.#some(Number.MAX_SAFE_INTEGER);
      if (part === undefined) return;
      yield part;
    }
  }
}
