import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { InstanceScope } from '../../host/scope.ts';
import { createCli, GuestExit } from '../../host/wasi/cli.ts';
import { createClocks } from '../../host/wasi/clocks.ts';
import { createFilesystem } from '../../host/wasi/filesystem.ts';
import { openPreopens } from '../../host/wasi/filesystem-preopens.ts';
import { type ByteSink, createIo, ioAsyncImports } from '../../host/wasi/io.ts';
import { createRandom } from '../../host/wasi/random.ts';
import { createDeniedSockets } from '../../host/wasi/sockets.ts';
import { findInstallation } from '../installation.ts';
import { liftToComponent } from '../lift.ts';
import { importSignatures } from './import-signatures.ts';
import type { ImportObject } from './instance-state.ts';
import { type JcoComponent, jcoComponent, linkedComponent } from './jco-instance.ts';
import { ResultError } from './lift-export.ts';
import type { LinkedComponent } from './linked-component.ts';

const fixture = (path: string): Buffer => readFileSync(new URL(`../../../fixtures/${path}`, import.meta.url));

type Guest = { readonly linked: LinkedComponent; readonly jco: JcoComponent; readonly handler: string };
const guests = new Map<string, Guest>();
let root = '';
let alive: NodeJS.Timeout;

before(async () => {
  alive = setInterval(() => {}, 60_000);
  root = mkdtempSync(join(tmpdir(), 'linker-command-'));
  mkdirSync(join(root, 'sub'));
  writeFileSync(join(root, 'note.txt'), 'from the file\n');
  writeFileSync(join(root, 'sub', 'long.txt'), 'x'.repeat(60_000));
  const { adapters } = findInstallation();
  for (const path of [
    'rust-command/rust-command.wasm',
    'rust-command/rust-command.core.wasm',
    'c-tool/c-tool.wasm',
    'c-wagi/c-wagi.wasm',
  ]) {
    const bytes = await liftToComponent(fixture(path), adapters, path);
    const linked = linkedComponent(bytes, ioAsyncImports);
    guests.set(path, {
      linked,
      jco: await jcoComponent(bytes, ioAsyncImports),
      handler: linked.plan.exports[0]?.[0] ?? '',
    });
  }
});

after(() => {
  clearInterval(alive);
  rmSync(root, { recursive: true });
});

type Seen = { readonly code: number | string; readonly stdout: string; readonly stderr: string };

/** One run of a command over real host objects. */
async function see(args: readonly string[], run: (imports: ImportObject) => Promise<unknown>): Promise<Seen> {
  const scope = new InstanceScope();
  const texts = { stdout: '', stderr: '' };
  const sink = (name: 'stdout' | 'stderr'): ByteSink => ({
    readiness: { isReady: () => true, subscribe: () => () => {} },
    capacity: () => 65536,
    write: (bytes) => {
      texts[name] += Buffer.from(bytes).toString();
    },
    flush: () => {},
    isFlushed: () => true,
    close: () => {},
  });
  const preopens = openPreopens([{ source: root, destination: '/' }]);
  const environment = [
    ['REQUEST_METHOD', 'GET'],
    ['A', 'ä'],
  ] as const;
  const imports: ImportObject = Object.fromEntries([
    ...createIo(scope),
    ...createCli({ environment, args, stdout: sink('stdout'), stderr: sink('stderr') }, scope),
    ...createClocks(scope),
    ...createRandom(),
    ...createFilesystem({ preopens }, scope),
    ...createDeniedSockets(scope),
  ]);
  let code: number | string = 0;
  try {
    await run(imports);
  } catch (error) {
    if (error instanceof GuestExit) code = error.code;
    else if (error instanceof Error && !('payload' in error)) code = 'trap';
    else code = 1;
  }
  scope.end(new Error('the run is over'));
  preopens.close();
  return { code, ...texts };
}

const runs: readonly (readonly string[])[] = [
  ['tool', 'echo', 'hello', 'wörld'],
  ['tool', 'env'],
  ['tool', 'cat', '/note.txt'],
  ['tool', 'cat', 'sub/long.txt'],
  ['tool', 'cat', '../../etc/hostname'],
  ['tool', 'ls', '/'],
  ['tool', 'write', 'new.txt', 'x'],
  ['tool', 'sleep', '5'],
  ['tool', 'stdin-lines'],
  ['tool', 'exit', '0'],
  ['tool', 'exit', '3'],
  ['tool', 'trap'],
  ['tool'],
];

for (const path of [
  'rust-command/rust-command.wasm',
  'rust-command/rust-command.core.wasm',
  'c-tool/c-tool.wasm',
  'c-wagi/c-wagi.wasm',
]) {
  test(`${path} does as under jco, in fresh and in restored instances`, async () => {
    const guest = guests.get(path);
    assert.ok(guest);
    const { linked, jco, handler } = guest;
    for (const args of runs) {
      const expected = await see(args, async (imports) => (await jco.instantiate(imports))[handler]?.run?.());
      const once = await see(args, async (imports) => linked.instantiate(imports).call(handler, 'run', []));
      assert.deepEqual(once, expected, args.join(' '));
      const restored = linked.instantiate({});
      assert.deepEqual([restored.snapshot(), restored.startCalls], [{ ok: true }, []]);
      for (let round = 0; round < 3 && restored.dead === undefined; round++) {
        const seen = await see(args, (imports) => {
          restored.attach(imports);
          return restored.call(handler, 'run', []);
        });
        assert.deepEqual(seen, expected, args.join(' '));
        if (restored.dead === undefined) restored.restore();
      }
    }
  });
}

test('the error of a command is no trap', async () => {
  const guest = guests.get('rust-command/rust-command.wasm');
  assert.ok(guest);
  let instance: ReturnType<LinkedComponent['instantiate']> | undefined;
  await see(['tool', 'echo'], async (imports) => {
    instance = guest.linked.instantiate(imports);
    await instance.call(guest.handler, 'run', []);
  });
  assert.equal(instance?.dead, undefined);
  assert.equal(new ResultError(1).payload, 1);
});

test('a component that imports all of WASI 0.2 finds every function, and misses them without host objects', async () => {
  const { componentEmbed, componentNew } = await import('@bytecodealliance/jco-transpile/wasm-tools');
  const packages = ['io', 'clocks', 'random', 'filesystem', 'sockets', 'cli'];
  const version = '0.2.12';
  const nested = packages.map((name) => {
    const directory = join(
      findInstallation().adapters.reactor,
      '..',
      'wit',
      'builtin',
      version,
      `wasi-${name}`,
    );
    const [head = '', ...rest] = readFileSync(join(directory, 'package.wit'), 'utf8').split(
      `package wasi:${name}@${version};`,
    );
    return `${head}package wasi:${name}@${version} {${rest.join('')}}`;
  });
  const includes = packages.map((name) => `include wasi:${name}/imports@${version};`).join(' ');
  const witSource = ['package test:all;', `world all { ${includes} export run: func(); }`, ...nested].join(
    '\n',
  );
  const module = await componentEmbed({ dummy: true, witSource, world: 'all', features: { tag: 'all' } });
  const component = linkedComponent(await componentNew(module, []), ioAsyncImports);
  const reference = importSignatures(component.plan);
  assert.equal(
    reference.get('wasi:io/streams#[method]input-stream.read'),
    '(borrow<wasi:io/streams/input-stream>, u64) -> ' +
      'result<list<u8>, variant{last-operation-failed: own<wasi:io/error/error>, closed: _}>',
  );
  for (const { linked } of guests.values())
    for (const [name, signature] of importSignatures(linked.plan))
      assert.equal(signature, reference.get(name), name);
  assert.ok(component.missingFunctions({}).length > 100);
  await see([], async (imports) => {
    assert.deepEqual(component.missingFunctions(imports), []);
    component.instantiate(imports);
  });
});
