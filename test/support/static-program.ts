import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const compiled = new Map<string, Promise<Buffer>>();

/** The C programs of `test/support/c`. */
export type StaticProgram = 'pause' | 'http' | 'sidecar' | 'effective-uid';

/** Compiles one of our C programs to a static executable with `cc`, once per process, and gives its bytes. */
export function staticProgram(name: StaticProgram): Promise<Buffer> {
  let bytes = compiled.get(name);
  if (bytes === undefined) {
    bytes = compile(name);
    compiled.set(name, bytes);
  }
  return bytes;
}

async function compile(name: StaticProgram): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'spinshim-cc-'));
  try {
    const output = join(folder, name);
    const source = join(import.meta.dirname, 'c', `${name}.c`);
    await run('cc', ['-O2', '-static', '-s', '-Wall', '-Werror', '-o', output, source], { timeout: 60_000 });
    return await readFile(output);
  } finally {
    await rm(folder, { recursive: true });
  }
}
