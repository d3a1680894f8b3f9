import { isUtf8 } from 'node:buffer';
import {
  type BigIntStats,
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import type { InstanceScope } from '../scope.ts';
import { type Access, can, type DescriptorFlags, type Right } from './filesystem-access.ts';
import { DirectoryEntryStream } from './filesystem-directory-stream.ts';
import { attempt, fail } from './filesystem-error.ts';
import {
  type DescriptorStat,
  type DescriptorType,
  descriptorStat,
  type MetadataHash,
  metadataHash,
} from './filesystem-metadata.ts';
import { type OpenFlags, type OpenRequest, openRequested, wouldChange } from './filesystem-open.ts';
import type { OpenFile, OpenFileQuota } from './filesystem-open-file.ts';
import { atParent, placeOf, type SplitPath, splitPath, staysWithin, withPath } from './filesystem-path.ts';
import type { Preopen } from './filesystem-preopens.ts';
import { fileOffset, fileSink, fileSource, maxTransferBytes, readAt } from './filesystem-stream.ts';
import { type NewTimestamp, setTimes } from './filesystem-times.ts';
import { type ByteSink, InputStream, OutputStream } from './io.ts';

/** wasi:filesystem/types `path-flags`. */
export type PathFlags = { readonly symlinkFollow?: boolean };

/**
 * wasi:filesystem/types `descriptor`: an open regular file, or a directory held by O_PATH. Functions throw the WIT
 * `error-code`. Names in paths are resolved by the kernel beneath the directory; what changes a directory goes through
 * the pinned parent and the final name, which is never followed.
 */
export class Descriptor {
  readonly #scope: InstanceScope;
  readonly #quota: OpenFileQuota;
  readonly #file: OpenFile;
  readonly #letGo: () => void;
  readonly #access: Access;

  private constructor(scope: InstanceScope, quota: OpenFileQuota, file: OpenFile, access: Access) {
    this.#scope = scope;
    this.#quota = quota;
    this.#file = file;
    this.#letGo = file.hold();
    this.#access = access;
    try {
      scope.adopt(this);
    } catch (error) {
      this.#letGo();
      throw error;
    }
  }

  /** A new descriptor of a preopened directory; dropping it leaves the preopen open. */
  static ofPreopen(scope: InstanceScope, quota: OpenFileQuota, preopen: Preopen): Descriptor {
    return new Descriptor(scope, quota, preopen.directory, {
      kind: 'directory',
      flags: { read: true, mutateDirectory: preopen.writable },
      writable: preopen.writable,
    });
  }

  readViaStream(offset: bigint): InputStream {
    this.#demand('read-file');
    const source = fileSource(this.#file, fileOffset(offset));
    return this.#closingOnFailure(source, () => new InputStream(this.#scope, source));
  }

  writeViaStream(offset: bigint): OutputStream {
    this.#demand('write-file');
    return this.#outputStream(fileSink(this.#file, fileOffset(offset)));
  }

  appendViaStream(): OutputStream {
    this.#demand('write-file');
    const flags = constants.O_WRONLY | constants.O_APPEND;
    const { file } = this.#quota.open(() => ({
      fd: attempt(() => openSync(placeOf(this.#file.fd), flags)),
    }));
    return this.#outputStream(fileSink(file, 'append'));
  }

  /** Advice only: the kernel's own read-ahead is left to decide. */
  advise(): void {
    if (this.#access.kind !== 'file') fail('bad-descriptor');
  }

  syncData(): void {
    this.#sync(fdatasyncSync);
  }

  sync(): void {
    this.#sync(fsyncSync);
  }

  getFlags(): DescriptorFlags {
    return this.#access.flags;
  }

  getType(): DescriptorType {
    return this.#access.kind === 'directory' ? 'directory' : 'regular-file';
  }

  setSize(size: bigint): void {
    this.#demand('write-file');
    const length = fileOffset(size);
    attempt(() => ftruncateSync(this.#file.fd, length));
  }

  setTimes(access: NewTimestamp, modification: NewTimestamp): void {
    this.#demand('change-metadata');
    attempt(() => setTimes(this.#file.fd, access, modification));
  }

  /** Reads at most `maxTransferBytes`; the flag says whether the end of the file was reached. */
  read(length: bigint, offset: bigint): readonly [Uint8Array, boolean] {
    this.#demand('read-file');
    const wanted = length > BigInt(maxTransferBytes) ? maxTransferBytes : Number(length);
    const position = fileOffset(offset);
    const bytes = attempt(() => readAt(this.#file.fd, position, wanted));
    return [bytes, bytes.length < wanted];
  }

  /** Writes at most `maxTransferBytes`; returns how many bytes were written. */
  write(buffer: Uint8Array, offset: bigint): bigint {
    this.#demand('write-file');
    const length = Math.min(buffer.length, maxTransferBytes);
    const position = fileOffset(offset);
    return BigInt(attempt(() => writeSync(this.#file.fd, buffer, 0, length, position)));
  }

  readDirectory(): DirectoryEntryStream {
    this.#demand('look-up');
    return new DirectoryEntryStream(this.#scope, this.#quota, this.#file.fd);
  }

  createDirectoryAt(path: string): void {
    this.#demand('change-directory');
    this.#atParent(splitPath(path), (place) => mkdirSync(place));
  }

  stat(): DescriptorStat {
    return descriptorStat(this.#stats());
  }

  statAt(flags: PathFlags, path: string): DescriptorStat {
    return descriptorStat(this.#statsAt(flags, path));
  }

  setTimesAt(flags: PathFlags, path: string, access: NewTimestamp, modification: NewTimestamp): void {
    this.#demand('change-directory');
    withPath(this.#file.fd, path, flags.symlinkFollow === true, (fd) => setTimes(fd, access, modification));
  }

  /** A hard link; needs the right to change both directories. A symlink is linked itself, never followed. */
  linkAt(oldFlags: PathFlags, oldPath: string, newDescriptor: Descriptor, newPath: string): void {
    this.#demand('change-directory');
    newDescriptor.#demand('change-directory');
    if (oldFlags.symlinkFollow) fail('invalid');
    const oldSplit = splitPath(oldPath);
    const newSplit = splitPath(newPath);
    // With a slash behind it link(2) would follow the old name.
    if (oldSplit.trailingSlash) fail('not-directory');
    if (newSplit.trailingSlash) fail('no-entry');
    this.#atParent(oldSplit, (oldPlace) =>
      newDescriptor.#atParent(newSplit, (newPlace) => linkSync(oldPlace, newPlace)),
    );
  }

  openAt(pathFlags: PathFlags, path: string, open: OpenFlags, flags: DescriptorFlags): Descriptor {
    this.#demand('look-up');
    const request: OpenRequest = { path, followFinal: pathFlags.symlinkFollow === true, open, flags };
    if (wouldChange(request)) this.#demand('change-directory');
    const { file, opened } = this.#quota.open(() => openRequested(this.#file.fd, request));
    const fileFlags = { ...flags, read: flags.read === true || flags.write !== true, mutateDirectory: false };
    return new Descriptor(this.#scope, this.#quota, file, {
      kind: opened.kind,
      flags: opened.kind === 'file' ? fileFlags : { read: true, mutateDirectory: this.#access.writable },
      writable: this.#access.writable,
    });
  }

  /** The target as it stands; one that is absolute is not shown (`not-permitted`). */
  readlinkAt(path: string): string {
    this.#demand('look-up');
    const split = splitPath(path);
    if (split.trailingSlash) fail('invalid');
    const target = this.#atParent(split, (place) => readlinkSync(place, 'buffer'));
    if (!isUtf8(target)) fail('illegal-byte-sequence');
    const text = target.toString();
    return text.startsWith('/') ? fail('not-permitted') : text;
  }

  removeDirectoryAt(path: string): void {
    this.#demand('change-directory');
    this.#atParent(splitPath(path), (place) => rmdirSync(place));
  }

  renameAt(oldPath: string, newDescriptor: Descriptor, newPath: string): void {
    this.#demand('change-directory');
    newDescriptor.#demand('change-directory');
    const oldSplit = splitPath(oldPath);
    const newSplit = splitPath(newPath);
    this.#atParent(oldSplit, (oldPlace) =>
      newDescriptor.#atParent(newSplit, (newPlace) => renameSync(oldPlace, newPlace)),
    );
  }

  /** Refuses (`not-permitted`) targets that are absolute or lead above this directory. */
  symlinkAt(target: string, path: string): void {
    this.#demand('change-directory');
    if (target.includes('\0')) fail('invalid');
    if (target.startsWith('/') || !staysWithin(path, target)) fail('not-permitted');
    this.#atParent(splitPath(path), (place) => symlinkSync(target, place));
  }

  unlinkFileAt(path: string): void {
    this.#demand('change-directory');
    this.#atParent(splitPath(path), (place) => unlinkSync(place));
  }

  isSameObject(other: Descriptor): boolean {
    const [mine, theirs] = [this.#stats(), other.#stats()];
    return mine.dev === theirs.dev && mine.ino === theirs.ino;
  }

  metadataHash(): MetadataHash {
    return metadataHash(this.#stats());
  }

  metadataHashAt(flags: PathFlags, path: string): MetadataHash {
    return metadataHash(this.#statsAt(flags, path));
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#letGo();
  }

  #demand(right: Right): void {
    const answer = can(this.#access, right);
    if (answer !== true) fail(answer);
  }

  #atParent<T>(split: SplitPath, operation: (place: string) => T): T {
    // rmdir, unlink, rename, mkdir and symlink take a final slash as "must be a directory" and follow nothing.
    return atParent(this.#file.fd, split, (place) => operation(split.trailingSlash ? `${place}/` : place));
  }

  #stats(): BigIntStats {
    return attempt(() => fstatSync(this.#file.fd, { bigint: true }));
  }

  #statsAt(flags: PathFlags, path: string): BigIntStats {
    this.#demand('look-up');
    const follow = flags.symlinkFollow === true;
    return withPath(this.#file.fd, path, follow, (fd) => fstatSync(fd, { bigint: true }));
  }

  /** A guest that cannot write has nothing to sync, and must not make the disk work. */
  #sync(call: (fd: number) => void): void {
    if (!this.#access.writable) return;
    if (this.#access.kind === 'file') {
      attempt(() => call(this.#file.fd));
      return;
    }
    const fd = attempt(() => openSync(placeOf(this.#file.fd), constants.O_RDONLY | constants.O_DIRECTORY));
    try {
      attempt(() => call(fd));
    } finally {
      closeSync(fd);
    }
  }

  #outputStream(sink: ByteSink): OutputStream {
    return this.#closingOnFailure(sink, () => new OutputStream(this.#scope, sink));
  }

  #closingOnFailure<T>(end: { close(): void }, make: () => T): T {
    try {
      return make();
    } catch (error) {
      end.close();
      throw error;
    }
  }
}
