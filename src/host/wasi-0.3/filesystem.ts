import { ShimError } from '../../error.ts';
import type { InstanceScope, ScopeSource } from '../scope.ts';
import { createFilesystem, type FilesystemGrant } from '../wasi/filesystem.ts';
import type { DescriptorFlags } from '../wasi/filesystem-access.ts';
import type { Descriptor as Descriptor02, PathFlags } from '../wasi/filesystem-descriptor.ts';
import { errorCodeOf, type FilesystemErrorCode } from '../wasi/filesystem-error.ts';
import type { DescriptorStat, DescriptorType, MetadataHash } from '../wasi/filesystem-metadata.ts';
import type { OpenFlags } from '../wasi/filesystem-open.ts';
import type { NewTimestamp } from '../wasi/filesystem-times.ts';
import { type InputStream, type OutputStream, SourceFailure } from '../wasi/io.ts';
import {
  type ByteReader,
  chunkBytes,
  type GuestStream,
  guestReader,
  HostStream,
  type WitResult,
} from './guest-stream.ts';

/** wasi:filesystem/types 0.3 `error-code`: a variant where 0.2 has an enum. */
type ErrorCode = { readonly tag: string; readonly val?: undefined };
type FileResult = WitResult<undefined, ErrorCode>;
type Type = { readonly tag: string; readonly val?: undefined };
type Stat = Omit<DescriptorStat, 'type'> & { readonly type: Type };
type DirectoryEntry = { readonly type: Type; readonly name: string };

const ok: FileResult = { tag: 'ok', val: undefined };

function errorCode(code: FilesystemErrorCode): ErrorCode {
  return code === 'would-block' ? { tag: 'other', val: undefined } : { tag: code };
}

function descriptorType(type: DescriptorType): Type {
  return type === 'unknown' ? { tag: 'other', val: undefined } : { tag: type };
}

function stat03(stat: DescriptorStat): Stat {
  return { ...stat, type: descriptorType(stat.type) };
}

/** The code of what a function of 0.2 or one of its streams threw; anything else traps. */
function codeOf(thrown: unknown): ErrorCode {
  if (typeof thrown === 'string') return errorCode(thrown as FilesystemErrorCode);
  if (typeof thrown === 'object' && thrown !== null && 'val' in thrown && thrown.val instanceof SourceFailure)
    return errorCode(errorCodeOf(thrown.val.cause) ?? 'io');
  throw thrown;
}

function attempt<T>(operation: () => T): T {
  try {
    return operation();
  } catch (thrown) {
    throw codeOf(thrown);
  }
}

/** The codes 0.3 has for a path that ends in `.` or `..`, where 0.2 says `invalid`. */
function refuseDots(path: string, code: FilesystemErrorCode): void {
  let end = path.length;
  while (path[end - 1] === '/') end--;
  const last = path.slice(path.lastIndexOf('/', end - 1) + 1, end);
  if (last === '..') throw errorCode('not-permitted');
  if (last === '.') throw errorCode(code);
}

function isClosed(thrown: unknown): boolean {
  return typeof thrown === 'object' && thrown !== null && 'tag' in thrown && thrown.tag === 'closed';
}

/** Reads a stream of 0.2; file contents are always there. */
function fileReader(input: InputStream): ByteReader {
  return {
    async read(count) {
      try {
        return input.read(BigInt(count));
      } catch (thrown) {
        if (isClosed(thrown)) return undefined;
        throw thrown;
      }
    },
    close: () => input[Symbol.dispose](),
  };
}

/** wasi:filesystem/types 0.3 `descriptor` over one of 0.2, which does the work and keeps the grant. */
class Descriptor {
  readonly #scope: InstanceScope;
  readonly #inner: Descriptor02;
  /** What a directory was opened for; undefined for a preopen and for files. */
  readonly #asked: DescriptorFlags | undefined;

  constructor(scope: InstanceScope, inner: Descriptor02, asked?: DescriptorFlags) {
    this.#scope = scope;
    this.#inner = inner;
    this.#asked = inner.getType() === 'directory' ? asked : undefined;
  }

  readViaStream(offset: bigint): readonly [AsyncIterable<Uint8Array>, Promise<FileResult>] {
    const { promise, resolve } = Promise.withResolvers<FileResult>();
    let input: InputStream;
    try {
      input = this.#inner.readViaStream(offset);
    } catch (thrown) {
      resolve({ tag: 'err', val: codeOf(thrown) });
      return [nothing(), promise];
    }
    const stream = new HostStream(this.#scope, fileReader(input), (how) =>
      resolve(how === 'ended' || how === 'dropped' ? ok : { tag: 'err', val: codeOf(how.failure) }),
    );
    return [stream, promise];
  }

  writeViaStream(data: GuestStream, offset: bigint): Promise<FileResult> {
    return writeAll(this.#scope, data, () => this.#inner.writeViaStream(offset));
  }

  appendViaStream(data: GuestStream): Promise<FileResult> {
    return writeAll(this.#scope, data, () => this.#inner.appendViaStream());
  }

  async advise(): Promise<void> {
    attempt(() => this.#inner.advise());
  }

  async syncData(): Promise<void> {
    attempt(() => this.#inner.syncData());
  }

  async getFlags(): Promise<DescriptorFlags> {
    const flags = this.#inner.getFlags();
    if (this.#asked === undefined) return flags;
    return {
      ...flags,
      mutateDirectory: flags.mutateDirectory === true && this.#asked.mutateDirectory === true,
    };
  }

  async getType(): Promise<Type> {
    return descriptorType(this.#inner.getType());
  }

  async setSize(size: bigint): Promise<void> {
    attempt(() => this.#inner.setSize(size));
  }

  async setTimes(access: NewTimestamp, modification: NewTimestamp): Promise<void> {
    attempt(() => this.#inner.setTimes(access, modification));
  }

  readDirectory(): readonly [AsyncIterable<DirectoryEntry>, Promise<FileResult>] {
    const { promise, resolve } = Promise.withResolvers<FileResult>();
    const inner = this.#inner;
    async function* entries(): AsyncGenerator<DirectoryEntry, void, void> {
      try {
        const directory = inner.readDirectory();
        try {
          for (;;) {
            const entry = directory.readDirectoryEntry();
            if (entry === undefined) break;
            yield { type: descriptorType(entry.type), name: entry.name };
          }
        } finally {
          directory[Symbol.dispose]();
        }
        resolve(ok);
      } catch (thrown) {
        resolve({ tag: 'err', val: codeOf(thrown) });
      }
    }
    return [entries(), promise];
  }

  async sync(): Promise<void> {
    attempt(() => this.#inner.sync());
  }

  async createDirectoryAt(path: string): Promise<void> {
    refuseDots(path, 'exist');
    attempt(() => this.#inner.createDirectoryAt(path));
  }

  async stat(): Promise<Stat> {
    return attempt(() => stat03(this.#inner.stat()));
  }

  async statAt(flags: PathFlags, path: string): Promise<Stat> {
    return attempt(() => stat03(this.#inner.statAt(flags, path)));
  }

  async setTimesAt(
    flags: PathFlags,
    path: string,
    access: NewTimestamp,
    modification: NewTimestamp,
  ): Promise<void> {
    attempt(() => this.#inner.setTimesAt(flags, path, access, modification));
  }

  async linkAt(flags: PathFlags, oldPath: string, to: Descriptor, newPath: string): Promise<void> {
    refuseDots(oldPath, 'not-permitted');
    refuseDots(newPath, 'exist');
    attempt(() => this.#inner.linkAt(flags, oldPath, to.#inner, newPath));
  }

  /** Creating a file opens it for writing as well. */
  async openAt(
    pathFlags: PathFlags,
    path: string,
    open: OpenFlags,
    flags: DescriptorFlags,
  ): Promise<Descriptor> {
    const asked =
      open.create === true
        ? { ...flags, read: flags.read === true || flags.write !== true, write: true }
        : flags;
    return attempt(() => {
      const opened = this.#inner.openAt(pathFlags, path, open, asked);
      return new Descriptor(this.#scope, opened, asked);
    });
  }

  async readlinkAt(path: string): Promise<string> {
    return attempt(() => this.#inner.readlinkAt(path));
  }

  async removeDirectoryAt(path: string): Promise<void> {
    refuseDots(path, 'invalid');
    attempt(() => this.#inner.removeDirectoryAt(path));
  }

  async renameAt(oldPath: string, to: Descriptor, newPath: string): Promise<void> {
    attempt(() => this.#inner.renameAt(oldPath, to.#inner, newPath));
  }

  async symlinkAt(target: string, path: string): Promise<void> {
    attempt(() => this.#inner.symlinkAt(target, path));
  }

  async unlinkFileAt(path: string): Promise<void> {
    refuseDots(path, 'is-directory');
    attempt(() => this.#inner.unlinkFileAt(path));
  }

  async isSameObject(other: Descriptor): Promise<boolean> {
    return this.#inner.isSameObject(other.#inner);
  }

  async metadataHash(): Promise<MetadataHash> {
    return attempt(() => this.#inner.metadataHash());
  }

  async metadataHashAt(flags: PathFlags, path: string): Promise<MetadataHash> {
    return attempt(() => this.#inner.metadataHashAt(flags, path));
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
  }
}

async function* nothing(): AsyncGenerator<never, void, void> {}

async function writeAll(
  scope: InstanceScope,
  data: GuestStream,
  open: () => OutputStream,
): Promise<FileResult> {
  const reader = guestReader(scope, data);
  try {
    const output = open();
    try {
      for (;;) {
        const bytes = await reader.read(chunkBytes);
        if (bytes === undefined) return ok;
        await output.blockingWriteAndFlush(bytes);
      }
    } finally {
      output[Symbol.dispose]();
    }
  } catch (thrown) {
    return { tag: 'err', val: codeOf(thrown) };
  } finally {
    reader.close();
  }
}

type Preopens02 = { readonly getDirectories: () => readonly (readonly [Descriptor02, string])[] };

/** wasi:filesystem 0.3 of one instance: the same files under the same grant as in 0.2. */
export function createFilesystem03(grant: FilesystemGrant, source: ScopeSource): ReadonlyMap<string, object> {
  const preopens = createFilesystem(grant, source).get('wasi:filesystem/preopens') as Preopens02 | undefined;
  if (preopens === undefined) throw new ShimError('internal', 'wasi:filesystem 0.2 has no preopens');
  const getDirectories = (): readonly (readonly [Descriptor, string])[] =>
    preopens.getDirectories().map(([directory, path]) => [new Descriptor(source.scope, directory), path]);
  return new Map<string, object>([
    ['wasi:filesystem/types', { Descriptor }],
    ['wasi:filesystem/preopens', { getDirectories }],
  ]);
}
