import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { get } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { listenTcp } from '../linux.ts';
import { defaultAppLimits } from './app-limits.ts';
import { CoreModules } from './core-modules.ts';
import { reply } from './guest-worker.ts';
import { findInstallation } from './installation.ts';
import { startGuestWorker } from './start-worker.ts';
import { claimOf, prepareApp, temporaryFolder } from './test-engine.ts';
import { WorkerCrew } from './worker-crew.ts';

const manifest = `spin_manifest_version = 2
[application]
name = "crew"
[[trigger.http]]
route = "/..."
component = "c"
[component.c]
source = "c.wasm"
`;

/** A guest that counts to some milliards and answers nothing. */
const counting = `(component
  (import "wasi:http/types@0.2.0" (instance $t
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $t "incoming-request" (type $request))
  (alias export $t "response-outparam" (type $outparam))
  (core module $m
    (func (export "g") (param i32 i32) (local $count i64)
      (loop $again
        (local.set $count (i64.add (local.get $count) (i64.const 1)))
        (br_if $again (i64.lt_u (local.get $count) (i64.const 2000000000))))))
  (core instance $i (instantiate $m))
  (func $g (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $i "g")))
  (instance $e (export "handle" (func $g)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $e)))`;

test('while a guest computes a stand-in serves, and leaves when it is not needed any more', async (t) => {
  const folder = await temporaryFolder(t);
  const prepared = await prepareApp(folder, manifest, { 'c.wasm': Buffer.from(counting) });
  const lines: string[] = [];
  const crew = new WorkerCrew(
    {
      claim: claimOf(prepared, folder),
      components: await CoreModules.open(prepared).complete(),
      stdout: undefined,
      stderr: undefined,
      limits: { ...defaultAppLimits, busyTimeoutMs: 0 },
      size: 1,
      pagemapFd: undefined,
      standInMs: 1,
    },
    { tell: (line) => lines.push(line), fail: (reason) => assert.fail(reason) },
  );
  const worker = startGuestWorker(findInstallation().worker, undefined, (reason) =>
    crew.onExit(worker, reason),
  );
  t.after(() => Promise.all([worker, ...crew.workers].map((each) => each.terminate())));
  await reply(worker, 'ready');
  await crew.begin(worker, undefined);
  const { fd, port } = listenTcp({ host: '127.0.0.1', port: 0 });
  t.after(() => closeSync(fd));
  await crew.serve(fd, `127.0.0.1:${port}`, false);
  assert.equal(crew.workers.length, 1);

  const answer = request(port, '/');
  while (crew.workers.length < 2) await pause(5);
  assert.equal(crew.requests, ' (request in flight: component "c", GET /)');
  // The one worker is held up: who answers is the other.
  assert.equal(await request(port, '/.well-known/spin/health'), '200 OK');
  assert.equal(await answer, '500 ');
  while (crew.workers.length > 1) await pause(5);
  assert.equal(await request(port, '/.well-known/spin/health'), '200 OK');
  assert.deepEqual(crew.workers, [worker]);
  await crew.drain();
  assert.deepEqual(lines, []);
});

function request(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = get({ host: '127.0.0.1', port, path, agent: false }, async (response) =>
      resolve(`${response.statusCode} ${await text(response)}`),
    );
    sent.on('error', reject);
  });
}
