import {
  type BigIntStats,
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
import { mapFile, preferHugePages, unmapFile } from '../linux-memory.ts';
import { nodeCrypto } from '../node-crypto.ts';

/**
 * Files that only this node's shim can have written: an HMAC-SHA256 with a key that only their owner can read, then the
 * payload. The code covers a label too, so that one sealed file cannot stand in for another. Whoever reads one gets the
 * very bytes that were checked; nothing is opened twice. Reading is synchronous: it is done where nothing else waits.
 *
 * A file that was checked is known by its identity from then on: one that still has it is not checked again, and mapped in
 * place of being read (decision 17). Where it cannot be mapped it is read and checked as any other.
 */

/** Bytes of the key, and of the code in front of a payload. */
const keyBytes = 32;
export const codeBytes = 32;

/** What a file system may round times to, milliseconds: a change this soon after another may leave a time as it was. */
const timeGrainMs = 2000;

/** How exactly it is noted when a file was last used, milliseconds. To note it changes the file's identity. */
const useGrainMs = 3_600_000;

/** Size from which a file is read into huge pages. */
const hugeBytes = 4 * 1024 * 1024;

const keyFile = 'seal.key';
const ownerOnly = 0o600;

/** A sealed file whose seal was checked, and what the file was then. Plain data, for as long as the host lives. */
export type CheckedFile = { readonly path: string; readonly identity: string };

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
    const draft = `${path}.${nodeCrypto().randomUUID()}`;
    try {
      await writeWhole(draft, [nodeCrypto().randomBytes(keyBytes)]);
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

/**
 * Writes a sealed file beside its place and renames it there; it reaches the disk before it has its name. Gives what the
 * file is known by; undefined where that does not tell it from what it may become.
 */
export async function writeSealed(
  path: string,
  key: Buffer,
  label: string,
  payload: readonly Uint8Array[],
): Promise<CheckedFile | undefined> {
  const draft = join(dirname(path), `.${nodeCrypto().randomUUID()}`);
  const file = await open(draft, 'wx', ownerOnly);
  try {
    for (const part of sealedParts(key, label, payload)) await file.writeFile(part);
    const time = new Date(Date.now() - timeGrainMs);
    await file.utimes(time, time);
    await file.datasync();
    await rename(draft, path);
    return knownAs(path, await file.stat({ bigint: true }));
  } finally {
    await file.close();
    await rm(draft, { force: true });
  }
}

/**
 * The payload of a sealed file, checked. Throws `not-found` when there is no file, `data-loss` when it is not a file of
 * ours alone, is larger than `maxBytes`, or was not sealed with this key and label.
 */
export function readSealed(path: string, key: Buffer, label: string, maxBytes: number): Buffer {
  return checkSeal(readOwnFile(path, maxBytes), path, key, label);
}

export type OpenOptions = {
  readonly key: () => Buffer;
  readonly label: string;
  readonly maxBytes: number;
  /** Whether it is noted that the file is used now. */
  readonly touch?: boolean;
  /** The file as it was when its seal was last checked, from one who can be trusted. */
  readonly known?: CheckedFile | undefined;
};

/** A sealed file that is open, and its payload. */
export class SealedFile {
  /** Must not be written to. */
  readonly payload: Buffer;
  /** What it is known by from now on; undefined when it changed meanwhile, or a moment ago. */
  readonly checked: CheckedFile | undefined;
  readonly #fd: number;
  readonly #isMapped: boolean;
  #isOpen = true;

  private constructor(fd: number, payload: Buffer, isMapped: boolean, checked: CheckedFile | undefined) {
    this.#fd = fd;
    this.payload = payload;
    this.#isMapped = isMapped;
    this.checked = checked;
  }

  /** Checks the seal, unless the file is the one that is known. Throws as `readSealed`. */
  static open(path: string, options: OpenOptions): SealedFile {
    return SealedFile.take(openOwn(path), path, options);
  }

  /** As `open`, of a descriptor, which becomes its own. */
  static take(
    fd: number,
    path: string,
    { key, label, maxBytes, touch = false, known }: OpenOptions,
  ): SealedFile {
    try {
      const found = lookAt(fd, path, maxBytes);
      const isKnown = known?.path === path && known.identity === identityOf(found);
      const age = Date.now() - Number(found.mtimeMs);
      const isNoted = touch && Math.abs(age) > useGrainMs;
      const info = isNoted ? noteUse(fd) : found;
      const mapped = isKnown ? mapWhole(fd, Number(info.size)) : undefined;
      if (mapped !== undefined)
        return new SealedFile(fd, Buffer.from(mapped).subarray(codeBytes), true, knownAs(path, info));
      const before = knownAs(path, info);
      const payload = checkSeal(readAll(fd, Number(info.size)), path, key(), label);
      const after = knownAs(path, fstatSync(fd, { bigint: true }));
      return new SealedFile(fd, payload, false, before?.identity === after?.identity ? before : undefined);
    } catch (thrown) {
      closeSync(fd);
      throw thrown;
    }
  }

  /** Where a part of the payload lies in the file. */
  placeOf(part: Uint8Array): number {
    return codeBytes + part.byteOffset - this.payload.byteOffset;
  }

  /** Whether this process may still map it: an AppArmor profile that was taken since counts for open descriptors, too. */
  isMappable(): boolean {
    const mapped = mapWhole(this.#fd, 1);
    if (mapped !== undefined) unmapFile(mapped);
    return mapped !== undefined;
  }

  /** Hands the descriptor over, to who closes it. */
  takeDescriptor(): number {
    this.#isOpen = false;
    return this.#fd;
  }

  /** Gives the payload's memory back, which nothing else would do for a long time, and closes what was not taken. */
  release(): void {
    const { buffer } = this.payload;
    if (buffer.byteLength > 0) {
      if (this.#isMapped) unmapFile(buffer as ArrayBuffer);
      else (buffer as ArrayBuffer).transfer(0);
    }
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }
}

/** The whole of a file; undefined where this system, or what this process may do, does not let us map it. */
function mapWhole(fd: number, size: number): ArrayBuffer | undefined {
  try {
    return mapFile(fd, size);
  } catch {
    return undefined;
  }
}

/** What tells a file from any other and from what it becomes when it is written to, replaced or given other rights. */
function identityOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

/** Undefined while a change could leave the times as they are. */
function knownAs(path: string, info: BigIntStats): CheckedFile | undefined {
  const isSettled = Number(info.mtimeMs) <= Date.now() - timeGrainMs;
  return isSettled ? { path, identity: identityOf(info) } : undefined;
}

/** Sets the time of the last use so far back that a change which comes now has another. */
function noteUse(fd: number): BigIntStats {
  const time = new Date(Date.now() - timeGrainMs);
  futimesSync(fd, time, time);
  return fstatSync(fd, { bigint: true });
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
  if (!nodeCrypto().timingSafeEqual(bytes.subarray(0, codeBytes), codeOf(key, label, [payload])))
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
    const remains = join(dirname(path), `.${nodeCrypto().randomUUID()}`);
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
  const code = nodeCrypto().createHmac('sha256', key).update(label).update('\0');
  for (const part of payload) code.update(part);
  return code.digest();
}

/** A regular file that its owner alone can touch, as it is at this moment. */
function readOwnFile(path: string, maxBytes: number): Buffer {
  const fd = openOwn(path);
  try {
    return readAll(fd, Number(lookAt(fd, path, maxBytes).size));
  } finally {
    closeSync(fd);
  }
}

/** What an open file is. Throws `data-loss` for one that is not ours alone, or too large. */
function lookAt(fd: number, path: string, maxBytes: number): BigIntStats {
  const info = fstatSync(fd, { bigint: true });
  const { uid, mode, size } = info;
  const problem = problemOf({ uid: Number(uid), mode: Number(mode) }, info.isFile(), 'file');
  if (problem !== undefined) throw untrusted(path, problem);
  if (size > maxBytes) throw untrusted(path, `it has ${size} bytes, the limit is ${maxBytes}`);
  return info;
}

function readAll(fd: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(size);
  if (size >= hugeBytes) preferHugePages(bytes.buffer);
  let length = 0;
  for (let count = -1; count !== 0 && length < size; length += count)
    count = readSync(fd, bytes, length, size - length, null);
  return bytes.subarray(0, length);
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
