import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { constants, existsSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ComponentCache } from '../src/engine/component-cache.ts';
import { entryOf } from '../src/engine/component-entry.ts';
import { EngineProcess } from '../src/engine/engine-process.ts';
import type { PreparedApp } from '../src/engine/prepared-app.ts';
import {
  claimOf,
  fixtures,
  prepareApp,
  SuiteCleanup,
  TestEngine,
  temporaryFolder,
} from '../src/engine/test-engine.ts';
import { suiteTimeoutMs } from './support/wait.ts';

const suite = new SuiteCleanup();

const manifest = `spin_manifest_version = 2
[application]
name = "guests"
[[trigger.http]]
route = "/..."
component = "rust"
[component.rust]
source = "rust-http.wasm"
`;

/** What a container leaves its engine that runs as another user than root. */
const anotherUser = { uid: 1000, gid: 1000, groups: [], capabilities: [], limits: [] };

/** Glue of a component that brings its worker down in the ways a defect of ours could. */
const crashingGlue = `export function instantiate() {
  const handle = (request) => {
    const path = request.pathWithQuery();
    if (path === '/throw') setImmediate(() => { throw new Error('a defect'); });
    else if (path === '/reject') Promise.reject(new Error('a forgotten promise'));
    else if (path === '/heap') for (const held = []; ; ) held.push(new Array(100000).fill(held));
    else return;
    return new Promise(() => {});
  };
  return { 'wasi:http/incoming-handler@0.2.0': { handle } };
}`;

describe('the life of an engine process', { timeout: suiteTimeoutMs }, () => {
  let folder: string;
  let prepared: PreparedApp;

  before(async () => {
    folder = await temporaryFolder(suite);
    prepared = await prepareApp(folder, manifest, {
      'rust-http.wasm': join(fixtures, 'rust-http', 'rust-http.wasm'),
    });
  });

  after(() => suite.run());

  test('SIGTERM under load: every request is answered, the engine ends with 0', async (t) => {
    const engine = await TestEngine.start(t, prepared);
    const failures: string[] = [];
    let served = 0;
    const loop = async (): Promise<void> => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      for (;;) {
        const outcome = await getOnce(engine.port, '/hello', agent);
        if (outcome === 'ECONNREFUSED') break;
        if (outcome !== '200 Hello, world, from Rust\n') failures.push(outcome);
        if (failures.length > 10) break;
        served += 1;
        if (served === 100) engine.process.signal('SIGTERM');
      }
      agent.destroy();
    };
    await Promise.all(Array.from({ length: 8 }, loop));
    assert.deepEqual(failures, []);
    assert.ok(served > 100);
    const { exitCode, signal } = await engine.process.exited;
    assert.deepEqual([exitCode, signal], [0, null]);
  });

  test('SIGTERM waits for a request in flight', async (t) => {
    const engine = await TestEngine.start(t, prepared);
    const slow = getOnce(engine.port, '/stream/10/50', undefined, () => engine.process.signal('SIGTERM'));
    assert.equal(await slow, `200 ${Array.from({ length: 10 }, (_, index) => `chunk ${index}\n`).join('')}`);
    assert.equal((await engine.process.exited).exitCode, 0);
  });

  test('SIGKILL is 137, with the time at which it ended', async (t) => {
    const engine = await TestEngine.start(t, prepared);
    const before = Date.now();
    engine.process.signal('SIGKILL');
    const { exitCode, signal, exitedAt } = await engine.process.exited;
    assert.deepEqual([exitCode, signal], [137, 'SIGKILL']);
    assert.ok(exitedAt.getTime() >= before && exitedAt.getTime() <= Date.now());
  });

  test('an engine that was never claimed ends at once on SIGTERM', async () => {
    const engine = await EngineProcess.spawn();
    engine.signal('SIGTERM');
    assert.equal((await engine.exited).exitCode, 0);
    await assert.rejects(engine.start(), { code: 'unavailable' });
    engine.signal('SIGTERM');
  });

  test('a port in use is told with its address', async (t) => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    t.after(() => taken.close());
    const address = taken.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const engine = await EngineProcess.spawn();
    t.after(() => engine.signal('SIGKILL'));
    await engine.claim(claimOf(prepared, await temporaryFolder(t), { listen: `127.0.0.1:${port}` }));
    await assert.rejects(engine.start(), {
      code: 'address-in-use',
      message: new RegExp(`127\\.0\\.0\\.1:${port}`),
    });
  });

  test('a listen address that is none is told at the claim', async (t) => {
    const engine = await EngineProcess.spawn();
    t.after(() => engine.signal('SIGKILL'));
    const environment = [['SPIN_HTTP_LISTEN_ADDR', 'nowhere']] as const;
    await assert.rejects(engine.claim(claimOf(prepared, await temporaryFolder(t), { environment })), {
      code: 'invalid-argument',
      message: /SPIN_HTTP_LISTEN_ADDR is "nowhere"/,
    });
  });

  test('SPIN_HTTP_LISTEN_ADDR wins, and IPv6 is served', async (t) => {
    const engine = await TestEngine.start(t, prepared, {
      environment: [['SPIN_HTTP_LISTEN_ADDR', '[::1]:0']],
    });
    assert.match(engine.base, /^http:\/\/\[::1\]:\d+$/);
    assert.equal((await fetch(`${engine.base}/hello`)).status, 200);
    const { base } = engine;
    const routes = await engine.until('stdout', (text) => text.includes('wildcard'));
    assert.equal(routes, `\nServing ${base}\nAvailable Routes:\n  rust: ${base} (wildcard)\n`);
  });

  test('the parent tells what an engine cannot do', async (t) => {
    const engine = await EngineProcess.spawn();
    t.after(() => engine.signal('SIGKILL'));
    await assert.rejects(engine.start(), { code: 'failed-precondition' });
    const home = await temporaryFolder(t);
    await engine.claim(claimOf(prepared, home));
    await assert.rejects(engine.claim(claimOf(prepared, home)), { code: 'failed-precondition' });
  });

  test('an engine with a network namespace of its own listens only there', async (t) => {
    const engine = await TestEngine.start(t, prepared, {
      network: { kind: 'new' },
      listen: '127.0.0.1:8080',
    });
    assert.equal(await getOnce(8080, '/hello'), 'ECONNREFUSED');
    const reached = execFileSync('nsenter', [
      `--net=/proc/${engine.process.pid}/ns/net`,
      'curl',
      '-s',
      'http://127.0.0.1:8080/hello/inside',
    ]);
    assert.equal(reached.toString(), 'Hello, inside, from Rust\n');
    assert.ok(existsSync(`/proc/${engine.process.pid}`));
  });

  test('an engine that waits has no thread of the pool; none of those it gets is outside of the pod', async (t) => {
    const engine = await EngineProcess.spawn();
    t.after(async () => {
      engine.signal('SIGKILL');
      await engine.exited;
    });
    const home = await temporaryFolder(t);
    await engine.rehearse();
    // A claim that cannot be fulfilled changes nothing.
    const lost = { ...prepared, components: [{ id: 'c', entryPath: join(home, 'x', 'none'), digest: '' }] };
    await assert.rejects(engine.claim(claimOf(lost, home)), { code: 'data-loss' });
    assert.deepEqual(poolNamespaces(engine.pid), []);
    await engine.claim(claimOf(prepared, home, { network: { kind: 'new' }, listen: '127.0.0.1:8080' }));
    const own = readlinkSync(`/proc/${engine.pid}/ns/net`);
    assert.notEqual(own, readlinkSync('/proc/self/ns/net'));
    await engine.start();
    const ask = ['curl', '-s', 'http://127.0.0.1:8080/file/static/note.txt'];
    execFileSync('nsenter', [`--net=/proc/${engine.pid}/ns/net`, ...ask]);
    assert.deepEqual(
      poolNamespaces(engine.pid).filter((namespace) => namespace !== own),
      [],
    );
    const guests = tasksOf(engine.pid).filter(({ name }) => name === 'guests');
    assert.deepEqual(
      guests.map(({ network }) => network),
      [own],
    );
  });

  test('an engine enters a namespace that is there', async (t) => {
    const name = `engine-test-${process.pid}`;
    execFileSync('ip', ['netns', 'add', name]);
    t.after(() => execFileSync('ip', ['netns', 'delete', name]));
    execFileSync('ip', ['netns', 'exec', name, 'ip', 'link', 'set', 'lo', 'up']);
    const path = `/var/run/netns/${name}`;
    await TestEngine.start(t, prepared, { network: { kind: 'path', path }, listen: '127.0.0.1:8080' });
    const reached = execFileSync('ip', ['netns', 'exec', name, 'curl', '-s', 'http://127.0.0.1:8080/hello']);
    assert.equal(reached.toString(), 'Hello, world, from Rust\n');
    assert.equal(await getOnce(8080, '/hello'), 'ECONNREFUSED');
  });

  test('a namespace that is not there is named', async (t) => {
    const engine = await EngineProcess.spawn();
    t.after(() => engine.signal('SIGKILL'));
    const network = { kind: 'path', path: '/var/run/netns/engine-test-missing' } as const;
    await assert.rejects(engine.claim(claimOf(prepared, folder, { network })), {
      code: 'failed-precondition',
      message: /engine-test-missing/,
    });
  });

  test('an engine does not outlive its parent', async (t) => {
    const home = await temporaryFolder(t);
    const script = join(home, 'parent.ts');
    const room = join(import.meta.dirname, '..', 'src', 'engine', 'engine-process.ts');
    await writeFile(
      script,
      `import { EngineProcess } from ${JSON.stringify(room)};
const engine = await EngineProcess.spawn();
console.log(engine.pid);
setInterval(() => {}, 1000);`,
    );
    const parent = spawn(process.execPath, ['--no-warnings', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => parent.kill('SIGKILL'));
    const pid = await new Promise<string>((resolve) =>
      parent.stdout.once('data', (chunk: Buffer) => resolve(String(chunk).trim())),
    );
    assert.ok(existsSync(`/proc/${pid}`));
    parent.kill('SIGKILL');
    while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  test('two engines serve the same app side by side', async (t) => {
    const [one, two] = await Promise.all([TestEngine.start(t, prepared), TestEngine.start(t, prepared)]);
    one.process.signal('SIGKILL');
    await one.process.exited;
    assert.equal((await fetch(`${two.base}/hello`)).status, 200);
  });

  test('a guest that never returns: the control channel answers, SIGTERM tells of the request and ends it where the app says so', async (t) => {
    const engine = await TestEngine.start(t, prepared, {
      environment: [['SPIN_DRAIN_TIMEOUT', '100ms']],
    });
    const hanging = getOnce(engine.port, '/forever?secret=1');
    await untilBusy(engine.process.pid);
    await assert.rejects(engine.process.claim(claimOf(prepared, folder)), { code: 'failed-precondition' });
    engine.process.signal('SIGTERM');
    assert.equal((await engine.process.exited).exitCode, 0);
    assert.equal(await hanging, 'ECONNRESET');
    const log = await engine.stderr();
    assert.match(
      log,
      /^requests did not finish within 100 ms of SIGTERM \(SPIN_DRAIN_TIMEOUT\) and are cut off \(request in flight: component "rust", GET \/forever\)\n$/,
    );
  });

  test('SIGTERM waits for requests as long as they have, also for a guest that computes', async (t) => {
    const engine = await TestEngine.start(t, prepared, {
      environment: [['SPIN_BUSY_TIMEOUT', '1s']],
      drainNoticeMs: 50,
    });
    const computing = getOnce(engine.port, '/forever');
    await untilBusy(engine.process.pid);
    engine.process.signal('SIGTERM');
    assert.equal((await engine.process.exited).exitCode, 0);
    assert.equal(await computing, 'ECONNRESET');
    const named = '(request in flight: component "rust", GET /forever)\n';
    assert.equal(
      await engine.stderr(),
      `requests go on 50 ms after SIGTERM, until they end or the container is killed ${named}` +
        `a guest computed for 1 s without waiting (SPIN_BUSY_TIMEOUT): its requests end with it ${named}`,
    );
  });

  test('a guest that never returns does not stop SIGKILL', async (t) => {
    const engine = await TestEngine.start(t, prepared);
    const hanging = getOnce(engine.port, '/forever');
    await untilBusy(engine.process.pid);
    engine.process.signal('SIGKILL');
    assert.equal((await engine.process.exited).exitCode, 137);
    await hanging;
  });

  for (const [whose, paths, changes] of [
    ['', ['/throw', '/reject', '/heap'], {}],
    [', as the user of a container', ['/throw'], { security: anotherUser }],
  ] as const) {
    test(`a worker that dies is replaced, and serving goes on at the same address${whose}`, async (t) => {
      const engine = await TestEngine.start(t, await crashingApp(folder, prepared), changes);
      for (const path of paths) {
        assert.equal(await getOnce(engine.port, path), 'ECONNRESET', path);
        assert.equal(await getOnce(engine.port, '/'), '500 ', path);
        // Told when the thread is gone, which is after its connections are.
        const line = `(request in flight: component "rust", GET ${path})\n`;
        const log = await engine.until('stderr', (written) => written.includes(line));
        assert.equal(log.includes('outgrew the 512 MiB that a worker has'), path === '/heap', log);
      }
    });
  }

  test('a worker that keeps dying ends the engine with its reason', async (t) => {
    const engine = await TestEngine.start(t, await crashingApp(folder, prepared));
    for (let round = 0; round < 6; round++) {
      if ((await getOnce(engine.port, '/throw')) === 'ECONNREFUSED') break;
    }
    const { exitCode, reason } = await engine.process.exited;
    assert.equal(exitCode, 1);
    assert.match(reason ?? '', /a defect/);
    assert.match(reason ?? '', /more than 5 workers failed within 60 s/);
  });

  test('guests print through FIFOs to a reader that comes late, whole and in order', async (t) => {
    const home = await temporaryFolder(t);
    const [stdout, stderr] = [join(home, 'out'), join(home, 'err')];
    execFileSync('mkfifo', [stdout, stderr]);
    const engine = await TestEngine.start(t, prepared, {
      stdout: { kind: 'fifo', path: stdout },
      stderr: { kind: 'fifo', path: stderr },
      announce: false,
    });
    const lines = Array.from({ length: 50 }, (_, index) => `line-${index}-${'x'.repeat(200)}`);
    for (const line of lines) assert.equal(await getOnce(engine.port, `/log?${line}`), '200 logged\n');
    engine.process.signal('SIGTERM');
    // Nobody reads yet: what was printed is in the FIFO, which the reader has to open before its last writer is gone.
    const [out, err] = [
      openSync(stdout, constants.O_RDONLY | constants.O_NONBLOCK),
      openSync(stderr, constants.O_RDONLY | constants.O_NONBLOCK),
    ];
    assert.equal((await engine.process.exited).exitCode, 0);
    assert.equal(readAll(out), lines.map((line) => `out ${line}\n`).join(''));
    assert.equal(readAll(err), lines.map((line) => `err ${line}\n`).join(''));
  });

  test('guests whose output nobody reads wait, others go on, and the engine ends at their limit', async (t) => {
    const home = await temporaryFolder(t);
    const stdout = join(home, 'out');
    execFileSync('mkfifo', [stdout]);
    const engine = await TestEngine.start(t, prepared, {
      stdout: { kind: 'fifo', path: stdout },
      environment: [['SPIN_DRAIN_TIMEOUT', '100ms']],
    });
    const line = 'x'.repeat(8_000);
    let stuck = 0;
    const printing: Promise<string>[] = [];
    // The FIFO takes 64 KiB, eight of these lines; whoever prints more waits until it is read.
    for (let index = 0; index < 40; index++) {
      const one = getOnce(engine.port, `/log?${line}`);
      stuck += 1;
      one.then(() => (stuck -= 1));
      printing.push(one);
    }
    while (stuck > 36) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(await getOnce(engine.port, '/hello'), '200 Hello, world, from Rust\n');
    engine.process.signal('SIGTERM');
    assert.equal((await engine.process.exited).exitCode, 0);
    await Promise.all(printing);
  });
});

/** One GET: `<status> <body>`, or the code of the error. */
function getOnce(port: number, path: string, agent?: Agent, onFirstByte?: () => void): Promise<string> {
  return new Promise((resolve) => {
    const outgoing = get(
      { port, host: '127.0.0.1', path, ...(agent === undefined ? {} : { agent }) },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.once('data', () => onFirstByte?.());
        response.on('data', (text: string) => (body += text));
        response.on('end', () => resolve(`${response.statusCode} ${body}`));
        response.on('error', (error: NodeJS.ErrnoException) => resolve(`cut: ${error.code}`));
      },
    );
    outgoing.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

async function crashingApp(folder: string, prepared: PreparedApp): Promise<PreparedApp> {
  const cache = new ComponentCache(join(folder, 'store'), ['crashing']);
  const { digest } = prepared.components[0] ?? { digest: '' };
  const made = { glue: crashingGlue, reason: 'a test', coreModules: [], imports: [] };
  const exports = ['wasi:http/incoming-handler@0.2.0'];
  await cache.ensure(digest, async () => entryOf({ ...made, exports }));
  const entryPath = cache.pathOf(digest);
  return { ...prepared, components: prepared.components.map((component) => ({ ...component, entryPath })) };
}

type Task = { readonly name: string; readonly network: string };

function tasksOf(pid: number): readonly Task[] {
  const folder = `/proc/${pid}/task`;
  return readdirSync(folder).map((id) => ({
    name: readFileSync(join(folder, id, 'comm'), 'utf8').trim(),
    network: readlinkSync(join(folder, id, 'ns/net')),
  }));
}

/** Network namespaces of the threads that libuv does file system calls and name resolution on. */
function poolNamespaces(pid: number): readonly string[] {
  return tasksOf(pid).flatMap(({ name, network }) => (name === 'libuv-worker' ? [network] : []));
}

function readAll(fd: number): string {
  const parts: Buffer[] = [];
  for (;;) {
    const chunk = Buffer.alloc(65_536);
    const length = readSync(fd, chunk);
    if (length === 0) return Buffer.concat(parts).toString();
    parts.push(chunk.subarray(0, length));
  }
}

/** A zombie is not alive: nobody here is the one to wait for it. */
function isAlive(pid: string): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/** Resolves once a process has burnt two tenths of a second of CPU. */
async function untilBusy(pid: number): Promise<void> {
  const ticks = (): number => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    return Number(fields[11]);
  };
  const before = ticks();
  while (ticks() - before < 20) await new Promise((resolve) => setTimeout(resolve, 20));
}
