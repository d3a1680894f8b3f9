/**
 * Runs the smoke list and the upgrade against every containerd that is there: the one of the PATH and the lines that
 * `build.ts` has built, or those named (`run.ts 1.6 2.3`). Options: `--shim FOLDER` with the built launcher (default
 * `dist/bin`), `--markdown` for the table of docs/conformance.md. Ends with 1 when a check failed.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { releaseOf } from '../support/containerd-config.ts';
import type { CheckResult } from './checks.ts';
import { binFolder, containerdLines, isBuilt, pathWith } from './containerd-lines.ts';

/** A containerd to test: its line, and the folder with its programs unless they are on the PATH. */
type Target = { readonly line: string; readonly version: string; readonly folder: string | undefined };
type Column = { readonly target: Target; readonly results: readonly CheckResult[] };

const { values: flags, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { shim: { type: 'string' }, markdown: { type: 'boolean', default: false } },
});
const shim = flags.shim ?? join(import.meta.dirname, '..', '..', 'dist', 'bin');
if (!existsSync(join(shim, 'containerd-shim-spin-v2'))) {
  throw new Error(`no containerd-shim-spin-v2 in "${shim}": run "make build" or give --shim FOLDER`);
}

function findTargets(): Target[] {
  const targets: Target[] = [];
  try {
    const { major, minor } = releaseOf();
    targets.push({ line: `${major}.${minor}`, version: 'of the PATH', folder: undefined });
  } catch {
    console.error('NOT TESTED: there is no containerd on the PATH');
  }
  for (const line of containerdLines) {
    const name = `containerd ${line.line}`;
    if (targets.some((target) => target.line === line.line)) continue;
    if (isBuilt(line)) targets.push({ line: line.line, version: line.version, folder: binFolder(line) });
    else if (wanted.length === 0 || wanted.includes(line.line)) {
      console.error(`NOT TESTED: ${name} is not built; "node test/lines/build.ts ${line.line}" builds it`);
    }
  }
  return wanted.length === 0 ? targets : targets.filter(({ line }) => wanted.includes(line));
}

/** Runs a script of this folder with a target's programs first on the PATH; gives its results. */
async function runScript(script: string, args: readonly string[], path: string): Promise<CheckResult[]> {
  const file = join(import.meta.dirname, script);
  const child = spawn(process.execPath, [file, ...args], {
    env: { ...process.env, PATH: path },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const results: CheckResult[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const result = JSON.parse(line) as CheckResult;
    results.push(result);
    const mark = { pass: '✓', fail: '✗', 'not applicable': '–' }[result.outcome];
    console.error(`  ${mark} ${result.name} (${result.milliseconds} ms): ${result.detail}`);
  }
  const code = await ended;
  if (code !== 0 && results.every(({ outcome }) => outcome !== 'fail')) {
    const detail = `${script} ended with ${code ?? 'a signal'} and no failed check`;
    results.push({ name: 'the checks ran to their end', outcome: 'fail', detail, milliseconds: 0 });
    console.error(`  ✗ ${detail}`);
  }
  return results;
}

function markdown(columns: readonly Column[]): string {
  const names = [...new Set(columns.flatMap(({ results }) => results.map(({ name }) => name)))];
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const words = { pass: 'pass', fail: '**fail**', 'not applicable': 'n/a' } as const;
  const cell = (name: string, { results }: Column): string => {
    const found = results.find((result) => result.name === name);
    return found === undefined ? '' : words[found.outcome];
  };
  return [
    row(['check', ...columns.map(({ target }) => `${target.line} (${target.version})`)]),
    row(['---', ...columns.map(() => '---')]),
    ...names.map((name) => row([name, ...columns.map((column) => cell(name, column))])),
  ].join('\n');
}

const columns: Column[] = [];
const targets = findTargets();
const ownPath = process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin';
for (const target of targets) {
  console.error(`containerd ${target.line} (${target.version})`);
  const path = target.folder === undefined ? ownPath : pathWith(target.folder, ownPath);
  columns.push({ target, results: await runScript('smoke.ts', [shim], path) });
}
if (targets.length > 1) {
  console.error(`one node upgraded from containerd ${targets.map(({ line }) => line).join(' to ')}`);
  const folders = targets.map(({ folder }) => folder ?? '');
  const target = { line: 'upgrade', version: targets.map(({ line }) => line).join(' → '), folder: undefined };
  const results = await runScript('upgrade.ts', [shim, ...folders], ownPath);
  if (flags.markdown) console.log(`${markdown(columns)}\n\n${markdown([{ target, results }])}`);
  columns.push({ target, results });
} else if (flags.markdown) console.log(markdown(columns));
const all = columns.flatMap(({ results }) => results);
const count = (outcome: CheckResult['outcome']): number =>
  all.filter((result) => result.outcome === outcome).length;
console.error(`${count('pass')} passed, ${count('fail')} failed, ${count('not applicable')} not applicable`);
if (all.length === 0 || count('fail') > 0) process.exitCode = 1;
