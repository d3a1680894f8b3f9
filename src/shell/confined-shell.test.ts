import assert from 'node:assert/strict';
import { chmod, chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fieldOfThreads } from '../../test/support/threads.ts';
import { fixtures, prepareApp, temporaryFolder } from '../engine/test-engine.ts';
import { TestShell } from './test-shell.ts';

const options = { timeout: 60_000, skip: process.getuid?.() === 0 ? false : 'giving up ids needs root' };

test(
  'the shell has the rights of its container, and its streams are those of the client',
  options,
  async (t) => {
    const folder = await temporaryFolder(t);
    await chmod(folder, 0o711);
    const stateDir = join(folder, 'state');
    await mkdir(stateDir, { mode: 0o700 });
    await chown(stateDir, 1000, 1000);
    const prepared = await prepareApp(
      folder,
      `spin_manifest_version = 2
[application]
name = "confined"
[[trigger.http]]
route = "/..."
component = "only"
[component.only]
source = "hello.wasm"
files = [{ source = "static", destination = "/static" }]
key_value_stores = ["default"]
`,
      { 'hello.wasm': join(fixtures, 'hello', 'hello.wasm'), 'static/note.txt': Buffer.from('a note\n') },
    );
    const security = { uid: 1000, gid: 1000, groups: [], capabilities: [], limits: [] };
    const shell = await TestShell.start(t, prepared, { stateDir, security });
    const script =
      'cat /static/note.txt; kv set k v; kv get k; curl / | head -n 1; ps | grep -q serving && echo served; sleep 1000';
    const exec = shell.exec(['sh', '-c', script]);
    await exec.until((output) => output.endsWith('served\n'));
    assert.equal(exec.complaint, '');
    assert.equal(exec.output, 'a note\nv\nHello from Spin!\nserved\n');
    const users = fieldOfThreads(shell.engine.process.pid, 'Uid');
    assert.ok(users.length > 0 && users.every((ids) => ids === '1000 1000 1000 1000'), users.join());
    exec.running.signal(15);
    assert.equal((await exec.outcome()).exitCode, 143);
  },
);
