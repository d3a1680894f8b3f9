import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { EventStream } from './support/ctr.ts';
import type { Pod } from './support/pod.ts';
import { SpinNode } from './support/spin-node.ts';
import { Terminal } from './support/terminal.ts';
import { waitFor } from './support/wait.ts';

describe('exec into a Spin container', { timeout: 240_000 }, () => {
  let node: SpinNode;
  let pod: Pod;
  let events: EventStream;

  const exec = (command: readonly string[], timeoutSec?: number) =>
    node.cri.execSync(pod.containerId, command, timeoutSec);

  const started = (): number => events.all.filter(({ topic }) => topic === '/tasks/exec-started').length;

  before(async () => {
    node = await SpinNode.start(['hello', 'rust-http']);
    events = await node.containerd.ctr().events();
    pod = await node.run({
      name: 'exec',
      image: node.image('hello'),
      container: { envs: { COLOUR: 'green' } },
    });
  });

  after(async () => {
    await events.stop();
    await node.removePods();
    await node.stop();
  });

  test('commands, probes and hooks run through CRI with their own exit codes', async () => {
    const env = await exec(['env']);
    assert.equal(env.exitCode, 0);
    assert.match(`${env.stdout}`, /^COLOUR=green$/m);
    const probe = ['curl', '-fsS', '-o', '/dev/null', 'http://localhost/.well-known/spin/health'];
    assert.deepEqual(await exec(probe), { exitCode: 0, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) });
    const failing = await exec(['/bin/sh', '-c', 'curl -f localhost/.well-known/spin/nothing || exit 9']);
    assert.equal(failing.exitCode, 9);
    assert.equal((await exec(['/bin/sh', '-c', 'sleep 0.1'])).exitCode, 0);
    const unknown = await exec(['/bin/bash', '-c', 'nonsense']);
    assert.deepEqual([unknown.exitCode, `${unknown.stdout}`], [127, '']);
    assert.match(`${unknown.stderr}`, /^nonsense: not found;/);
    assert.match(`${(await exec(['ps'])).stdout}`, /serving/);
  });

  test('a command that takes too long is killed', async () => {
    await assert.rejects(exec(['sleep', '1000'], 1), /timeout 1s exceeded/);
    assert.equal((await exec(['true'])).exitCode, 0);
  });

  test('twenty at once', async () => {
    const ends = await Promise.all(
      Array.from({ length: 20 }, (_, index) => exec(['sh', '-c', `sleep 0.1; exit ${index}`])),
    );
    assert.deepEqual(
      ends.map(({ exitCode }) => exitCode),
      Array.from({ length: 20 }, (_, index) => index),
    );
  });

  test('each exec is added, started and exits once', async () => {
    const told = (topic: string): readonly string[] =>
      events.all
        .filter((event) => event.topic === topic && event.payload.container_id === pod.containerId)
        .map(({ payload }) => String(payload.exec_id ?? payload.id));
    const exits = await waitFor('all exits to be told', () => {
      const added = told('/tasks/exec-added');
      const ended = told('/tasks/exit');
      return added.length > 20 && ended.length === added.length && { added, ended };
    });
    assert.deepEqual(new Set(exits.ended), new Set(exits.added));
    assert.equal(new Set(exits.ended).size, exits.ended.length);
    assert.deepEqual(told('/tasks/exec-started').toSorted(), exits.added.toSorted());
  });

  test('ctr gives a terminal, its size, input and an exit code', async () => {
    const ctr = ['--address', node.containerd.address, '--namespace', 'k8s.io', 'task', 'exec'];
    const script = ['sh', '-c', 'echo "to  and fro" | grep -c and; exit 5'];
    const plain = await run('ctr', [...ctr, '--exec-id', 'plain', pod.containerId, ...script]);
    assert.deepEqual(plain, { code: 5, output: '1\n' });
    const copy = await run('ctr', [...ctr, '--exec-id', 'copy', pod.containerId, 'cat'], 'in and out\n');
    assert.deepEqual(copy, { code: 0, output: 'in and out\n' });
    const inside = ['ctr', ...ctr, '--tty', '--exec-id', 'typed', pod.containerId, 'sh'].join(' ');
    const typed = await run('script', ['-qec', inside, '/dev/null'], 'routes\rexit 6\r', '$ ');
    // The terminal of "script" adds returns of its own to ours.
    assert.match(typed.output, /"help" lists its commands\.\r+\n/);
    assert.match(typed.output, /Available Routes:\r+\n/);
    assert.equal(typed.code, 6);
  });

  test('large arguments come whole, and so does a large output on a terminal', async () => {
    const letters = 60_000;
    const { stdout } = await exec(['echo', 'a'.repeat(letters)]);
    assert.equal(`${stdout}`, `${'a'.repeat(letters)}\n`);
    const options = ['--address', node.containerd.address, '--namespace', 'k8s.io'];
    const command = [...options, 'task', 'exec', '--tty', '--exec-id', 'large', pod.containerId, 'echo'];
    const { code, output } = await run('script', [
      '-qec',
      ['ctr', ...command, 'b'.repeat(letters)].join(' '),
      '/dev/null',
    ]);
    assert.deepEqual([code, output.replaceAll('\r', '')], [0, `${'b'.repeat(letters)}\n`]);
  });

  test('a terminal of another size is known to the shell', async () => {
    const options = ['--address', node.containerd.address, '--namespace', 'k8s.io'];
    const inside = [...options, 'task', 'exec', '--tty', '--exec-id', 'resized', pod.containerId, 'sh'].join(
      ' ',
    );
    const terminal = new Terminal(`stty cols 101 rows 31; ctr ${inside}`);
    await terminal.shows('$ ');
    await terminal.typeUntil('echo size=$COLUMNS,$LINES', 'size=101,31');
    await terminal.resize(77, 22);
    await terminal.typeUntil('echo size=$COLUMNS,$LINES', 'size=77,22');
    terminal.type('exit 4\r');
    assert.equal(await terminal.exitCode(), 4);
  });

  test('output goes to a file or a log driver, if the client wants that', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'spinshim-exec-'));
    t.after(() => rm(folder, { recursive: true }));
    const ctr = ['--address', node.containerd.address, '--namespace', 'k8s.io', 'task', 'exec'];
    const file = join(folder, 'deeper', 'log');
    const lines = ['sh', '-c', 'echo "out of it"; nonsense'];
    const logged = [...ctr, '--log-uri', `file://${file}`];
    const missing = await run('ctr', [...logged, '--exec-id', 'filed', pod.containerId, ...lines]);
    assert.equal(missing.code, 127);
    assert.match(readFileSync(file, 'utf8'), /^out of it\nnonsense: not found;.*\n$/);
    await run('ctr', [...logged, '--exec-id', 'filed', pod.containerId, 'echo', 'once more']);
    assert.match(readFileSync(file, 'utf8'), /^out of it\nnonsense.*\nonce more\n$/);

    const [driver, log] = [join(folder, 'driver'), join(folder, 'driven')];
    const program =
      '#!/bin/sh\nexec 5>&-\ncat <&3 >"$2.out" &\ncat <&4 >"$2.err"\nwait\necho "$CONTAINER_ID" >"$2.id"\n';
    await writeFile(driver, program, { mode: 0o755 });
    const driven = [...ctr, '--log-uri', `binary://${driver}?to=${log}`, '--exec-id', 'driven'];
    assert.equal((await run('ctr', [...driven, pod.containerId, ...lines])).code, 127);
    assert.equal(readFileSync(`${log}.out`, 'utf8'), 'out of it\n');
    assert.match(readFileSync(`${log}.err`, 'utf8'), /^nonsense: not found;/);
    assert.equal(readFileSync(`${log}.id`, 'utf8'), 'driven\n');
  });

  test('the sandbox says where to exec instead', async () => {
    const ctr = ['--address', node.containerd.address, '--namespace', 'k8s.io', 'task', 'exec'];
    const { code, output } = await run('ctr', [...ctr, '--exec-id', 'box', pod.id, 'sh']);
    assert.notEqual(code, 0);
    assert.match(output, /exec into a container of the pod/);
  });

  test('works while the container drains, and ends with it', async () => {
    const draining = await node.run({ name: 'draining', image: node.image('rust-http') });
    const inDrain = (command: readonly string[], timeoutSec?: number) =>
      node.cri.execSync(draining.containerId, command, timeoutSec);
    const held = connect(draining.port, draining.ip);
    held.write('POST /echo HTTP/1.1\r\nHost: drain\r\nContent-Length: 5\r\n\r\nab');
    await waitFor('the request to be in flight', async () =>
      /POST/.test(`${(await inDrain(['ps'])).stdout}`),
    );
    const stopped = draining.stop(60);
    await waitFor('the door to be closed', () =>
      draining.request('/').then(
        () => false,
        () => true,
      ),
    );
    assert.match(`${(await inDrain(['ps'])).stdout}`, /POST/);
    assert.equal((await inDrain(['sh', '-c', 'exit 3'])).exitCode, 3);
    const before = started();
    const long = inDrain(['sleep', '1000'], 60);
    await waitFor('the command to run', () => started() > before);
    held.end('cde');
    await stopped;
    assert.equal((await draining.status()).exit_code, 0);
    assert.equal((await long).exitCode, 137);
    held.destroy();
    await draining.remove();
  });

  test('what runs in a container ends with it', async () => {
    const before = started();
    const long = exec(['sleep', '1000'], 60);
    await waitFor('the command to run', () => started() > before);
    await pod.stop(5);
    assert.equal((await pod.status()).exit_code, 0);
    assert.equal((await long).exitCode, 137);
  });
});

/** Runs a program to its end with an input, which is given once `after` was printed; both outputs together. */
function run(
  command: string,
  args: readonly string[],
  input = '',
  after = '',
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(command, [...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let isGiven = false;
  const give = (): void => {
    if (isGiven || !output.includes(after)) return;
    isGiven = true;
    // A terminal that closes would hang up: its shell ends by itself.
    if (after === '') child.stdin.end(input);
    else child.stdin.write(input);
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk;
      give();
    });
  }
  give();
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}
