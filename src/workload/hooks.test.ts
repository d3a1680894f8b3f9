import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type HookState, runHooks } from './hooks.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-hooks-'));
after(() => rmSync(folder, { recursive: true }));

const state: HookState = {
  id: 'c1',
  status: 'creating',
  pid: 42,
  bundle: folder,
  annotations: new Map([['a/b', 'c']]),
};

function script(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return path;
}

test('hooks run in their order, in the bundle, with the state, their arguments and their environment alone', async () => {
  const path = script('notes', 'echo "$1 $A $HOME $(pwd) $(cat)" >>notes.txt');
  const hook = (argument: string) => ({ path, args: ['notes', argument], env: [['A', 'b'] as const] });
  await runHooks([hook('one'), hook('two')], 'createRuntime', state);
  const lines = readFileSync(join(folder, 'notes.txt'), 'utf8').trim().split('\n');
  const json = '{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":42,';
  const seen = `${json}"bundle":"${folder}","annotations":{"a/b":"c"}}`;
  assert.deepEqual(lines, [`one b  ${folder} ${seen}`, `two b  ${folder} ${seen}`]);
});

test('the first that fails stops the others and says why', async () => {
  const failing = { path: script('fails', 'echo "no network" >&2; exit 4'), args: [], env: [] };
  const never = { path: script('never', 'touch never-ran'), args: [], env: [] };
  await assert.rejects(runHooks([failing, never], 'createRuntime', state), {
    code: 'failed-precondition',
    message: `the createRuntime hook "${failing.path}" ended with exit code 4: no network`,
  });
  assert.throws(() => readFileSync(join(folder, 'never-ran')), { code: 'ENOENT' });
  const missing = { path: join(folder, 'missing'), args: [], env: [] };
  await assert.rejects(
    runHooks([missing], 'poststop', state),
    /poststop hook ".*missing" cannot be started: .*ENOENT/,
  );
});

test('one that does not come to an end is killed after its time', async () => {
  const hook = {
    path: script('hangs', 'exec sleep 1000'),
    args: [],
    env: [['PATH', '/usr/bin:/bin'] as const],
    timeoutSeconds: 1,
  };
  await assert.rejects(runHooks([hook], 'prestart', state), /did not end within 1000 ms/);
});
