import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { appFolder } from '../../test/support/apps.ts';
import { waitFor } from '../../test/support/wait.ts';
import type { ClaimReport } from '../engine/engine-process.ts';
import { prepare } from '../engine/prepare.ts';
import type { PreparedApp } from '../engine/prepared-app.ts';
import { LogHub } from '../telemetry/log.ts';
import { CodeLearningQueue } from './code-learning-queue.ts';

const { logger } = new LogHub('fatal', { write: () => {} });

const report = (ids: readonly string[], hasCode: boolean): ClaimReport => ({
  checked: [],
  milliseconds: {},
  components: ids.map((id) => ({ id, form: { kind: 'plan', reuse: { ok: true } }, hasCode })),
});

const manifest = `spin_manifest_version = 2
[application]
name = "two"
[[trigger.http]]
route = "/a"
component = "a"
[component.a]
source = "a.wasm"
[[trigger.http]]
route = "/b"
component = "b"
[component.b]
source = "b.wasm"
`;

/** An app of two components in the cache, and the folder where their code will lie. */
async function twoComponents(t: TestContext): Promise<{ prepared: PreparedApp; codeDir: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'learning-'));
  t.after(() => rm(folder, { recursive: true }));
  const app = join(folder, 'app');
  await mkdir(app);
  await writeFile(join(app, 'spin.toml'), manifest);
  await copyFile(join(appFolder('hello'), 'hello.wasm'), join(app, 'a.wasm'));
  await copyFile(join(appFolder('rust-http'), 'rust-http.wasm'), join(app, 'b.wasm'));
  const storeDir = join(folder, 'store');
  const source = { kind: 'folder', manifest: join(app, 'spin.toml'), mode: 'copy' } as const;
  const prepared = await prepare({ source, storeDir, workDir: join(folder, 'work') });
  return { prepared, codeDir: join(storeDir, 'code') };
}

test('the code of components that came without any is learned, one after the other', async (t) => {
  const { prepared, codeDir } = await twoComponents(t);
  const queue = new CodeLearningQueue(logger, undefined, 1);
  queue.note(prepared, report(['a', 'b'], false));
  await waitFor('the code of both', () => !queue.busy, { timeoutMs: 30_000 });
  const code = readdirSync(codeDir).sort();
  const entries = prepared.components.map(({ digest }) => digest.replace(':', '-')).sort();
  assert.deepEqual(
    code.map((name) => name.slice(0, 'sha256-'.length + 64)),
    entries,
  );
  queue.note(prepared, report(['a'], false));
  assert.equal(queue.busy, false, 'what is there is not learned again');
  await queue.close();
});

test('nothing is learned of components that have their code, nor after the end', async (t) => {
  const { prepared, codeDir } = await twoComponents(t);
  const queue = new CodeLearningQueue(logger, undefined, 1);
  queue.note(prepared, report(['a', 'b'], true));
  assert.equal(queue.busy, false);
  queue.note(prepared, report(['a'], false));
  assert.equal(queue.busy, true);
  await queue.close();
  queue.note(prepared, report(['b'], false));
  assert.equal(queue.busy, false);
  assert.equal(existsSync(codeDir), false);
});
