import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip, gzipSync } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';

/** A file to put into an archive. */
export type ArchiveInput = {
  /** Relative path within the archive, forward slashes. */
  readonly path: string;
  /** Absolute path of the bytes on this machine. */
  readonly file: string;
  readonly size: number;
};

/** Nothing of the machine or the hour is in an archive, so equal files give equal bytes. */
const header = { mode: 0o644, mtime: new Date(0), uid: 0, gid: 0, type: 'file' } as const;

/** Writes a `tar+gzip` of files to `target`, sorted by path. Fails when a file's length is not as stated. */
export async function writeArchive(files: readonly ArchiveInput[], target: string): Promise<void> {
  const archive = pack();
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const filled = fill(archive, sorted);
  await Promise.all([
    filled,
    pipeline(archive, createGzip({ level: 9 }), createWriteStream(target, { flags: 'wx' })),
  ]);
}

async function fill(archive: Pack, files: readonly ArchiveInput[]): Promise<void> {
  try {
    for (const { path, file, size } of files) {
      await pipeline(createReadStream(file), archive.entry({ ...header, name: path, size }));
    }
    archive.finalize();
  } catch (error) {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}

/** A small archive in memory: the tar bytes, by whose digest an image config knows a layer, and their gzip. */
export async function archiveOfText(path: string, text: string): Promise<{ tar: Buffer; gzip: Buffer }> {
  const archive = pack();
  archive.entry({ ...header, name: path }, text);
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive as AsyncIterable<Uint8Array>) chunks.push(chunk);
  const tar = Buffer.concat(chunks);
  return { tar, gzip: gzipSync(tar, { level: 9 }) };
}
