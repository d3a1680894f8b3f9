import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import type { EventStream } from './support/ctr.ts';
import type { Pod } from './support/pod.ts';
import { SpinNode } from './support/spin-node.ts';
import { waitFor } from './support/wait.ts';

describe('exec into a Spin container', { timeout: 240_000 }, () => {
  let node: SpinNode;
  let pod: Pod;
  let events: EventStream;

  const exec = (command: readonly string[], timeoutSec?: number) =>
    node.cri.execSync(pod.containerId, command, timeoutSec);

  before(async () => {
    node = await SpinNode.start(['hello']);
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

  test('the sandbox says where to exec instead', async () => {
    const ctr = ['--address', node.containerd.address, '--namespace', 'k8s.io', 'task', 'exec'];
    const { code, output } = await run('ctr', [...ctr, '--exec-id', 'box', pod.id, 'sh']);
    assert.notEqual(code, 0);
    assert.match(output, /exec into a container of the pod/);
  });

  test('what runs in a container ends with it', async () => {
    const started = (): number => events.all.filter(({ topic }) => topic === '/tasks/exec-started').length;
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
