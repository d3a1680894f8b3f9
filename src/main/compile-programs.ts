import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { EngineProcess } from '../engine/engine-process.ts';
import { findInstallation } from '../engine/installation.ts';
import { prepare } from '../engine/prepare.ts';
import type { PreparedApp } from '../engine/prepared-app.ts';
import { rehearsalClaim } from '../engine/rehearsal.ts';
import type { ShellInput, ShellRequest } from '../engine/shell-messages.ts';

/*
 * Runs the programs of an installation that is being built, so that V8's form of what runs is kept beside them
 * (`Programs`): an engine goes the way of a container with the app whose manifest is given, which answers some requests,
 * and a debug shell runs a command.
 */

/** What is asked of the app, `fixtures/rust-http`: bodies both ways, files, output, and a request of its own to itself. */
const requests: readonly (readonly [path: string, body?: string])[] = [
  ['/hello/you'],
  ['/request?of=build'],
  ['/env'],
  ['/file/static/note.txt'],
  ['/clock'],
  ['/random'],
  ['/log?line'],
  ['/stream'],
  ['/large/100000'],
  ['/echo', 'body'],
  ['/count', 'x'.repeat(100_000)],
  ['/outbound', 'http self /hello'],
];

/** How often all of it is asked. */
const rounds = 3;

async function exerciseEngine(manifest: string, folder: string): Promise<void> {
  const prepared = await prepare({
    source: { kind: 'folder', manifest, mode: 'copy' },
    storeDir: join(folder, 'store'),
    workDir: join(folder, 'work'),
  });
  const engine = await EngineProcess.spawn();
  await engine.rehearse();
  await engine.claim({
    ...rehearsalClaim,
    prepared: withMoreGrants(prepared),
    stateDir: join(folder, 'state'),
    listen: '127.0.0.1:0',
  });
  const { addresses } = await engine.start();
  for (let round = 0; round < rounds; round += 1)
    for (const [path, body] of requests) {
      const method = body === undefined ? 'GET' : 'POST';
      const answer = await fetch(`http://${addresses[0]}${path}`, { method, body: body ?? null });
      if (answer.status !== 200)
        throw new Error(`"${path}" was answered ${answer.status}: ${await answer.text()}`);
      await answer.arrayBuffer();
    }
  engine.signal('SIGTERM');
  const { exitCode, reason = '' } = await engine.exited;
  if (exitCode !== 0) throw new Error(`the engine ended with exit code ${exitCode}: ${reason}`);
}

/** With what apps have that this one has not: variables and a key-value store. */
function withMoreGrants({ app, components }: PreparedApp): PreparedApp {
  return {
    components,
    app: {
      ...app,
      variables: [{ name: 'greeting', default: 'hello', secret: false }],
      components: app.components.map((component) => ({
        ...component,
        variables: [['greeting', '{{ greeting }}']],
        keyValueStores: ['default'],
      })),
    },
  };
}

async function exerciseShell(): Promise<void> {
  const workerData: ShellInput = { claim: rehearsalClaim, address: '127.0.0.1:0' };
  const shell = new Worker(findInstallation().shell, { workerData });
  const exec = { id: 'true', args: ['true'], environment: [], terminal: false, streams: [] };
  shell.postMessage({ type: 'exec', exec, fds: [] } satisfies ShellRequest);
  await once(shell, 'message');
  await shell.terminate();
}

const manifest = process.argv[2] ?? '';
const folder = await mkdtemp(join(tmpdir(), 'spinshim-build-'));
try {
  await exerciseEngine(manifest, folder);
  await exerciseShell();
} finally {
  await rm(folder, { recursive: true, force: true });
}
