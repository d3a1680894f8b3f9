import { StatusCode, TtrpcError } from './status.ts';

/** Longest path of a unix socket, bytes: `sun_path` less its closing NUL (unix(7)). */
export const maxSocketPathBytes = 107;

/**
 * Throws InvalidArgument unless `path` names a socket in the file system: absolute paths no longer than the kernel
 * takes (longer ones are cut silently by some layers). Abstract names are refused: they carry no permissions.
 */
export function assertSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (path.includes('\0') || !path.startsWith('/')) {
    throw new TtrpcError(
      StatusCode.InvalidArgument,
      `socket path ${JSON.stringify(path)} is not an absolute path: give one, without "unix://"`,
    );
  }
  if (bytes > maxSocketPathBytes) {
    throw new TtrpcError(
      StatusCode.InvalidArgument,
      `socket path ${JSON.stringify(path)} has ${bytes} bytes, the kernel takes ${maxSocketPathBytes}: choose a shorter one`,
    );
  }
}
