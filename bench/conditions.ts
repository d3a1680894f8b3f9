import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Shim } from '../test/support/shim.ts';
import { loadTool } from './load.ts';

const run = promisify(execFile);

/** What a result depends on besides the code. */
export type Conditions = Readonly<Record<string, string>>;

/** Machine, kernel and versions, read before anything is measured. */
export async function readConditions(shim: Shim): Promise<Conditions> {
  const root = join(import.meta.dirname, '..');
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores`,
    memory: `${(totalmem() / 1024 ** 3).toFixed(1)} GiB`,
    kernel: release(),
    loadBefore: loadavg()
      .map((load) => load.toFixed(2))
      .join(' '),
    spinshim: `${version} (${shim.kind}), revision ${await firstLine('git', ['-C', root, 'rev-parse', '--short', 'HEAD'])}`,
    node: process.version,
    containerd: await firstLine('containerd', ['--version']),
    runc: await firstLine('runc', ['--version']),
    jco: versionOf('@bytecodealliance/jco'),
    load: await loadTool(),
  };
}

function versionOf(name: string): string {
  const file = join(import.meta.dirname, '..', 'node_modules', name, 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

async function firstLine(command: string, args: readonly string[]): Promise<string> {
  return run(command, [...args]).then(
    ({ stdout }) => stdout.split('\n', 1)[0] ?? '',
    () => 'unknown',
  );
}
