import { perScope, type ScopeSource } from '../scope.ts';
import { Descriptor } from './filesystem-descriptor.ts';
import { DirectoryEntryStream } from './filesystem-directory-stream.ts';
import { errorCodeOf, type FilesystemErrorCode } from './filesystem-error.ts';
import { defaultMaxOpenFiles, OpenFileQuota } from './filesystem-open-file.ts';
import type { Preopens } from './filesystem-preopens.ts';
import { type IoError, SourceFailure } from './io.ts';

function filesystemErrorCode(error: IoError): FilesystemErrorCode | undefined {
  return error instanceof SourceFailure ? errorCodeOf(error.cause) : undefined;
}

const types = { Descriptor, DirectoryEntryStream, filesystemErrorCode };

/** What one instance may do with files. */
export type FilesystemGrant = {
  readonly preopens: Preopens;
  /** Files and directories open at once, `defaultMaxOpenFiles` when left out. */
  readonly maxOpenFiles?: number;
};

/**
 * wasi:filesystem 0.2 of one instance. Every call is synchronous. A guest that may not change anything gets
 * `not-permitted` for every attempt to, as from wasmtime (which Spin runs on), not `read-only`.
 */
export function createFilesystem(grant: FilesystemGrant, source: ScopeSource): ReadonlyMap<string, object> {
  const quotaOf = perScope(() => new OpenFileQuota(grant.maxOpenFiles ?? defaultMaxOpenFiles));
  const getDirectories = (): readonly (readonly [Descriptor, string])[] => {
    const { scope } = source;
    const { list } = grant.preopens;
    return list.map((preopen) => [Descriptor.ofPreopen(scope, quotaOf(scope), preopen), preopen.destination]);
  };
  return new Map<string, object>([
    ['wasi:filesystem/types', types],
    ['wasi:filesystem/preopens', { getDirectories }],
  ]);
}
