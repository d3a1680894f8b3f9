import assert from 'node:assert/strict';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { EngineProcess } from '../src/engine/engine-process.ts';
import {
  claimOf,
  fixtures,
  prepareApp,
  SuiteCleanup,
  TestEngine,
  temporaryFolder,
} from '../src/engine/test-engine.ts';

const suite = new SuiteCleanup();

function manifestOf(extra = ''): string {
  return `spin_manifest_version = 2
[application]
name = "refused"
[[trigger.http]]
route = "/..."
component = "c"
[component.c]
source = "c.wasm"
${extra}`;
}

/** Imports an interface with one function, which its handler calls. */
function importing(name: string): string {
  return `(component
    (import "wasi:http/types@0.2.0" (instance $t
      (export "incoming-request" (type (sub resource)))
      (export "response-outparam" (type (sub resource)))))
    (alias export $t "incoming-request" (type $request))
    (alias export $t "response-outparam" (type $outparam))
    (import "${name}" (instance $x (export "f" (func))))
    (core func $f (canon lower (func $x "f")))
    (core module $m (import "x" "f" (func $f)) (func (export "g") (param i32 i32) (call $f)))
    (core instance $i (instantiate $m (with "x" (instance (export "f" (func $f))))))
    (func $g (param "request" (own $request)) (param "response-out" (own $outparam))
      (canon lift (core func $i "g")))
    (instance $e (export "handle" (func $g)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $e)))`;
}

describe('apps that an engine refuses', { timeout: 120_000 }, () => {
  let folder: string;

  before(async () => {
    folder = await temporaryFolder(suite);
  });

  after(() => suite.run());

  async function claimError(wasm: string | Uint8Array, extra?: string): Promise<Error & { code?: string }> {
    const prepared = await prepareApp(folder, manifestOf(extra), { 'c.wasm': wasm });
    const engine = await EngineProcess.spawn();
    try {
      await engine.claim(claimOf(prepared, folder));
      throw new Error('the claim succeeded');
    } catch (error) {
      return error as Error;
    } finally {
      engine.signal('SIGKILL');
      await engine.exited;
    }
  }

  test('commands', async () => {
    for (const path of [
      ['rust-command', 'rust-command.wasm'],
      ['rust-command', 'rust-command.core.wasm'],
      ['c-tool', 'c-tool.wasm'],
    ]) {
      const error = await claimError(join(fixtures, ...path));
      assert.equal(error.code, 'unsupported', error.message);
      assert.match(
        error.message,
        /component "c" exports "wasi:cli\/run@0\.2\.\d+".*wasi:http\/incoming-handler@0\.2/,
      );
    }
  });

  test('a component that exports nothing', async () => {
    const error = await claimError(Buffer.from('(component)'));
    assert.equal(error.code, 'invalid-component');
    assert.match(error.message, /exports no interface/);
  });

  test('an import that Spin does not provide', async () => {
    const error = await claimError(Buffer.from(importing('other:package/thing@1.0.0')));
    assert.equal(error.code, 'unsupported');
    assert.match(error.message, /component "c" imports "other:package\/thing/);
  });

  test('an import of Spin that this version lacks is told in one line, and the app starts', async (t) => {
    const wasm = Buffer.from(importing('fermyon:spin/llm@2.0.0'));
    const prepared = await prepareApp(folder, manifestOf(), { 'c.wasm': wasm });
    const engine = await TestEngine.start(t, prepared, { announce: false });
    const warning =
      'component "c" imports "fermyon:spin/llm@2.0.0", which this version does not provide: a request ends when its guest calls it\n';
    await engine.until('stderr', (text) => text === warning);
    assert.equal((await fetch(engine.base)).status, 500);
    await engine.until('stderr', (text) => /the guest called "f" of "fermyon:spin\/llm@2\.0\.0"/.test(text));
  });

  test('a count of instances that is no number', async () => {
    const prepared = await prepareApp(folder, manifestOf(), {
      'c.wasm': join(fixtures, 'hello', 'hello.wasm'),
    });
    for (const count of ['0', '-1', 'x', '1.5', '']) {
      const engine = await EngineProcess.spawn();
      const environment = [['SPIN_MAX_INSTANCE_COUNT', count]] as const;
      await assert.rejects(engine.claim(claimOf(prepared, folder, { environment })), {
        code: 'invalid-argument',
      });
      engine.signal('SIGKILL');
      await engine.exited;
    }
  });

  test('a cache entry that is damaged', async () => {
    const prepared = await prepareApp(folder, manifestOf(), {
      'c.wasm': join(fixtures, 'hello', 'hello.wasm'),
    });
    const entry = prepared.components[0]?.entryPath ?? '';
    const whole = await readFile(entry);
    await truncate(entry, whole.length - 1);
    const engine = await EngineProcess.spawn();
    await assert.rejects(engine.claim(claimOf(prepared, folder)), {
      code: 'data-loss',
      message: /seal is not of this node/,
    });
    // Made again, the same engine takes it.
    await writeFile(entry, whole);
    await engine.claim(claimOf(prepared, folder));
    engine.signal('SIGKILL');
    await engine.exited;
  });
});
