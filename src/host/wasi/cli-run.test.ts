import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { InstanceScope } from '../scope.ts';
import { createCli, GuestExit } from './cli.ts';
import { createClocks } from './clocks.ts';
import { createFilesystem } from './filesystem.ts';
import { openPreopens } from './filesystem-preopens.ts';
import { type ByteSink, type ByteSource, createIo, ioAsyncImports } from './io.ts';
import { createRandom } from './random.ts';
import { createDeniedSockets } from './sockets.ts';

/** Real guests over the real interfaces: the components of `fixtures/` and one that imports all of WASI 0.2. */

const repository = fileURLToPath(new URL('../../../', import.meta.url));
const jcoLibrary = join(repository, 'node_modules/@bytecodealliance/jco/lib');

type Exports = Record<string, { run(): Promise<{ readonly tag: 'ok' | 'err' } | undefined> } | undefined>;
type Guest = { readonly imports: readonly string[]; instantiate(imports: object): Promise<Exports> };

let scratch = '';
let root = '';
let rustCommand: Guest;
let cTool: Guest;

/** Transpiles a component into the scratch folder and loads it. */
async function load(name: string, component: Uint8Array): Promise<Guest> {
  const { generate, $init } = await import('@bytecodealliance/jco-transpile/component');
  await $init;
  const { files, imports } = generate(component, {
    name: 'component',
    noTypescript: true,
    instantiation: { tag: 'async' },
    importBindings: { tag: 'hybrid' },
    multiMemory: true,
    noNodejsCompat: true,
    asyncMode: { tag: 'jspi', val: { imports: [...ioAsyncImports], exports: ['*'] } },
  });
  const modules = new Map<string, WebAssembly.Module>();
  let glue: Uint8Array = new Uint8Array();
  for (const [file, bytes] of files) {
    if (file.endsWith('.wasm')) modules.set(file, new WebAssembly.Module(Buffer.from(bytes)));
    else glue = bytes;
  }
  const gluePath = join(scratch, `${name}.mjs`);
  writeFileSync(gluePath, glue);
  const { instantiate } = (await import(pathToFileURL(gluePath).href)) as {
    instantiate(module: (file: string) => WebAssembly.Module | undefined, imports: object): Promise<Exports>;
  };
  return { imports, instantiate: (host) => instantiate((file) => modules.get(file), host) };
}

async function lift(module: Uint8Array): Promise<Uint8Array> {
  const { componentNew } = await import('@bytecodealliance/jco-transpile/wasm-tools');
  const adapter = readFileSync(join(jcoLibrary, 'wasi_snapshot_preview1.command.wasm'));
  return componentNew(module, [['wasi_snapshot_preview1', adapter]]);
}

function collectingSink(): { readonly sink: ByteSink; text(): string; closed: boolean } {
  const chunks: Buffer[] = [];
  const collector = {
    text: () => Buffer.concat(chunks).toString(),
    closed: false,
    sink: {
      readiness: { isReady: () => true, subscribe: () => () => {} },
      capacity: () => 64 * 1024,
      write: (bytes: Uint8Array) => void chunks.push(Buffer.from(bytes)),
      flush: () => {},
      isFlushed: () => true,
      close: () => {
        collector.closed = true;
      },
    },
  };
  return collector;
}

function textSource(text: string): ByteSource {
  let rest = Buffer.from(text);
  return {
    readiness: { isReady: () => true, subscribe: () => () => {} },
    read(max) {
      if (rest.length === 0) return 'end';
      const taken = rest.subarray(0, max);
      rest = rest.subarray(taken.length);
      return taken;
    },
    close: () => {},
  };
}

type Run = { readonly code: number; readonly stdout: string; readonly stderr: string };

async function run(
  guest: Guest,
  args: readonly string[],
  options: { writable?: boolean; stdin?: ByteSource; environment?: [string, string][] } = {},
): Promise<Run> {
  const scope = new InstanceScope();
  const preopens = openPreopens([{ source: root, destination: '/' }], {
    writable: options.writable === true,
  });
  const [stdout, stderr] = [collectingSink(), collectingSink()];
  const keepAlive = setInterval(() => {}, 1000);
  try {
    const grant = { environment: options.environment ?? [], args, stdout: stdout.sink, stderr: stderr.sink };
    const cli = createCli(options.stdin === undefined ? grant : { ...grant, stdin: options.stdin }, scope);
    const host = [
      createIo(scope),
      cli,
      createClocks(scope),
      createRandom(),
      createFilesystem({ preopens }, scope),
      createDeniedSockets(scope),
    ].flatMap((interfaces) => [...interfaces]);
    const exports = await guest.instantiate(Object.fromEntries(host));
    const code = await exports.run?.run().then(
      () => 0,
      (error: unknown) => {
        if (error instanceof GuestExit) return error.code;
        // What a command's `run` returns as `err` arrives as a thrown value without being an Error.
        if (error instanceof Error && !('payload' in error)) throw error;
        return 1;
      },
    );
    assert.equal(stdout.closed || stderr.closed, false, 'the shared sinks stay open');
    return { code: code ?? -1, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    clearInterval(keepAlive);
    scope.end(new Error('the run is over'));
    preopens.close();
  }
}

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'wasi-run-'));
  root = join(scratch, 'root');
  mkdirSync(join(root, 'sub'), { recursive: true });
  writeFileSync(join(root, 'note.txt'), 'from the file\n');
  writeFileSync(join(root, 'sub', 'long.txt'), 'x'.repeat(60_000));
  writeFileSync(join(scratch, 'secret.txt'), 'secret');
  symlinkSync('../secret.txt', join(root, 'escape'));
  symlinkSync('/etc/hostname', join(root, 'absolute'));
  symlinkSync('sub/long.txt', join(root, 'inside'));
  rustCommand = await load(
    'rust-command',
    readFileSync(join(repository, 'fixtures/rust-command/rust-command.wasm')),
  );
  cTool = await load('c-tool', await lift(readFileSync(join(repository, 'fixtures/c-tool/c-tool.wasm'))));
});

after(() => rmSync(scratch, { recursive: true }));

for (const [name, guest] of [
  ['rust-command', () => rustCommand],
  ['c-tool', () => cTool],
] as const) {
  describe(`${name} over the WASI interfaces`, () => {
    it('prints its arguments and its environment', async () => {
      const echoed = await run(guest(), [name, 'echo', 'hello', 'wörld']);
      assert.deepEqual(echoed, { code: 0, stdout: 'hello wörld\n', stderr: '' });
      const environment: [string, string][] = [
        ['B', '2'],
        ['__proto__', 'x'],
      ];
      const listed = await run(guest(), [name, 'env'], { environment });
      assert.deepEqual(listed.stdout.trim().split('\n').sort(), ['B=2', '__proto__=x']);
    });

    it('reads files, through symlinks that stay inside', async () => {
      assert.equal((await run(guest(), [name, 'cat', '/note.txt'])).stdout, 'from the file\n');
      assert.equal((await run(guest(), [name, 'cat', 'sub/../inside'])).stdout.length, 60_000);
    });

    it('reaches nothing outside its directory', async () => {
      for (const path of ['escape', 'absolute', '../secret.txt', 'sub/../../secret.txt', '/etc/hostname']) {
        const { code, stdout, stderr } = await run(guest(), [name, 'cat', path]);
        assert.equal(code, 1, path);
        assert.equal(stdout, '', path);
        assert.notEqual(stderr, '', path);
      }
    });

    it('writes nothing unless it may', async () => {
      for (const path of ['new.txt', 'note.txt']) {
        const denied = await run(guest(), [name, 'write', path, 'changed']);
        assert.equal(denied.code, 1);
        assert.match(denied.stderr, /PermissionDenied|not permitted/);
      }
      assert.equal(readFileSync(join(root, 'note.txt'), 'utf8'), 'from the file\n');
      assert.equal((await run(guest(), [name, 'write', 'new.txt', 'new'], { writable: true })).code, 0);
      assert.equal(readFileSync(join(root, 'new.txt'), 'utf8'), 'new');
      rmSync(join(root, 'new.txt'));
    });

    it('exits with a code and waits by the clock', async () => {
      assert.equal((await run(guest(), [name, 'exit', '0'])).code, 0);
      assert.equal(
        (await run(guest(), [name, 'exit', '3'])).code,
        1,
        'wasi:cli/exit knows ok and error only',
      );
      assert.equal((await run(guest(), [name, 'sleep', '20'])).stdout, 'slept\n');
    });
  });
}

describe('rust-command', () => {
  it('lists a directory', async () => {
    const { stdout } = await run(rustCommand, ['', 'ls', '/']);
    assert.deepEqual(stdout.trim().split('\n'), readdirSync(root).sort());
  });

  it('reads its standard input to the end', async () => {
    assert.equal((await run(rustCommand, ['', 'stdin-lines'])).stdout, '');
    const stdin = textSource('one\ntwo\n');
    assert.equal((await run(rustCommand, ['', 'stdin-lines'], { stdin })).stdout, '1 one\n2 two\n');
  });
});

describe('a component that imports all of WASI 0.2', () => {
  it('finds every function and class of the WIT at instantiation', async () => {
    const { componentEmbed, componentNew } = await import('@bytecodealliance/jco-transpile/wasm-tools');
    const packages = ['io', 'clocks', 'random', 'filesystem', 'sockets', 'cli'];
    const version = '0.2.12';
    const nested = packages.map((name) => {
      const path = join(jcoLibrary, 'wit', 'builtin', version, `wasi-${name}`, 'package.wit');
      const [head = '', ...rest] = readFileSync(path, 'utf8').split(`package wasi:${name}@${version};`);
      return `${head}package wasi:${name}@${version} {${rest.join('')}}`;
    });
    const includes = packages.map((name) => `include wasi:${name}/imports@${version};`).join(' ');
    const witSource = ['package test:all;', `world all { ${includes} export run: func(); }`, ...nested].join(
      '\n',
    );
    const module = await componentEmbed({ dummy: true, witSource, world: 'all', features: { tag: 'all' } });
    const guest = await load('all', await componentNew(module, []));
    assert.ok(guest.imports.includes('wasi:clocks/timezone') && guest.imports.includes('wasi:sockets/udp'));
    const scope = new InstanceScope();
    const sink = collectingSink().sink;
    const preopens = openPreopens([]);
    const host = [
      createIo(scope),
      createCli({ environment: [], args: [], stdout: sink, stderr: sink }, scope),
      createClocks(scope),
      createRandom(),
      createFilesystem({ preopens }, scope),
      createDeniedSockets(scope),
    ].flatMap((interfaces) => [...interfaces]);
    await guest.instantiate(Object.fromEntries(host));
  });
});
