// The launcher as containerd meets it: the built program, real processes, mounts, cgroups and namespaces. One file of more
// than 500 lines because all its verbs are tested through the same few ways of running it and cleaning up after it.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, type StdioOptions, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import protobuf from 'protobufjs/minimal.js';
import { waitFor } from './support/wait.ts';

const launcher = join(import.meta.dirname, '../dist/bin/containerd-shim-spin-v2');
const version = String(
  JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')).version,
);
assert.ok(existsSync(launcher), `no launcher at ${launcher}: run \`make build\` first`);
assert.equal(process.getuid?.(), 0, 'these tests need root: they mount, kill and make namespaces');

const address = '/run/containerd/containerd.sock';

/** Writes down what it was given, then does what STAND_IN_MODE says. */
const standIn = `
import { closeSync, readlinkSync, readdirSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
const { STAND_IN_DIR: dir, STAND_IN_MODE: mode, SPINSHIM_SOCKET, GOMAXPROCS, MALLOC_ARENA_MAX } = process.env;
writeFileSync(
  dir + '/host-' + process.pid,
  JSON.stringify({ argv: process.argv.slice(2), flags: process.execArgv, SPINSHIM_SOCKET, GOMAXPROCS, MALLOC_ARENA_MAX }),
);
if (mode === 'exit') process.exit(3);
if (mode === 'abort') process.kill(process.pid, 'SIGKILL');
if (mode === 'error') writeSync(4, 'error: the cache\\tis not writable\\n');
if (mode === 'other') writeSync(4, 'hello\\n');
if (mode === 'mute') closeSync(4);
if (mode === undefined)
  createServer((socket) => socket.resume()).listen({ fd: 3 }, () => {
    writeSync(4, 'ok\\n');
    closeSync(4);
  });
else setInterval(() => {}, 1000);
`;

type Ended = { readonly code: number | null; readonly out: Buffer; readonly err: string };
type RunOptions = {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: Uint8Array | 'none';
  readonly stdio?: StdioOptions;
  readonly program?: string;
};

/** Ends when the process and every holder of its stdout and stderr have ended. */
function run(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const child = spawn(options.program ?? launcher, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: options.stdio ?? [options.input instanceof Uint8Array ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  if (options.input instanceof Uint8Array) child.stdin?.end(options.input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) =>
      resolve({ code, out: Buffer.concat(out), err: Buffer.concat(err).toString() }),
    );
  });
}

/** Resolves once the condition holds; the test's own timeout bounds it. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(2);
}

/** True once every thread has ended: the first one may be a zombie while others still hold the descriptors. */
function hasEnded(pid: number): boolean {
  try {
    const ended = /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    return ended && readdirSync(`/proc/${pid}/task`).length <= 1;
  } catch {
    return true;
  }
}

function startTime(pid: number): string {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH');
  }
}

type StandIn = {
  readonly pid: number;
  readonly argv: string[];
  /** Those of Node itself. */
  readonly flags: string[];
  readonly env: Record<string, string>;
};

/** A run directory, bundles and a host stand-in of the test's own; all of it goes with the test. */
class Node {
  readonly dir: string;
  readonly runDir: string;
  readonly env: NodeJS.ProcessEnv;
  #bundles = 0;

  constructor(t: TestContext, mode?: string) {
    this.dir = mkdtempSync('/tmp/ss-');
    this.runDir = join(this.dir, 'r');
    const host = join(this.dir, 'host.mjs');
    writeFileSync(host, standIn);
    this.env = {
      SPINSHIM_RUN_DIR: this.runDir,
      SPINSHIM_NODE: process.execPath,
      SPINSHIM_HOST: host,
      STAND_IN_DIR: this.dir,
      GOMAXPROCS: '2',
      ...(mode === undefined ? {} : { STAND_IN_MODE: mode }),
    };
    t.after(() => {
      for (const { pid } of this.hosts()) kill(pid);
      const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
      for (const line of mounts.reverse()) {
        const point = line.split(' ')[1];
        if (point?.startsWith(`${this.dir}/`)) execFileSync('umount', ['-l', point]);
      }
      rmSync(this.dir, { recursive: true });
    });
  }

  hosts(): StandIn[] {
    return readdirSync(this.dir)
      .filter((name) => name.startsWith('host-'))
      .map((name) => {
        const { argv, flags, ...env } = JSON.parse(readFileSync(join(this.dir, name), 'utf8'));
        return { pid: Number(name.slice('host-'.length)), argv, flags, env };
      });
  }

  bundle(): string {
    const path = join(this.dir, `b${this.#bundles++}`);
    mkdirSync(path);
    return path;
  }

  start(cwd: string, options: RunOptions & { readonly flags?: readonly string[] } = {}): Promise<Ended> {
    const flags = options.flags ?? ['-namespace', 'k8s.io', '-address', address, '-id', 'c1'];
    return run([...flags, 'start'], { cwd, ...options, env: { ...this.env, ...options.env } });
  }

  delete(bundle: string, cwd = bundle): Promise<Ended> {
    const flags = ['-namespace', 'k8s.io', '-address', address, '-id', 'c1', '-bundle', bundle];
    return run([...flags, 'delete'], { cwd, env: this.env });
  }

  socket(containerd = address, namespace = 'k8s.io'): string {
    const digest = createHash('sha256').update(`${containerd}\0${namespace}\0${version}`).digest('hex');
    return join(this.runDir, `${digest.slice(0, 32)}.sock`);
  }
}

function assertAddress(ended: Ended, socket: string, bundle: string): void {
  assert.deepEqual([ended.code, ended.err, ended.out.toString()], [0, '', `unix://${socket}\n`]);
  assert.equal(readFileSync(join(bundle, 'address'), 'utf8'), `unix://${socket}`);
}

function assertFailure(ended: Ended, reason: RegExp): void {
  assert.equal(ended.code, 1);
  assert.equal(ended.out.toString(), '');
  assert.match(ended.err, reason);
  assert.match(ended.err, /^containerd-shim-spin-v2[^\n]*\n$/, 'one line');
}

/** Field number → its last value; nested messages stay bytes. */
function decode(bytes: Uint8Array): Map<number, number | Uint8Array> {
  const reader = protobuf.Reader.create(bytes);
  const fields = new Map<number, number | Uint8Array>();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    assert.ok((tag & 7) === 0 || (tag & 7) === 2, `wire type ${tag & 7}`);
    fields.set(tag >>> 3, (tag & 7) === 0 ? Number(reader.uint64()) : reader.bytes());
  }
  return fields;
}

function nested(fields: Map<number, number | Uint8Array>, number: number): Map<number, number | Uint8Array> {
  const value = fields.get(number);
  assert.ok(value instanceof Uint8Array);
  return decode(value);
}

const text = (value: number | Uint8Array | undefined): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString() : '';

describe('version and info', () => {
  test('-v prints name, version and revision', async () => {
    for (const flag of ['-v', '-version', '--version', '-v=true']) {
      const { code, out, err } = await run([flag]);
      assert.deepEqual([code, err], [0, '']);
      assert.match(
        out.toString(),
        /^\S+containerd-shim-spin-v2:\n {2}Runtime: spin\n {2}Version: \S+\n {2}Revision: \S+\n$/,
      );
      assert.ok(out.includes(`Version: ${version}\n`));
    }
  });

  test('-info is a RuntimeInfo, which claims what runc does of recursive read-only mounts and mapped ids', async (t) => {
    const folder = mkdtempSync('/tmp/spinshim-launcher-');
    t.after(() => rmSync(folder, { recursive: true }));
    const infoWith = async (runc: string | undefined, input = ''): Promise<string> => {
      if (runc === undefined) rmSync(join(folder, 'runc'), { force: true });
      else writeFileSync(join(folder, 'runc'), `#!/bin/sh\n${runc}\n`, { mode: 0o755 });
      const { code, out, err } = await run(['-info'], {
        env: { PATH: folder },
        input: Buffer.from(input),
      });
      assert.deepEqual([code, err], [0, '']);
      const info = decode(out);
      assert.equal(text(info.get(1)), 'io.containerd.spin.v2');
      assert.equal(text(nested(info, 2).get(1)), version);
      assert.notEqual(text(nested(info, 2).get(2)), '');
      if (!info.has(4)) return 'nothing';
      const features = nested(info, 4);
      assert.equal(
        text(features.get(1)),
        'types.containerd.io/opencontainers/runtime-spec/1/features/Features',
      );
      const { mountOptions, linux } = JSON.parse(text(features.get(2))) as Record<string, unknown>;
      const { namespaces, mountExtensions } = linux as Record<string, unknown>;
      if (mountExtensions === undefined) return String(mountOptions);
      assert.deepEqual(mountExtensions, { idmap: { enabled: true } });
      assert.ok((namespaces as string[]).includes('user'));
      return `${mountOptions}; mapped`;
    };
    const knowing = `[ "$1" = features ] && echo '{"mountOptions":["ro","rro"]}'`;
    assert.equal(await infoWith(knowing), 'bind,rbind,ro,rro,rw');
    const [plain, mapped] = ['bind,rbind,ro,rro,rw', 'bind,rbind,ro,rro,idmap,ridmap,rw; mapped'];
    const extended = (idmap: object): string =>
      `echo '${JSON.stringify({ mountOptions: ['idmap', 'rro'], linux: { mountExtensions: { idmap } } }, null, 2)}'`;
    assert.equal(await infoWith(extended({ enabled: true })), mapped);
    assert.equal(await infoWith(extended({ enabled: true }), 'runtimeoptions.v1.Options'), plain);
    assert.equal(await infoWith(extended({ enabled: true }), '\n\x1acontainerd.runc.v1.Options'), mapped);
    assert.equal(await infoWith(extended({ enabled: false })), plain);
    assert.equal(await infoWith(extended({})), plain);
    assert.equal(await infoWith(knowing, 'BinaryName = "crun"'), 'nothing');
    assert.equal(await infoWith(`echo '{"mountOptions":["ro"]}'`), 'nothing');
    assert.equal(await infoWith('exit 1'), 'nothing');
    assert.equal(await infoWith('kill -STOP $$'), 'nothing');
    assert.equal(await infoWith(undefined), 'nothing');
  });

  test('no verb and an unknown verb are refused', async () => {
    assertFailure(await run([]), /no verb/);
    assertFailure(await run(['-debug', 'serve']), /unknown verb "serve"/);
  });
});

describe('start', { concurrency: 4 }, () => {
  test('boots a host, tells it about containerd and reuses it', async (t) => {
    const node = new Node(t);
    const first = node.bundle();
    const flags = ['-namespace', 'k8s.io', '-address', address, '-publish-binary', '/bin/true', '-id', 'c1'];
    assertAddress(await node.start(first, { flags: [...flags, '-debug'] }), node.socket(), first);
    const [host] = node.hosts();
    assert.deepEqual(host?.argv, [
      ...['-address', address, '-namespace', 'k8s.io', '-ttrpc-address', `${address}.ttrpc`],
      ...['-publish-binary', '/bin/true', '-debug'],
    ]);
    assert.deepEqual(host?.flags, ['--max-semi-space-size=1']);
    assert.deepEqual(host?.env, { SPINSHIM_SOCKET: node.socket(), MALLOC_ARENA_MAX: '1' });
    assert.equal(lstatSync(node.runDir).mode & 0o777, 0o700);
    assert.equal(lstatSync(node.socket()).mode & 0o777, 0o600);

    const second = node.bundle();
    assertAddress(await node.start(second), node.socket(), second);
    assert.equal(node.hosts().length, 1);
    assert.ok(!hasEnded(host?.pid ?? 0), 'the host outlives its launcher');
    assert.deepEqual(
      readdirSync(node.runDir).filter((name) => name.endsWith('.new')),
      [],
    );
    for (const fd of readdirSync(`/proc/${host?.pid}/fd`)) {
      let link = '';
      try {
        link = readlinkSync(`/proc/${host?.pid}/fd/${fd}`);
      } catch {}
      assert.ok(!link.startsWith(node.runDir) && !link.startsWith(first), `host holds ${link}`);
    }
  });

  test('TTRPC_ADDRESS goes before the default', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const ended = await node.start(bundle, { env: { TTRPC_ADDRESS: '/run/other.ttrpc' } });
    assertAddress(ended, node.socket(), bundle);
    assert.equal(node.hosts()[0]?.argv[5], '/run/other.ttrpc');
  });

  test('the host starts clean: descriptors, signals, session, directory, umask, oom score', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const report = join(node.dir, 'report');
    const host = join(node.dir, 'host.sh');
    writeFileSync(
      host,
      `#!/bin/sh
ls -l /proc/self/fd > ${report}.fds
grep -E '^Sig(Blk|Ign)' /proc/self/status > ${report}.signals
{ pwd; umask; cat /proc/self/oom_score_adj; cat /proc/$$/stat; } > ${report}.rest
echo $$ > ${report}.pid
echo ok >&4
exec sleep 1000 4>&-
`,
      { mode: 0o755 },
    );
    const extra = openSync('/dev/zero', 'r');
    t.after(() => closeSync(extra));
    const command =
      'trap "" PIPE TERM; umask 077; exec "$0" -namespace k8s.io -address "$1" -id c1 start <&-';
    const ended = await run(['-c', command, launcher, address], {
      program: '/bin/sh',
      cwd: bundle,
      env: { ...node.env, SPINSHIM_NODE: host, SPINSHIM_HOST: host },
      stdio: ['ignore', 'pipe', 'pipe', extra, extra, extra, extra, extra],
    });
    const pid = Number(readFileSync(`${report}.pid`, 'utf8'));
    t.after(() => kill(pid));
    assertAddress(ended, node.socket(), bundle);

    const descriptors = new Map<string, string>();
    for (const [, fd, target] of readFileSync(`${report}.fds`, 'utf8').matchAll(/ (\d+) -> (.*)/g))
      if (fd !== undefined && target !== undefined && !target.startsWith('/proc/'))
        descriptors.set(fd, target.replace(/:.*/, ''));
    descriptors.delete('1');
    assert.deepEqual(
      [...descriptors],
      [
        ['0', '/dev/null'],
        ['2', '/dev/null'],
        ['3', 'socket'],
        ['4', 'pipe'],
      ],
    );
    for (const line of readFileSync(`${report}.signals`, 'utf8').trim().split('\n'))
      assert.match(line, /\t0{16}$/);
    const [cwd, mask, oom, stat] = readFileSync(`${report}.rest`, 'utf8').split('\n');
    assert.deepEqual([cwd, mask], ['/', '0022']);
    const ours = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
    assert.equal(Number(oom), Math.min(ours + 1, 1000));
    const session = Number(stat?.slice(stat.lastIndexOf(')')).split(' ')[4]);
    assert.notEqual(session, pid, 'a session leader could be given a terminal');
    assert.notEqual(session, Number(readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ')[3]));
  });

  test('the socket is named by SHA-256 of address, namespace and version', async (t) => {
    const node = new Node(t);
    mkdirSync(node.runDir, { mode: 0o700 });
    const bundle = node.bundle();
    const fixed = `\0k8s.io\0${version}`.length;
    for (const size of [1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 500]) {
      const containerd = 'a'.repeat(Math.max(size - fixed, 1));
      const server = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => server.listen(node.socket(containerd), resolve));
      const flags = ['-namespace', 'k8s.io', '-address', containerd, '-id', 'c1'];
      const ended = await node.start(bundle, { flags });
      server.close();
      assertAddress(ended, node.socket(containerd), bundle);
    }
    assert.equal(node.hosts().length, 0);
    assert.notEqual(node.socket('ab', 'c'), node.socket('a', 'bc'));
  });

  test('flags: Go syntax, unknown ones ignored', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    for (const flags of [
      ['-namespace=k8s.io', `--address=${address}`, '--id', 'c1', '-debug=false'],
      ['-socket-dir', '/x', '-namespace', 'k8s.io', '-new', '-address', address, '-id=c1', '-other=a'],
      ['-namespace', 'k8s.io', '-address', address, '-id', '-c1', '-brand-new', '--debug'],
      ['-namespace', 'k8s.io', '-address', address, '-id', 'c1', '-last'],
      ['-namespace', 'k8s.io', '-address', address, '-id', 'c1', '--'],
    ])
      assertAddress(await node.start(bundle, { flags }), node.socket(), bundle);
    assert.equal(node.hosts().length, 1);
  });

  test('missing flags are told', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const cases: [string[], RegExp][] = [
      [['-address', address, '-id', 'c1'], /no containerd namespace/],
      [['-namespace=', '-address', address, '-id', 'c1'], /no containerd namespace/],
      [['-namespace', 'k8s.io', '-id', 'c1'], /no containerd address/],
      [['-namespace', 'k8s.io', '-address', address], /no container id/],
    ];
    for (const [flags, reason] of cases) assertFailure(await node.start(bundle, { flags }), reason);
    assertFailure(await run(['start', '-id'], { env: node.env, cwd: bundle }), /no containerd namespace/);
    assertFailure(await run(['-id'], { env: node.env, cwd: bundle }), /flag -id has no value/);
    assert.deepEqual(readdirSync(bundle), []);
  });

  test('stdin is kept as options.pb, byte for byte', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const any = protobuf.Writer.create().uint32(10).string('runtimeoptions.v1.Options');
    any.uint32(18).bytes(protobuf.Writer.create().uint32(18).string('/etc/spinshim/config.toml').finish());
    const bootstrap = protobuf.Writer.create().uint32(10).string('c1').uint32(18).string('k8s.io');
    bootstrap.uint32(42).string(`${address}.ttrpc`).uint32(50).string(address);
    for (const input of [any.finish(), bootstrap.finish(), Buffer.alloc(65536, 0x1a), Buffer.of(0)]) {
      assertAddress(await node.start(bundle, { input }), node.socket(), bundle);
      assert.deepEqual(readFileSync(join(bundle, 'options.pb')), Buffer.from(input));
      assert.equal(lstatSync(join(bundle, 'options.pb')).mode & 0o777, 0o600);
    }
    assertAddress(await node.start(bundle), node.socket(), bundle);
    assert.deepEqual(readdirSync(bundle), ['address'], 'no options: the earlier file is gone');
    assertAddress(await node.start(bundle, { input: new Uint8Array() }), node.socket(), bundle);
    assertFailure(await node.start(bundle, { input: Buffer.alloc(65537) }), /more than 65536 bytes/);
  });

  test('a stdin that stays open is an error, not a hang', async (t) => {
    const node = new Node(t);
    const child = spawn(launcher, ['-namespace=k8s.io', `-address=${address}`, '-id=c1', 'start'], {
      cwd: node.bundle(),
      env: { ...process.env, ...node.env },
    });
    child.stdin.write('partial');
    let err = '';
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    assert.equal(code, 1);
    assert.match(err, /stdin is still open/);
  });

  test('8 concurrent starts boot one host', async (t) => {
    const node = new Node(t);
    const bundles = Array.from({ length: 8 }, () => node.bundle());
    const ended = await Promise.all(bundles.map((bundle) => node.start(bundle)));
    for (const [index, bundle] of bundles.entries())
      assertAddress(ended[index] as Ended, node.socket(), bundle);
    assert.equal(node.hosts().length, 1);
  });

  test('stdout and stderr end with start though the host lives', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const command = '"$0" -namespace k8s.io -address "$1" -id c1 start 2>&1 | cat';
    const ended = await run(['-c', command, launcher, address], {
      program: '/bin/sh',
      cwd: bundle,
      env: node.env,
    });
    assertAddress(ended, node.socket(), bundle);
    assert.deepEqual(
      node.hosts().map(({ pid }) => hasEnded(pid)),
      [false],
    );
  });

  for (const [mode, reason] of [
    ['exit', /did not start: it ended with exit code 3/],
    ['abort', /did not start: it was killed by signal 9/],
    ['error', /did not start: the cache\?is not writable/],
    ['other', /did not start: it answered "hello" where "ok" was due/],
    ['mute', /did not start: it closed its ready pipe/],
    ['hang', /did not start: it was not ready within 3000 ms/],
  ] as const)
    test(`a host that fails to boot is told and removed: ${mode}`, async (t) => {
      const node = new Node(t, mode);
      const bundle = node.bundle();
      const env = mode === 'hang' ? { SPINSHIM_READY_TIMEOUT_MS: '3000' } : {};
      assertFailure(await node.start(bundle, { env }), reason);
      assert.deepEqual(
        readdirSync(node.runDir).filter((name) => !name.endsWith('.lock')),
        [],
      );
      assert.deepEqual(readdirSync(bundle), []);
      const [host] = node.hosts();
      assert.ok(host !== undefined && hasEnded(host.pid));
    });

  test('a time to boot that is none is refused', async (t) => {
    const node = new Node(t);
    for (const time of ['0', '-1', '1s', '12345678'])
      assertFailure(
        await node.start(node.bundle(), { env: { SPINSHIM_READY_TIMEOUT_MS: time } }),
        /SPINSHIM_READY_TIMEOUT_MS is "[^"]+"; give milliseconds/,
      );
    assert.equal(node.hosts().length, 0);
  });

  test('parts of the host that are missing are named', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const missing = join(node.dir, 'missing');
    assertFailure(
      await node.start(bundle, { env: { SPINSHIM_NODE: missing } }),
      /missing", a part of the host/,
    );
    assertFailure(await node.start(bundle, { env: { SPINSHIM_HOST: missing } }), /set SPINSHIM_HOST/);
    assertFailure(await node.start(bundle, { env: { SPINSHIM_NODE: 'node' } }), /must be an absolute path/);
    const broken = join(node.dir, 'broken');
    writeFileSync(broken, '#!/nowhere/interpreter\n', { mode: 0o755 });
    assertFailure(await node.start(bundle, { env: { SPINSHIM_NODE: broken } }), /cannot run the host/);
    assert.ok(!existsSync(node.socket()));
  });

  test('a stale socket is replaced', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    assertAddress(await node.start(bundle), node.socket(), bundle);
    const [first] = node.hosts();
    assert.ok(first !== undefined);
    kill(first.pid);
    await until(() => hasEnded(first.pid));
    assert.ok(existsSync(node.socket()), 'the dead host left its socket');
    writeFileSync(`${node.socket()}.new`, '');
    assertAddress(await node.start(bundle), node.socket(), bundle);
    assert.equal(node.hosts().length, 2);
    assert.ok(lstatSync(node.socket()).isSocket());
  });

  test('a stale socket is removed when the new host fails', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    assertAddress(await node.start(bundle), node.socket(), bundle);
    for (const { pid } of node.hosts()) {
      kill(pid);
      await until(() => hasEnded(pid));
    }
    assertFailure(await node.start(bundle, { env: { STAND_IN_MODE: 'exit' } }), /exit code 3/);
    assert.ok(!existsSync(node.socket()));
  });

  test('the run directory must be absolute, short and ours alone', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const start = (dir: string) => node.start(bundle, { env: { SPINSHIM_RUN_DIR: dir } });
    assertFailure(await start('run'), /not absolute/);
    const room = 106 - '/.sock.new'.length - 32;
    const longest = join(node.dir, 'x'.repeat(room - node.dir.length - 1));
    assertFailure(await start(`${longest}y`), /too long.* 1 bytes shorter/);
    assert.equal((await start(longest)).code, 0);
    assertFailure(await start(join(node.dir, 'a', 'b')), /cannot make run directory/);
    const open = join(node.dir, 'open');
    mkdirSync(open);
    chmodSync(open, 0o777);
    assertFailure(await start(open), /nobody else can write/);
    symlinkSync(longest, join(node.dir, 'link'));
    assertFailure(await start(join(node.dir, 'link')), /must be a directory/);
  });
});

function sleeper(t: TestContext): {
  readonly pid: number;
  readonly line: string;
  readonly process: ChildProcess;
} {
  const process = spawn('sleep', ['1000'], { stdio: 'ignore' });
  t.after(() => process.kill('SIGKILL'));
  const pid = process.pid ?? 0;
  return { pid, line: `${pid} ${startTime(pid)}\n`, process };
}

function tmpfs(path: string): string {
  mkdirSync(path, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'none', path]);
  return path;
}

const isMounted = (path: string): boolean =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === path);

function assertResponse(ended: Ended, pid: number | undefined): void {
  assert.equal(ended.code, 0);
  const response = decode(ended.out);
  assert.deepEqual([response.get(1), response.get(2)], [pid, 137]);
  const seconds = Number(nested(response, 3).get(1));
  assert.ok(Math.abs(seconds - Date.now() / 1000) < 60, `exited at ${seconds}`);
}

const nothing: Ended = { code: 0, out: Buffer.alloc(0), err: '' };

/** Where a cgroup can be made: the unified hierarchy, or any of version 1. */
function makeCgroup(t: TestContext): string {
  const roots = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/sys/fs/cgroup/pids'];
  const root = roots.find((path) => existsSync(join(path, 'cgroup.procs')));
  assert.ok(root !== undefined, 'no cgroup file system');
  const path = join(root, `spinshim-test-${process.pid}-${Math.random().toString(36).slice(2)}`);
  mkdirSync(path);
  t.after(async () => {
    if (!existsSync(path)) return;
    const members = () => readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
    for (const pid of members()) kill(Number(pid));
    await until(() => members().length === 0);
    execFileSync('rmdir', [path]);
  });
  return path;
}

describe('delete', { concurrency: 4 }, () => {
  test('says nothing where nothing is left: normal end, bundle gone, twice', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    assert.deepEqual(await node.delete(bundle), nothing);
    assert.deepEqual(await node.delete(join(node.dir, 'gone'), node.dir), nothing);
    assert.deepEqual(await node.delete(bundle), nothing);
  });

  test('kills the listed process by its start time and no other', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const [first, second, reused] = [sleeper(t), sleeper(t), sleeper(t)];
    const lines = [
      ...[first.line, second.line, `${reused.pid} ${Number(startTime(reused.pid)) + 1}\n`],
      ...[`${reused.pid}\n`, `-${reused.pid} 1\n`, '1 0\n', 'x y\n', '\n', `99999999999 1\n`],
      ...[`${'9'.repeat(5000)} 1\n`, `${reused.pid} ${startTime(reused.pid)} \n`],
      ...[`a\0b\n`, `${reused.pid} ${startTime(reused.pid)}`],
    ];
    writeFileSync(join(bundle, 'pids'), lines.join(''));
    const ended = await node.delete(bundle);
    assert.equal(ended.err, '');
    assertResponse(ended, first.pid);
    assert.ok(hasEnded(first.pid) && hasEnded(second.pid), 'ended before the answer');
    assert.ok(!hasEnded(reused.pid));
    assert.deepEqual(readdirSync(bundle), []);
    assert.deepEqual(await node.delete(bundle), nothing);
  });

  test('a list beyond 64 KiB is cut at a whole line', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const [inside, beyond] = [sleeper(t), sleeper(t)];
    const filler = `${'#'.repeat(1023)}\n`.repeat(63);
    const head = `${filler}${'#'.repeat(1023 - inside.line.length)}\n${inside.line}`;
    assert.equal(head.length, 65536);
    writeFileSync(join(bundle, 'pids'), head + beyond.line);
    assertResponse(await node.delete(bundle), inside.pid);
    assert.ok(hasEnded(inside.pid) && !hasEnded(beyond.pid));
  });

  test('more processes than are awaited at once all end', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const processes = Array.from({ length: 130 }, () => sleeper(t));
    writeFileSync(join(bundle, 'pids'), processes.map(({ line }) => line).join(''));
    assertResponse(await node.delete(bundle), processes[0]?.pid);
    assert.ok(processes.every(({ pid }) => hasEnded(pid)));
  });

  test('unmounts below the bundle and the run directory, in reverse, and nowhere else', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    mkdirSync(node.runDir, { mode: 0o700 });
    const outside = tmpfs(join(node.dir, 'outside'));
    const rootfs = tmpfs(join(bundle, 'rootfs'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8k', 'none', rootfs]);
    const inner = tmpfs(join(rootfs, 'data'));
    const shared = tmpfs(join(node.runDir, 'pod'));
    symlinkSync(node.dir, join(rootfs, 'link'));
    const lines = [
      ...[rootfs, inner, shared, outside, `${bundle}/../outside`, `${rootfs}/link/outside`, bundle, '/', ''],
      ...[`${bundle}/never-mounted`, 'relative', `${bundle}x`, `${bundle}/${'y'.repeat(5000)}`],
    ];
    writeFileSync(join(bundle, 'mounts'), `${lines.join('\n')}\n`);
    const ended = await node.delete(bundle);
    assertResponse(ended, undefined);
    for (const path of [rootfs, inner, shared]) assert.ok(!isMounted(path), path);
    assert.ok(isMounted(outside));
    const refused = ended.err.split('\n').filter((line) => line.includes('left alone'));
    assert.equal(refused.length, 7);
    assert.match(ended.err, /cannot unmount "\S+\/rootfs\/link\/outside": /);
  });

  test('removes the cgroups once their processes are gone, and no other directory', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const cgroup = makeCgroup(t);
    const leaf = join(cgroup, 'leaf');
    mkdirSync(leaf);
    const { pid, line } = sleeper(t);
    writeFileSync(join(leaf, 'cgroup.procs'), String(pid));
    const other = join(node.dir, 'other');
    mkdirSync(other);
    writeFileSync(join(bundle, 'pids'), line);
    const lines = [cgroup, leaf, other, `/sys/fs/cgroup/../../..${other}`, `${cgroup}/gone`];
    writeFileSync(join(bundle, 'cgroups'), `${lines.join('\n')}\n`);
    const ended = await node.delete(bundle);
    assertResponse(ended, pid);
    assert.ok(!existsSync(cgroup));
    assert.ok(existsSync(other));
    assert.equal(ended.err.split('\n').filter((entry) => entry.includes('left alone')).length, 2);
  });

  test('concurrent calls and a bundle half gone', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const { pid, line } = sleeper(t);
    const rootfs = tmpfs(join(bundle, 'rootfs'));
    writeFileSync(join(bundle, 'pids'), line);
    writeFileSync(join(bundle, 'mounts'), `${rootfs}\n${bundle}/gone/deeper\n`);
    mkdirSync(join(bundle, 'cgroups'));
    const all = await Promise.all(Array.from({ length: 6 }, () => node.delete(bundle)));
    for (const ended of all) assert.equal(ended.code, 0);
    assertResponse(all.find((ended) => decode(ended.out).get(1) === pid) ?? nothing, pid);
    assert.ok(hasEnded(pid) && !isMounted(rootfs));
  });

  test("a Linux container is left to its own shim's delete, after that shim was ended", async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const shim = sleeper(t);
    const [program, socket] = [join(node.dir, 'linux-shim'), join(node.dir, 'linux.sock')];
    writeFileSync(program, '#!/bin/sh\npwd\necho "$@"\n', { mode: 0o755 });
    // A socket without anybody behind it is what a killed shim leaves.
    const child = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await new Promise((resolve) => spawn(process.execPath, ['-e', child]).on('exit', resolve));
    assert.ok(existsSync(socket));
    writeFileSync(join(bundle, 'pids'), shim.line);
    writeFileSync(join(bundle, 'runc-shim'), `${program}\n`);
    writeFileSync(join(bundle, 'runc-address'), `unix://${socket}\n`);
    const ended = await node.delete(bundle, node.dir);
    assert.deepEqual([ended.code, ended.err], [0, '']);
    const flags = `-namespace k8s.io -address ${address} -publish-binary  -id c1 -bundle ${bundle} delete`;
    assert.equal(ended.out.toString(), `${bundle}\n${flags}\n`);
    assert.ok(hasEnded(shim.pid));
    assert.ok(!existsSync(socket));
    assert.deepEqual(readdirSync(bundle), []);
    assert.deepEqual(await node.delete(bundle), nothing);
  });

  test('a Linux shim that cannot be run is reported, and the rest cleaned up; a socket that answers stays', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    const { pid, line } = sleeper(t);
    const socket = join(node.dir, 'live.sock');
    const server = createServer().listen(socket);
    t.after(() => server.close());
    await once(server, 'listening');
    writeFileSync(join(bundle, 'pids'), line);
    writeFileSync(join(bundle, 'runc-shim'), 'relative/path\n');
    writeFileSync(join(bundle, 'runc-address'), `unix://${socket}\n`);
    const ended = await node.delete(bundle);
    assert.match(ended.err, /cannot run "relative\/path" delete/);
    assertResponse({ ...ended, err: '' }, pid);
    assert.ok(existsSync(socket));
    assert.deepEqual(readdirSync(bundle), []);
  });

  test('a list that is no regular file is not waited for', async (t) => {
    const node = new Node(t);
    const bundle = node.bundle();
    execFileSync('mkfifo', [join(bundle, 'pids')]);
    symlinkSync('/proc/self/mounts', join(bundle, 'mounts'));
    const ended = await node.delete(bundle);
    assertResponse(ended, undefined);
    assert.deepEqual(readdirSync(bundle), []);
  });
});

type Sandbox = {
  readonly parent: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<number | string | null>;
};

/** Runs `pause` and resolves once it has told the sandbox's pid and closed its stdout. */
async function sandbox(t: TestContext, ...args: string[]): Promise<Sandbox> {
  const parent = spawn(launcher, ['pause', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => parent.kill('SIGKILL'));
  const ended = new Promise<number | string | null>((resolve) =>
    parent.on('exit', (code, signal) => resolve(code ?? signal)),
  );
  let out = '';
  let err = '';
  parent.stdout.on('data', (chunk) => {
    out += chunk;
  });
  parent.stderr.on('data', (chunk) => {
    err += chunk;
  });
  await new Promise((resolve) => parent.on('close', resolve).stdout?.on('close', resolve));
  assert.equal(err, '');
  assert.match(out, /^[1-9]\d*\n$/);
  return { parent, pid: Number(out), ended };
}

const namespaceOf = (pid: number | 'self', kind: string): string => readlinkSync(`/proc/${pid}/ns/${kind}`);

const inside = (pid: number, kind: string, ...command: string[]): string =>
  execFileSync('nsenter', [`--${kind}=/proc/${pid}/ns/${kind}`, ...command], { encoding: 'utf8' }).trim();

describe('pause', { concurrency: 4 }, () => {
  test('holds namespaces of its own with the hostname and lo up', async (t) => {
    const { pid } = await sandbox(t, '-hostname', 'web-7f9', '-pid', 'new');
    for (const kind of ['net', 'ipc', 'uts', 'pid', 'mnt'])
      assert.notEqual(namespaceOf(pid, kind), namespaceOf('self', kind), kind);
    assert.equal(inside(pid, 'uts', 'hostname'), 'web-7f9');
    const script = 'console.log(os.networkInterfaces().lo?.[0]?.address)';
    assert.equal(inside(pid, 'net', process.execPath, '-e', script), '127.0.0.1');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    assert.match(status, /^NSpid:\t\d+\t1$/m);
    assert.match(status, /^Name:\tspin-pause$/m);
  });

  test('shares what is said to be the host\u2019s, and joins a network namespace by path', async (t) => {
    const host = ['-ipc=host', '-uts=host', '-pid=host'];
    const shared = await sandbox(t, ...host, '-net', 'host');
    for (const kind of ['net', 'ipc', 'uts', 'pid'])
      assert.equal(namespaceOf(shared.pid, kind), namespaceOf('self', kind), kind);
    const own = await sandbox(t);
    for (const flag of [['-netns', `/proc/${own.pid}/ns/net`], [`-net=path:/proc/${own.pid}/ns/net`]]) {
      const joined = await sandbox(t, ...flag);
      assert.equal(namespaceOf(joined.pid, 'net'), namespaceOf(own.pid, 'net'));
      assert.notEqual(namespaceOf(joined.pid, 'ipc'), namespaceOf(own.pid, 'ipc'));
    }
  });

  test('the sandbox can do and see nothing', async (t) => {
    const { pid, parent } = await sandbox(t, '-user', '1000', '-group=2000');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
      assert.match(status, new RegExp(`^Cap${set}:\t0{16}$`, 'm'));
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Uid:(\t1000){4}$/m);
    assert.match(status, /^Gid:(\t2000){4}$/m);
    assert.match(status, /^Groups:\s*$/m);
    assert.deepEqual(readdirSync(`/proc/${pid}/root/`), []);
    assert.throws(() => writeFileSync(`/proc/${pid}/root/x`, ''), { code: 'EROFS' });
    assert.throws(() => openSync(`/proc/${pid}/exe`, 'w'), { code: 'EROFS' });
    for (const process of [pid, parent.pid])
      for (const fd of readdirSync(`/proc/${process}/fd`))
        if (process === pid || Number(fd) < 3)
          assert.equal(readlinkSync(`/proc/${process}/fd/${fd}`), '/dev/null');
    assert.deepEqual(readdirSync(`/proc/${pid}/fd`), ['0', '1', '2']);
    assert.deepEqual(readdirSync(`/proc/${parent.pid}/fd`), ['0', '1', '2']);
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    test(`${signal} to either process is a clean end`, async (t) => {
      for (const spaces of ['new', 'host']) {
        const first = await sandbox(t, '-pid', spaces);
        first.parent.kill(signal);
        assert.equal(await first.ended, 0);
        assert.ok(hasEnded(first.pid));
        const second = await sandbox(t, '-pid', spaces);
        process.kill(second.pid, signal);
        assert.equal(await second.ended, 0);
      }
    });

  test('a killed sandbox is told as 128 plus the signal', async (t) => {
    const { pid, ended } = await sandbox(t);
    process.kill(pid, 'SIGKILL');
    assert.equal(await ended, 137);
  });

  test('the sandbox does not outlive its parent', async (t) => {
    for (const user of ['0', '1000']) {
      const { pid, parent } = await sandbox(t, '-user', user);
      parent.kill('SIGKILL');
      await until(() => hasEnded(pid));
    }
  });

  test('orphans of the pid namespace are reaped', async (t) => {
    const { pid } = await sandbox(t);
    const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    const command = 'sleep 1000 > /dev/null 2>&1 & echo $!';
    inside(pid, 'pid', 'sh', '-c', command);
    await until(() => children() !== '');
    process.kill(Number(children()), 'SIGKILL');
    await until(() => children() === '');
    assert.ok(!hasEnded(pid));
  });

  test('sets sysctls of its own namespaces', async (t) => {
    const port = 'net.ipv4.ip_unprivileged_port_start';
    const before = readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8');
    const shm = readFileSync('/proc/sys/kernel/shmmni', 'utf8');
    const { pid } = await sandbox(t, '-sysctl', `${port}=80`, '-sysctl=kernel.shmmni=77');
    assert.equal(inside(pid, 'net', 'cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start'), '80');
    assert.equal(inside(pid, 'ipc', 'cat', '/proc/sys/kernel/shmmni'), '77');
    assert.equal(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'), before);
    assert.equal(readFileSync('/proc/sys/kernel/shmmni', 'utf8'), shm);
  });

  test('what cannot be done is told in one line', async () => {
    const cases: [string[], RegExp][] = [
      [['-hostname', 'h', '-uts', 'host'], /would rename the node/],
      [['-hostname', 'h'.repeat(65)], /65 bytes and may have 64/],
      [['-ipc', 'mine'], /-ipc is "mine"/],
      [['-pid'], /flag -pid has no value/],
      [['-what', 'x'], /unknown option "-what"/],
      [['stray'], /unknown option "stray"/],
      [['-netns', '/nowhere/net'], /cannot enter network namespace "\/nowhere\/net": No such file/],
      [['-netns', '/proc/self/ns/uts'], /cannot enter network namespace/],
      [['-netns', 'net'], /must be an absolute path/],
      [['-netns', '/x', '-net', 'new'], /both given/],
      [['-user', '-1'], /-user is "-1"/],
      [['-group', '4294967295'], /from 0 to 4294967294/],
      [['-sysctl', 'kernel.hostname=x'], /"kernel.hostname=x" is refused/],
      [['-sysctl', 'kernel.semaphore=1'], /is refused/],
      [['-sysctl', 'net.ipv4.ip_forward'], /is refused/],
      [['-sysctl', 'net./../kernel/hostname=1'], /is refused/],
      [['-sysctl', 'net.ipv4.nothing=1'], /cannot set a sysctl/],
      [['-sysctl', 'net.ipv4.ip_forward=1', '-net', 'host'], /shares the node's network/],
      [['-sysctl', 'net.ipv4.ip_forward=1', '-netns', '/proc/self/ns/net'], /shares the node's network/],
      [['-sysctl', 'kernel.shmmni=1', '-ipc', 'host'], /shares the node's ipc/],
    ];
    for (const [args, reason] of cases) assertFailure(await run(['pause', ...args]), reason);
    assert.equal((await run(['pause', '-sysctl=net.ipv4.ip_forward=a\nb'])).err.split('\n').length, 2);
  });
});

describe('engine', () => {
  const ask = `const { readdirSync, readFileSync, readlinkSync } = process.getBuiltinModule('fs');
    const links = readdirSync('/proc/self/fd').map((fd) => { try { return readlinkSync('/proc/self/fd/' + fd) } catch { return '' } });
    const status = readFileSync('/proc/self/status', 'utf8').split('\\n').filter((line) => /^(NoNewPrivs|Seccomp):/.test(line));
    console.log(JSON.stringify([links.includes('anon_inode:[io_uring]'), status, process.argv.length]));`;

  test('becomes the program, which has no io_uring and gains no privileges', async () => {
    const { code, out, err } = await run(['engine', process.execPath, '-e', ask, 'argument']);
    assert.deepEqual([code, err], [0, '']);
    assert.deepEqual(JSON.parse(String(out)), [false, ['NoNewPrivs:\t1', 'Seccomp:\t2'], 2]);
  });

  test('a program that is not there or not given is told in one line', async () => {
    const missing = await run(['engine', '/nowhere']);
    assert.deepEqual(
      [missing.code, missing.err],
      [1, 'containerd-shim-spin-v2 engine: cannot run "/nowhere": No such file or directory\n'],
    );
    const none = await run(['engine']);
    assert.equal(none.code, 1);
    assert.match(none.err, /^containerd-shim-spin-v2 engine: no program given; give it as .*\n$/);
  });

  test('the program is in the network namespace that it is given', async () => {
    const other = spawn('unshare', ['--net', 'sleep', 'infinity']);
    try {
      const path = `/proc/${other.pid}/ns/net`;
      const own = readlinkSync('/proc/self/ns/net');
      const theirs = await waitFor('the namespace', () => readlinkSync(path) !== own && readlinkSync(path));
      const link = ['-p', "process.getBuiltinModule('fs').readlinkSync('/proc/self/ns/net')"];
      const { code, out } = await run(['engine', '-netns', path, process.execPath, ...link]);
      assert.deepEqual([code, String(out).trim()], [0, theirs]);
    } finally {
      other.kill('SIGKILL');
    }
  });

  test('a label or a namespace that cannot be taken, or another flag, is told in one line', async () => {
    const cases: readonly (readonly [args: readonly string[], reason: RegExp])[] = [
      [
        ['-label', 'nobody:has:this:s0'],
        /cannot take the SELinux label "nobody:has:this:s0": Invalid argument; /,
      ],
      [['-netns', '/nowhere'], /cannot open the network namespace "\/nowhere": No such file/],
      [
        ['-netns', '/proc/self/ns/uts'],
        /cannot enter the network namespace "\/proc\/self\/ns\/uts": Invalid/,
      ],
      [['-other'], /unknown flag "-other"; the flags are -label and -netns/],
    ];
    for (const [args, reason] of cases)
      assertFailure(await run(['engine', ...args, process.execPath, '-e', '']), reason);
  });
});
