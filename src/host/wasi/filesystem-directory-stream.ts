import { isUtf8 } from 'node:buffer';
import { type Dir, type Dirent, opendirSync } from 'node:fs';
import type { InstanceScope } from '../scope.ts';
import { attempt, fail } from './filesystem-error.ts';
import { type DescriptorType, typeOf } from './filesystem-metadata.ts';
import type { OpenFileQuota } from './filesystem-open-file.ts';
import { placeOf } from './filesystem-path.ts';

/** wasi:filesystem/types `directory-entry`. */
export type DirectoryEntry = { readonly type: DescriptorType; readonly name: string };

/** Entries taken from the kernel at a time. */
const entriesPerRead = 32;

/** `opendir` takes 'buffer' as `readdir` does; the type declarations know it only there. */
const namesAsBytes = 'buffer' as BufferEncoding;

/** wasi:filesystem/types `directory-entry-stream`: the entries of a directory without `.` and `..`. */
export class DirectoryEntryStream {
  readonly #scope: InstanceScope;
  readonly #directory: Dir;
  readonly #giveBack: () => void;
  #closed = false;

  /** Opens the directory behind `fd` anew, so that every stream starts at its beginning. Throws the WIT code. */
  constructor(scope: InstanceScope, quota: OpenFileQuota, fd: number) {
    this.#scope = scope;
    this.#giveBack = quota.reserve();
    try {
      this.#directory = attempt(() =>
        opendirSync(placeOf(fd), { encoding: namesAsBytes, bufferSize: entriesPerRead }),
      );
    } catch (error) {
      this.#giveBack();
      throw error;
    }
    try {
      scope.adopt(this);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  readDirectoryEntry(): DirectoryEntry | undefined {
    const entry = attempt(() => this.#directory.readSync()) as unknown as Dirent<Buffer> | null;
    if (entry === null) return undefined;
    if (!isUtf8(entry.name)) fail('illegal-byte-sequence');
    return { type: typeOf(entry), name: entry.name.toString() };
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#scope.release(this);
    this.#directory.closeSync();
    this.#giveBack();
  }
}
