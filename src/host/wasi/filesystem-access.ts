import type { FilesystemErrorCode } from './filesystem-error.ts';

/** wasi:filesystem/types `descriptor-flags`; what is left out is not set. */
export type DescriptorFlags = {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly fileIntegritySync?: boolean;
  readonly dataIntegritySync?: boolean;
  readonly requestedWriteSync?: boolean;
  readonly mutateDirectory?: boolean;
};

/** What a descriptor was opened as, and whether the preopen it came from may be changed. */
export type Access = {
  readonly kind: 'file' | 'directory';
  readonly flags: DescriptorFlags;
  readonly writable: boolean;
};

/**
 * What a call needs. `change-metadata` is for times: they need no descriptor opened for writing, only a preopen that
 * may be changed.
 */
export type Right = 'read-file' | 'write-file' | 'change-metadata' | 'look-up' | 'change-directory';

/**
 * The gate every operation passes: whether a descriptor has a right, or the code that says why not. The codes are
 * wasmtime's: `not-permitted` for what the preopen forbids, `bad-descriptor` for what it was not opened for.
 */
export function can(access: Access, right: Right): true | FilesystemErrorCode {
  switch (right) {
    case 'read-file':
      return access.kind === 'file' && access.flags.read === true ? true : 'bad-descriptor';
    case 'write-file':
      if (access.kind !== 'file') return 'bad-descriptor';
      if (!access.writable) return 'not-permitted';
      return access.flags.write === true ? true : 'bad-descriptor';
    case 'change-metadata':
      return access.writable ? true : 'not-permitted';
    case 'look-up':
      return access.kind === 'directory' ? true : 'not-directory';
    case 'change-directory':
      if (access.kind !== 'directory') return 'not-directory';
      return access.writable ? true : 'not-permitted';
    default:
      return right satisfies never;
  }
}
