import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { startRegistry } from '../app/registry-test-server.ts';

const root = join(import.meta.dirname, '../..');
const hello = join(root, 'fixtures', 'hello');
const greeting = 'Hello from Spin!\n';

let folder: string;
const tools: Tool[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spin-cli-'));
});
after(async () => {
  // Those of tests that failed.
  await Promise.all(tools.map((tool) => tool.signal('SIGTERM')));
  await rm(folder, { recursive: true });
});

type Ended = { readonly code: number | null; readonly out: string; readonly err: string };

/** The command line as a process of its own; caches and working files stay in the test's folder. */
class Tool {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  out = '';
  err = '';

  /** `prefix`: a program with arguments that runs the command line. */
  constructor(
    args: readonly string[],
    cwd = folder,
    env: Readonly<Record<string, string>> = {},
    prefix: readonly string[] = [],
  ) {
    const [program = '', ...rest] = [...prefix, join(root, 'bin', 'spinshim'), ...args];
    this.#child = spawn(program, rest, {
      cwd,
      env: {
        PATH: process.env.PATH ?? '',
        HOME: folder,
        TMPDIR: folder,
        XDG_CACHE_HOME: join(folder, 'cache'),
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stdout.on('data', (chunk: Buffer) => {
      this.out += chunk;
    });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.err += chunk;
    });
    tools.push(this);
    this.ended = once(this.#child, 'close').then(([code]) => ({ code, out: this.out, err: this.err }));
  }

  /** The URL of the app, once it serves; rejects when it ends before. */
  async url(): Promise<string> {
    const gone = this.ended.then(({ code, err }) => Promise.reject(new Error(`ended with ${code}: ${err}`)));
    gone.catch(() => {});
    for (;;) {
      const url = /^Serving (http:\S+)$/m.exec(this.out)?.[1];
      if (url !== undefined) return url;
      await Promise.race([once(this.#child.stdout, 'data'), gone]);
    }
  }

  signal(name: NodeJS.Signals): Promise<Ended> {
    this.#child.kill(name);
    return this.ended;
  }
}

function run(...args: readonly string[]): Promise<Ended> {
  return new Tool(args).ended;
}

describe('the command line', () => {
  test('prints its version and the help of everything', async () => {
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    for (const args of [['version'], ['--version'], ['-V']]) {
      const { code, out } = await run(...args);
      assert.equal(code, 0);
      assert.ok(out.startsWith(`spinshim ${version} (Node ${process.versions.node}`), out);
    }
    const [long, short, topic] = await Promise.all([
      run('up', '--help'),
      run('up', '--listen', 'x', '-h'),
      run('help', 'up'),
    ]);
    assert.match(long.out, /^Run an app on this machine\n\nUsage: spinshim up \[APP\] \[FLAGS\]\n\nFlags:\n/);
    assert.match(long.out, /--listen HOST:PORT +where to listen; .*SPIN_HTTP_LISTEN_ADDR/);
    assert.deepEqual([short.out, topic.out], [long.out, long.out]);
  });

  test('ends with one error line and the exit code of its kind', async () => {
    await writeFile(join(folder, 'broken.toml'), 'spin_manifest_version = 2\n[aplication]\nname = "x"\n');
    const cases: readonly (readonly [args: readonly string[], code: number, line: RegExp])[] = [
      [['ups'], 64, /^error: unknown command "ups"; did you mean "up"\?/],
      [['up', 'app', 'extra'], 64, /^error: unexpected argument "extra" \(see "spinshim up --help"\)/],
      [['up', 'app', '--from', 'other'], 64, /^error: "app" and --from both name an app: give one of them/],
      [['up', '--lisen', 'x'], 64, /^error: unknown flag "--lisen"; did you mean "--listen"\?/],
      [['up', '--listen', 'nowhere', '-f', hello], 64, /^error: --listen is "nowhere"/],
      [['up'], 66, /^error: no "spin.toml" in ".*" or above it/],
      [
        ['up', '-f', 'broken.toml'],
        65,
        /^error: .*broken.toml: aplication is an unknown key; did you mean "application"/,
      ],
      [['push'], 64, /^error: "spinshim push" needs REF/],
      [
        ['push', 'a', '--shape', 'round', '-f', hello],
        64,
        /^error: --shape is "round": give "spin" or "universal"/,
      ],
      [['pull', 'a/b'], 64, /^error: "spinshim pull" needs a folder: add --output DIR/],
      [['pull', '127.0.0.1:1/a', '-o', 'x'], 69, /^error: /],
    ];
    for (const [args, code, line] of cases) {
      const ended = await run(...args);
      assert.match(ended.err, line);
      assert.equal(ended.err.split('\n').length, 2, ended.err);
      assert.deepEqual([ended.code, ended.out], [code, ''], args.join(' '));
    }
  });
});

describe('up', () => {
  test('serves the app of the folder, prints its routes, and ends with 0 on SIGTERM', async () => {
    const tool = new Tool(['up', '--listen', '127.0.0.1:0', '--find-free-port'], hello);
    const url = await tool.url();
    assert.equal(await (await fetch(url)).text(), greeting);
    const { code, out, err } = await tool.signal('SIGTERM');
    assert.equal(out, `\nServing ${url}\nAvailable Routes:\n  hello: ${url} (wildcard)\n`);
    assert.deepEqual([code, err], [0, '']);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('spin-up-')),
      [],
    );
    assert.equal(existsSync(join(hello, '.spin')), false, 'no state folder for an app without state');
  });

  test('serves and ends without any capability', async () => {
    const powerless = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'];
    const tool = new Tool(['up', hello, '--listen', '127.0.0.1:0'], folder, {}, powerless);
    assert.equal(await (await fetch(await tool.url())).text(), greeting);
    assert.equal((await tool.signal('SIGTERM')).code, 0);
  });

  test('serves a single WebAssembly file, where the environment says', async () => {
    const tool = new Tool(['up', '-f', join(hello, 'hello.wasm')], folder, {
      SPIN_HTTP_LISTEN_ADDR: '127.0.0.1:0',
    });
    assert.equal(await (await fetch(`${await tool.url()}/any/path`)).text(), greeting);
    assert.equal((await tool.signal('SIGINT')).code, 0);
  });

  test('gives components environment and variables, keeps their state, shows what they write', async () => {
    const app = join(folder, 'js-api');
    await cp(join(root, 'fixtures', 'build', 'js-api'), app, { recursive: true });
    const start = (...more: readonly string[]): Tool =>
      new Tool(
        ['up', '--listen', '127.0.0.1:0', '-e', 'COLOUR=red', '--variable', 'greeting=hallo', ...more],
        app,
      );

    const first = start();
    const url = await first.url();
    const environment = await (await fetch(`${url}/env`)).text();
    assert.match(environment, /COLOUR.*red/);
    assert.match(await (await fetch(`${url}/variable/greeting`)).text(), /hallo/);
    await fetch(`${url}/kv/place`, { method: 'PUT', body: 'Rome' });
    await fetch(`${url}/log`);
    const { err, out } = await first.signal('SIGTERM');
    assert.ok(err.startsWith(`Storing default key-value data to "${app}/.spin/sqlite_key_value.db".\n`), err);
    const shown = out.length + err.length;

    const second = start('--quiet');
    const again = await second.url();
    assert.match(await (await fetch(`${again}/kv/place`)).text(), /Rome/);
    await fetch(`${again}/log`);
    const ended = await second.signal('SIGTERM');
    assert.match(ended.out, /^\nServing http:.*\nAvailable Routes:\n.*\n$/);
    assert.ok(ended.out.length + ended.err.length < shown, 'components write nothing to the terminal');
  });

  test('says that an address is in use, with the exit code for it', async () => {
    const first = new Tool(['up', '-f', hello, '--listen', '127.0.0.1:0']);
    const { host, port } = new URL(await first.url());
    const second = await run('up', '-f', hello, '--listen', host);
    assert.equal(second.code, 69);
    assert.match(second.err, new RegExp(`error: .*${port}`));
    const third = new Tool(['up', hello, '--listen', host, '--find-free-port']);
    assert.notEqual(new URL(await third.url()).port, port);
    await Promise.all([first.signal('SIGTERM'), third.signal('SIGTERM')]);
  });
});

describe('push and pull', () => {
  test('write a layout that up runs', async () => {
    const layout = join(folder, 'layout');
    const pushed = await run(
      'push',
      'example/hello:1',
      '-f',
      hello,
      '--to-layout',
      layout,
      '--annotation',
      'a.b=c',
    );
    assert.equal(pushed.err, '');
    assert.match(pushed.out, /^Written with digest sha256:[0-9a-f]{64}\n$/);
    const digest = /sha256:(\S+)/.exec(pushed.out)?.[1] ?? '';
    const manifest = JSON.parse(await readFile(join(layout, 'blobs', 'sha256', digest), 'utf8')) as {
      annotations: Record<string, string>;
    };
    assert.equal(manifest.annotations['a.b'], 'c');
    const tool = new Tool(['up', '-f', layout, '--listen', '127.0.0.1:0']);
    assert.equal(await (await fetch(await tool.url())).text(), greeting);
    assert.equal((await tool.signal('SIGTERM')).code, 0);
  });

  test('take an app through a registry, in both shapes', async () => {
    const registry = await startRegistry();
    try {
      for (const shape of ['spin', 'universal']) {
        const reference = `${registry.host}/test/hello:${shape}`;
        const pushed = await new Tool(['push', reference, '--shape', shape], hello).ended;
        assert.match(pushed.out, /^Pushed with digest sha256:[0-9a-f]{64}\n$/, pushed.err);
        const pulled = await run('pull', reference, '--output', join(folder, `pulled-${shape}`));
        assert.equal(pulled.out, pushed.out.replace('Pushed', 'Pulled'), pulled.err);
        assert.ok(existsSync(join(folder, `pulled-${shape}`, 'oci-layout')));
        const tool = new Tool(['up', reference, '--listen', '127.0.0.1:0']);
        assert.equal(await (await fetch(await tool.url())).text(), greeting);
        assert.equal((await tool.signal('SIGTERM')).code, 0);
      }
    } finally {
      await registry.stop();
    }
  });
});
