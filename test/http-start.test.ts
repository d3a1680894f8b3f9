import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { prepareApp, SuiteCleanup, TestEngine, temporaryFolder } from '../src/engine/test-engine.ts';
import { component, coreModule, initPrinter, initTrap } from '../src/engine/test-guests.ts';

const suite = new SuiteCleanup();

const manifest = `spin_manifest_version = 2
[application]
name = "starts"
[[trigger.http]]
route = "/..."
component = "printer"
[component.printer]
source = "printer.wasm"
[[trigger.http]]
route = "/core"
component = "core"
[component.core]
source = "core.wasm"
`;

const trapManifest = `spin_manifest_version = 2
[application]
name = "traps"
[[trigger.http]]
route = "/..."
component = "trap"
[component.trap]
source = "trap.wasm"
`;

after(() => suite.run());

describe('guests that do something before their first call', { timeout: 60_000 }, () => {
  let engine: TestEngine;

  before(async () => {
    const folder = await temporaryFolder(suite);
    const prepared = await prepareApp(folder, manifest, {
      'printer.wasm': await component(initPrinter),
      'core.wasm': await coreModule(initPrinter),
    });
    engine = await TestEngine.start(suite, prepared, { announce: false });
  });

  test('what a guest prints while it starts is its output, and the request is answered', async () => {
    for (const path of ['/', '/core']) {
      const response = await fetch(engine.base + path);
      assert.deepEqual([response.status, await response.text()], [200, '']);
    }
    await engine.until('stdout', (text) => text === 'printed at start\nprinted at start\n');
  });

  test('guests that start at the same time do not disturb each other', async () => {
    const before = (await engine.stdout()).length;
    const statuses = await Promise.all(
      Array.from({ length: 50 }, async () => (await fetch(engine.base)).status),
    );
    assert.deepEqual(statuses, new Array(50).fill(200));
    await engine.until('stdout', (text) => text.length === before + 50 * 'printed at start\n'.length);
  });
});

test('a guest that traps while it starts stops the app, with the reason', async () => {
  const folder = await temporaryFolder(suite);
  const prepared = await prepareApp(folder, trapManifest, { 'trap.wasm': await component(initTrap) });
  await assert.rejects(TestEngine.start(suite, prepared, { announce: false }), {
    code: 'invalid-component',
    message: /component "trap" cannot be started: .*unreachable/,
  });
});
