import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShimError } from '../error.ts';
import type { AssetPlan } from './asset-plan.ts';
import { quoted } from './manifest-key.ts';

const chunkBytes = 256 * 1024;

/** Reads an open file in chunks up to `maxBytes`; `resource-exhausted` beyond. `label` names it in errors. */
async function* chunks(handle: FileHandle, maxBytes: number, label: string): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(chunkBytes);
  for (let position = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    if (position > maxBytes) {
      throw new ShimError('resource-exhausted', `${label} has more than ${maxBytes} bytes`);
    }
    yield buffer.subarray(0, bytesRead);
  }
}

/** `sha256:<hex>` of an open file, read in chunks. */
export async function digestFile(handle: FileHandle, maxBytes: number, label: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of chunks(handle, maxBytes, label)) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}

/**
 * Copies planned files as new regular files (0644) below `directory`, which must not exist yet (`already-exists`) and
 * is made here. A file that grew since it was planned is `resource-exhausted`.
 */
export async function copyAssets(plan: AssetPlan, directory: string): Promise<void> {
  await mkdir(dirname(directory), { recursive: true, mode: 0o755 });
  try {
    await mkdir(directory, { mode: 0o755 });
  } catch (cause) {
    throw new ShimError('already-exists', `folder "${directory}" for files cannot be made`, { cause });
  }
  for (const [destination, { root, path, size }] of plan) {
    const target = join(directory, destination);
    const source = await root.openFile(path);
    try {
      await writeNew(target, chunks(source, size, `file ${quoted(path)}`));
    } catch (cause) {
      if (cause instanceof ShimError) throw cause;
      const text = `file ${quoted(destination)} cannot be written: a file and a folder of that name may clash`;
      throw new ShimError('invalid-manifest', text, { cause });
    } finally {
      await source.close();
    }
  }
}

async function writeNew(target: string, content: AsyncIterable<Buffer>): Promise<void> {
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await open(target, flags, 0o644);
  try {
    for await (const chunk of content) await handle.write(chunk);
  } finally {
    await handle.close();
  }
}
