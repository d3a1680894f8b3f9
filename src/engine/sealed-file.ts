import { createHmac, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { link, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import { preferHugePages } from '../linux-memory.ts';

/**
 * Files that only this node's shim can have written: an HMAC-SHA256 with a key that only their owner can read, then the
 * payload. The code covers a label too, so that one sealed file cannot stand in for another. Whoever reads one gets the
 * very bytes that were checked; nothing is opened twice. Reading is synchronous: it is done where nothing else waits.
 */

/** Bytes of the key, and of the code in front of a payload. */
const keyBytes = 32;
const codeBytes = 32;

/** Size from which a file is read into huge pages. */
const hugeBytes = 4 * 1024 * 1024;

const keyFile = 'seal.key';
const ownerOnly = 0o600;

/** Where the key of a store lies. */
export function sealKeyPath(storeDir: string): string {
  return join(storeDir, keyFile);
}

/** The store's key. Throws `data-loss` when there is none or it is not ours alone. */
export function readSealKey(storeDir: string): Buffer {
  const key = readOwnFile(sealKeyPath(storeDir), keyBytes);
  if (key.length === keyBytes) return key;
  throw untrusted(sealKeyPath(storeDir), `it has ${key.length} bytes, not ${keyBytes}`);
}

/**
 * The store's key, made when there is none. One that others could have read or written is replaced, after which no file
 * sealed with it counts any more; `warn` is told. Two that replace it at once leave one key, and the other's files are
 * made again.
 */
export async function makeSealKey(storeDir: string, warn: (line: string) => void): Promise<Buffer> {
  const path = sealKeyPath(storeDir);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      return readSealKey(storeDir);
    } catch (thrown) {
      if (!isMissing(thrown)) {
        warn(`${ShimError.from(thrown).message}; a new key is made`);
        await rm(path, { recursive: true, force: true });
      }
    }
    const draft = `${path}.${randomUUID()}`;
    try {
      await writeWhole(draft, [randomBytes(keyBytes)]);
      // Unlike a rename this fails where another process was faster.
      await link(draft, path);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    } finally {
      await rm(draft, { force: true });
    }
  }
  return readSealKey(storeDir);
}

/** Writes a sealed file beside its place and renames it there; it reaches the disk before it has its name. */
export async function writeSealed(
  path: string,
  key: Buffer,
  label: string,
  payload: readonly Uint8Array[],
): Promise<void> {
  const draft = join(dirname(path), `.${randomUUID()}`);
  try {
    await writeWhole(draft, sealedParts(key, label, payload));
    await rename(draft, path);
  } finally {
    await rm(draft, { force: true });
  }
}

/**
 * The payload of a sealed file, checked. Throws `not-found` when there is no file, `data-loss` when it is not a file of
 * ours alone, is larger than `maxBytes`, or was not sealed with this key and label. `touch` notes that it was used.
 */
export function readSealed(
  path: string,
  key: Buffer,
  label: string,
  maxBytes: number,
  touch = false,
): Buffer {
  return checkSeal(readOwnFile(path, maxBytes, touch), path, key, label);
}

/** What a sealed file consists of: the code and the payload. */
export function sealedParts(
  key: Buffer,
  label: string,
  payload: readonly Uint8Array[],
): readonly Uint8Array[] {
  return [codeOf(key, label, payload), ...payload];
}

/** The bytes of a sealed file, which `path` names in errors → its payload. Throws `data-loss` as `readSealed` does. */
export function checkSeal(bytes: Buffer, path: string, key: Buffer, label: string): Buffer {
  const payload = bytes.subarray(codeBytes);
  if (bytes.length < codeBytes) throw untrusted(path, 'it ends in the middle');
  if (!timingSafeEqual(bytes.subarray(0, codeBytes), codeOf(key, label, [payload])))
    throw untrusted(path, 'its seal is not of this node');
  return payload;
}

/**
 * Makes a folder that is ours alone, or takes it. What stands in its place and is not (a link, another's folder, one
 * others can reach) is moved away and removed, `warn` is told.
 */
export function takeOwnFolder(path: string, warn: (line: string) => void): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const found = lstatSync(path, { throwIfNoEntry: false });
  const problem = found === undefined ? undefined : problemOf(found, found.isDirectory(), 'folder');
  if (problem !== undefined) {
    warn(`"${path}" is not used: ${problem}; it is made again`);
    const remains = join(dirname(path), `.${randomUUID()}`);
    renameSync(path, remains);
    rmSync(remains, { recursive: true, force: true });
  }
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/**
 * Removes what is below a folder, by the time it was written or noted as used, the oldest first, until no more than `maxBytes`
 * are left. All of it counts; only what `isRemovable` says so of goes.
 */
export async function removeOldest(
  folder: string,
  maxBytes: number,
  isRemovable: (path: string) => boolean,
): Promise<void> {
  const files: { path: string; bytes: number; usedAt: number }[] = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const info = await lstat(path).catch(() => undefined);
    if (info !== undefined) files.push({ path, bytes: info.size, usedAt: info.mtimeMs });
  }
  let total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { path, bytes } of files.toSorted((a, b) => a.usedAt - b.usedAt)) {
    if (total <= maxBytes) return;
    if (!isRemovable(path)) continue;
    await rm(path, { recursive: true, force: true });
    total -= bytes;
  }
}

function codeOf(key: Buffer, label: string, payload: readonly Uint8Array[]): Buffer {
  const code = createHmac('sha256', key).update(label).update('\0');
  for (const part of payload) code.update(part);
  return code.digest();
}

/** A regular file that its owner alone can touch, as it is at this moment. */
function readOwnFile(path: string, maxBytes: number, touch = false): Buffer {
  const fd = openOwn(path);
  try {
    const info = fstatSync(fd);
    const problem = problemOf(info, info.isFile(), 'file');
    if (problem !== undefined) throw untrusted(path, problem);
    if (info.size > maxBytes) throw untrusted(path, `it has ${info.size} bytes, the limit is ${maxBytes}`);
    const bytes = Buffer.allocUnsafeSlow(info.size);
    if (info.size >= hugeBytes) preferHugePages(bytes.buffer);
    let length = 0;
    for (let count = -1; count !== 0 && length < bytes.length; length += count)
      count = readSync(fd, bytes, length, bytes.length - length, null);
    if (touch) futimesSync(fd, new Date(), new Date());
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

function openOwn(path: string): number {
  try {
    // A FIFO would make the opening wait.
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    if (code === 'ENOENT') throw new ShimError('not-found', `"${path}" does not exist`, { cause });
    throw untrusted(path, code === 'ELOOP' ? 'it is a symbolic link' : `it cannot be opened (${code})`);
  }
}

function problemOf(
  info: { readonly uid: number; readonly mode: number },
  isRight: boolean,
  kind: 'file' | 'folder',
): string | undefined {
  if (!isRight) return `it is no plain ${kind}`;
  if (info.uid !== process.geteuid?.()) return `it belongs to user ${info.uid}`;
  const mode = info.mode & 0o777;
  return (mode & 0o077) === 0 ? undefined : `it has mode ${mode.toString(8)}, so others can reach it`;
}

function untrusted(path: string, why: string): ShimError {
  return new ShimError('data-loss', `"${path}" is not used: ${why}`);
}

/** Whether an error says that a file is not there, and not that it is not to be trusted. */
export function isMissing(thrown: unknown): boolean {
  return thrown instanceof ShimError && thrown.code === 'not-found';
}

async function writeWhole(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const file = await open(path, 'wx', ownerOnly);
  try {
    for (const part of parts) await file.writeFile(part);
    await file.datasync();
  } finally {
    await file.close();
  }
}
