import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { appOfComponent } from '../app/single-component.ts';
import { ShimError } from '../error.ts';
import { asyncImports } from '../host/async-imports.ts';
import { listenUnnamed, socketPair } from '../linux.ts';
import { AppRunner } from './app-runner.ts';
import { entryOf } from './component-entry.ts';
import { findInstallation } from './installation.ts';
import { linkComponent } from './link.ts';
import type { EngineClaim } from './messages.ts';
import { OutputSink } from './output-sink.ts';
import { RequestBoard } from './request-board.ts';

/** Requests of a whole rehearsal: after them a first request takes as long as a tenth does. */
export const wholeRehearsal = 20;

const componentId = 'rehearsal';

const app = appOfComponent(componentId, { id: componentId, source: { path: '', digest: '' } });

/** The claim of an app that may nothing and says nothing. */
export const rehearsalClaim: EngineClaim = {
  id: componentId,
  prepared: { app, components: [] },
  network: { kind: 'host' },
  environment: [],
  args: [],
  stdout: { kind: 'null' },
  stderr: { kind: 'null' },
  stateDir: '/nonexistent',
};

/**
 * Runs a small app of this installation's own through the whole way of a claim and of a request, while an engine waits to
 * be claimed: what V8 compiles, allocates and learns on that way is there when a container comes. It opens no file but
 * its guest, makes no thread and no socket that a network namespace could matter to, and leaves nothing behind. `stop`
 * is asked between requests.
 */
export async function rehearse(requestCount: number, stop: () => boolean): Promise<void> {
  const linked = linkComponent(readFileSync(findInstallation().rehearsal), asyncImports);
  if (!('plan' in linked)) return;
  const { entry, text, coreModules } = entryOf(linked);
  const modules = new Map(
    coreModules.map(([name, bytes]) => [name, new WebAssembly.Module(Uint8Array.from(bytes))]),
  );
  const compiled = [{ id: componentId, digest: '', entry, text, modules, hasCode: false }];
  const runner = await AppRunner.load(rehearsalClaim, compiled, {
    stdout: new OutputSink(undefined),
    stderr: new OutputSink(undefined),
    board: new RequestBoard(),
    wake: () => {},
  });
  try {
    await runner.serve(listenUnnamed(), '127.0.0.1:0', true);
    for (let count = 0; count < requestCount && !stop(); count += 1) await request(runner);
  } finally {
    runner.close();
  }
}

/** One connection with one request, as a client's. Rejects when the answer is not 200. */
async function request(runner: AppRunner): Promise<void> {
  const [near, far] = socketPair();
  runner.serveConnection(new Socket({ fd: near }));
  const client = new Socket({ fd: far });
  client.setEncoding('latin1');
  client.write(
    'GET / HTTP/1.1\r\nHost: rehearsal\r\nUser-Agent: r\r\nAccept: */*\r\nConnection: close\r\n\r\n',
  );
  let answer = '';
  for await (const chunk of client) answer += chunk;
  if (!answer.startsWith('HTTP/1.1 200 '))
    throw new ShimError('internal', `a rehearsed request was answered "${answer.split('\r', 1)[0]}"`);
}
