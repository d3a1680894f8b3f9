/** wasi:filesystem/types `error-code`; functions of the interface throw it as a plain value. */
export type FilesystemErrorCode =
  | 'access'
  | 'would-block'
  | 'already'
  | 'bad-descriptor'
  | 'busy'
  | 'deadlock'
  | 'quota'
  | 'exist'
  | 'file-too-large'
  | 'illegal-byte-sequence'
  | 'in-progress'
  | 'interrupted'
  | 'invalid'
  | 'io'
  | 'is-directory'
  | 'loop'
  | 'too-many-links'
  | 'message-size'
  | 'name-too-long'
  | 'no-device'
  | 'no-entry'
  | 'no-lock'
  | 'insufficient-memory'
  | 'insufficient-space'
  | 'not-directory'
  | 'not-empty'
  | 'not-recoverable'
  | 'unsupported'
  | 'no-tty'
  | 'no-such-device'
  | 'overflow'
  | 'not-permitted'
  | 'pipe'
  | 'read-only'
  | 'invalid-seek'
  | 'text-file-busy'
  | 'cross-device';

const codeOfErrno: ReadonlyMap<string, FilesystemErrorCode> = new Map<string, FilesystemErrorCode>([
  ['EACCES', 'access'],
  ['EAGAIN', 'would-block'],
  ['EALREADY', 'already'],
  ['EBADF', 'bad-descriptor'],
  ['EBUSY', 'busy'],
  ['EDEADLK', 'deadlock'],
  ['EDQUOT', 'quota'],
  ['EEXIST', 'exist'],
  ['EFBIG', 'file-too-large'],
  ['EILSEQ', 'illegal-byte-sequence'],
  ['EINPROGRESS', 'in-progress'],
  ['EINTR', 'interrupted'],
  ['EINVAL', 'invalid'],
  ['EIO', 'io'],
  ['EISDIR', 'is-directory'],
  ['ELOOP', 'loop'],
  ['EMLINK', 'too-many-links'],
  ['EMSGSIZE', 'message-size'],
  ['ENAMETOOLONG', 'name-too-long'],
  ['ENODEV', 'no-device'],
  ['ENOENT', 'no-entry'],
  ['ENOLCK', 'no-lock'],
  ['ENOMEM', 'insufficient-memory'],
  // WIT has no code for a full descriptor table; the instance's own limit answers `quota` too.
  ['EMFILE', 'quota'],
  ['ENFILE', 'quota'],
  ['ENOSPC', 'insufficient-space'],
  ['ENOTDIR', 'not-directory'],
  ['ENOTEMPTY', 'not-empty'],
  ['ENOTRECOVERABLE', 'not-recoverable'],
  ['ENOSYS', 'unsupported'],
  ['ENOTSUP', 'unsupported'],
  ['EOPNOTSUPP', 'unsupported'],
  ['ENOTTY', 'no-tty'],
  ['ENXIO', 'no-such-device'],
  ['EOVERFLOW', 'overflow'],
  ['EPERM', 'not-permitted'],
  ['EPIPE', 'pipe'],
  ['EROFS', 'read-only'],
  ['ESPIPE', 'invalid-seek'],
  ['ETXTBSY', 'text-file-busy'],
  ['EXDEV', 'cross-device'],
]);

/** The WIT code of an errno's name; `io` for one that WIT has no name for. */
export function errorCodeOfErrno(errno: string): FilesystemErrorCode {
  return codeOfErrno.get(errno) ?? 'io';
}

/** The WIT code of what a call of `node:fs` threw; undefined when it was no failed system call. */
export function errorCodeOf(thrown: unknown): FilesystemErrorCode | undefined {
  if (!(thrown instanceof Error) || !('syscall' in thrown) || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? errorCodeOfErrno(thrown.code) : undefined;
}

/** Fails the guest's call with `code`. */
export function fail(code: FilesystemErrorCode): never {
  throw code;
}

/** Runs calls of `node:fs`: a failed system call becomes its WIT code, anything else passes through (and traps). */
export function attempt<T>(operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw errorCodeOf(error) ?? error;
  }
}
