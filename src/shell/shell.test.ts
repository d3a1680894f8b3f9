import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { defaultKeyValueFile } from '../engine/app-settings.ts';
import { fixtures, prepareApp, temporaryFolder } from '../engine/test-engine.ts';
import { TestShell } from './test-shell.ts';

/** Bytes of a file that no pipe holds. */
const bigBytes = 4 * 1024 * 1024;

const redText = '\x1b[31mred';

describe('the debug shell of an app', { timeout: 30_000 }, () => {
  let shell: TestShell;
  let stateDir: string;
  const undos: (() => unknown)[] = [];
  const outside = createServer((request, response) => {
    response.end(`outside got ${request.method} ${request.url}\n`);
  });

  before(async () => {
    const t = { after: (undo: () => unknown) => void undos.unshift(undo) };
    const folder = await temporaryFolder(t);
    await new Promise<void>((resolve) => outside.listen(0, '127.0.0.1', resolve));
    const { port } = outside.address() as AddressInfo;
    const prepared = await prepareApp(
      folder,
      `spin_manifest_version = 2
[application]
name = "shop"
version = "1.0.0"
[variables]
greeting = { default = "hello" }
token = { required = true, secret = true }
[[trigger.http]]
route = "/..."
component = "front"
[component.front]
source = "hello.wasm"
files = [{ source = "static", destination = "/static" }]
environment = { MODE = "test" }
key_value_stores = ["default"]
allowed_outbound_hosts = ["http://127.0.0.1:${port}"]
[component.front.variables]
word = "{{ greeting }} world"
secret_word = "x{{ token }}x"
`,
      {
        'hello.wasm': join(fixtures, 'hello', 'hello.wasm'),
        'static/note.txt': Buffer.from('one\ntwo\nthree\n'),
        'static/escape.txt': Buffer.from(redText),
        'static/big.bin': Buffer.alloc(bigBytes, 'x'),
        'static/deep/er.txt': Buffer.from('deep'),
      },
    );
    stateDir = join(folder, 'state');
    await mkdir(stateDir);
    shell = await TestShell.start(t, prepared, {
      stateDir,
      environment: [
        ['SPIN_VARIABLE_TOKEN', 'hunter2'],
        ['PLAIN', 'a b'],
      ],
    });
  });
  after(async () => {
    outside.close();
    for (const undo of undos) await undo();
  });

  const environment = [
    ['SPIN_VARIABLE_TOKEN', 'hunter2'],
    ['TOKEN', 'hunter2'],
    ['PLAIN', 'a  b'],
  ] as const;
  const sh = async (script: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await shell.sh(script, { environment });
    return `${stdout}${stderr}[${exitCode}]`;
  };

  test('commands run by name and by path, with exit codes of their own', async () => {
    assert.deepEqual(await shell.run(['/bin/echo', 'a  b']), { exitCode: 0, stdout: 'a  b\n', stderr: '' });
    assert.equal((await shell.run(['true'])).exitCode, 0);
    assert.equal((await shell.run(['/usr/bin/false'])).exitCode, 1);
    const unknown = await shell.run(['psql', '-c', 'x']);
    assert.equal(unknown.exitCode, 127);
    assert.match(unknown.stderr, /^psql: not found; .*help.*\n$/);
    assert.match(
      (await shell.run(['tar', 'cf', '-', '/x'])).stderr,
      /^tar: there is no tar, so "kubectl cp"/,
    );
    assert.match((await shell.run(['sql'])).stderr, /no sqlite host in this version/);
    assert.equal((await shell.run([])).exitCode, 127);
  });

  test('scripts have quotes, variables, conditions and exit codes', async () => {
    assert.equal(await sh(`echo "$PLAIN" '$PLAIN' $PLAIN; echo $?`), 'a  b $PLAIN a b\n0\n[0]');
    assert.equal(await sh('false && echo no || echo yes; ! true; echo $?'), 'yes\n1\n[0]');
    assert.equal(await sh('sleep 0.01; exit 7; echo never'), '[7]');
    assert.equal(await sh('X=1 Y="b c"; echo $X$Y $' + '{Z:-none} "$' + '{NONE}"'), '1b c none \n[0]');
    assert.equal(await sh('sh -c "exit 3"; echo $?; exec echo last; echo never'), '3\nlast\n[0]');
    assert.equal((await shell.run(['sh', '-ec', 'false || true; false; echo never'])).exitCode, 1);
    assert.equal(await sh('echo a > /dev/null; nothing 2>/dev/null; echo $? 2>&1'), '127\n[0]');
    assert.match(await sh('echo a > /tmp/x'), /redirection "> \/tmp\/x" to a file.*\[2\]$/s);
    assert.match(await sh('for x in a; do echo; done'), /"for" is not part of this shell/);
    assert.match(await sh('echo $(date)'), /is not part of this shell/);
    assert.match(await sh('exit x'), /exit code "x" is no number/);
  });

  test('pipes end in small filters', async () => {
    assert.equal(await sh('cat /static/note.txt | grep t'), 'two\nthree\n[0]');
    assert.equal(await sh('cat /static/note.txt | grep -c e | wc -l'), '1\n[0]');
    assert.equal(
      await sh('cat /static/note.txt | head -n 1; cat /static/note.txt | tail -1'),
      'one\nthree\n[0]',
    );
    assert.equal(await sh('echo a | grep -q b && echo yes'), '[1]');
  });

  test('files are those of the guests, and nothing else', async () => {
    assert.equal(await sh('ls'), 'static\n[0]');
    assert.equal(
      await sh('ls /static /static/deep/er.txt'),
      'front:/static:\nbig.bin\ndeep\nescape.txt\nnote.txt\nfront:/static/deep/er.txt:\n/static/deep/er.txt\n[0]',
    );
    assert.match(await sh('ls -l /static'), /^file +14 +20.*note\.txt$/m);
    assert.match(await sh('cat /etc/passwd'), /"\/etc\/passwd" is not there\n\[1\]$/);
    assert.match(await sh('cat /static/../../../etc/passwd'), /is not there/);
    assert.match(await sh('cat /static'), /"\/static" is a directory/);
    assert.match(
      await sh('cat -c nobody /x'),
      /component "nobody" is not there; the app has "front"\n\[2\]$/,
    );
  });

  test('conditions are about texts, numbers and files', async () => {
    const yes = [
      '-z ""',
      '-n x',
      'x',
      'a = a',
      'a != b',
      '2 -lt 10',
      '! 1 -eq 2',
      '-f /static/note.txt',
      '-d /static',
      '-e /',
    ];
    for (const condition of yes)
      assert.equal(await sh(`test ${condition} && [ ${condition} ]`), '[0]', condition);
    for (const condition of ['', '-n ""', 'a = b', '-f /static', '-e /etc/passwd', '10 -le 9'])
      assert.equal(await sh(`test ${condition}`), '[1]', condition);
    for (const condition of ['-x /', 'a -eq 1', 'a ~ b', 'a b c d'])
      assert.match(await sh(`test ${condition}`), /\[2\]$/);
    assert.match(await sh('[ a'), /a "\]" is missing\n\[2\]$/);
  });

  test('secrets are hidden wherever a value is shown', async () => {
    const everything = await sh('env; echo $TOKEN $SPIN_VARIABLE_TOKEN; vars; printenv TOKEN; env -c front');
    assert.doesNotMatch(everything, /hunter2/);
    assert.match(everything, /^SPIN_VARIABLE_TOKEN=\(secret\)$/m);
    assert.match(everything, /^\(secret\) \(secret\)$/m);
    assert.match(everything, /^front +word +hello world$/m);
    assert.match(everything, /^front +secret_word +\(secret\)$/m);
    assert.match(everything, /^MODE=test$/m);
  });

  test('key-value stores are those the manifest grants', async () => {
    assert.equal(
      await sh('kv set k "a value"; kv get k; kv list; kv exists k; echo $?'),
      'a value\nk\n0\n[0]',
    );
    assert.equal(await sh('echo piped | kv set p; kv get p; kv delete p; kv exists p'), 'piped\n[1]');
    assert.equal(await sh('kv delete k; kv list; kv get k'), 'kv: no key "k"\n[1]');
    assert.match(
      await sh('kv -s other list'),
      /store "other" is not in "key_value_stores" .*granted are "default"/,
    );
  });

  test('the app is asked without the network of the node', async () => {
    const port = shell.engine.base.slice(shell.engine.base.lastIndexOf(':') + 1);
    assert.match(await sh('curl /'), /^Hello from Spin!.*\[0\]$/s);
    assert.match(await sh(`curl -fsS -o /dev/null http://localhost:${port}/ && echo well`), /^well\n\[0\]$/);
    assert.match(await sh('curl -i /.well-known/spin/health'), /^HTTP 200\n.*OK/s);
    assert.match(await sh('curl -I /'), /^HTTP 200\n/);
    assert.match(await sh('wget -q -O - / | head -n 1'), /^Hello from Spin!\n\[0\]$/);
    assert.equal(await sh('wget -q --spider /.well-known/spin/health && echo up'), 'up\n[0]');
    assert.match(await sh('wget /'), /"-O -" prints it\n\[2\]$/);
    assert.match(await sh('wget -qO- /.well-known/spin/nothing'), /the answer was \d+\n\[8\]$/);
    assert.match(await sh('curl -f /.well-known/spin/nothing'), /the answer was \d+\n\[22\]$/);
    assert.match(
      await sh(`routes`),
      new RegExp(`Serving http://127.0.0.1:${port}\\n.*front: .*wildcard`, 's'),
    );
  });

  test('outside of the app is what its allow list says', async () => {
    const { port } = outside.address() as AddressInfo;
    assert.equal(await sh(`curl http://127.0.0.1:${port}/x?y`), 'outside got GET /x?y\n[0]');
    assert.equal(await sh(`curl -d a=b http://127.0.0.1:${port}/x`), 'outside got POST /x\n[0]');
    const refused = await sh('curl https://example.com/');
    assert.match(
      refused,
      /component "front" tried to reach "https:\/\/example.com", which its manifest does not allow/,
    );
    assert.match(refused, /a guest would get the error "HTTP-request-denied"\n\[7\]$/);
    assert.match(await sh('curl --no-such /'), /option "--no-such" is not known here\n\[2\]$/);
    assert.match(await sh('curl -s ftp://x/'), /^\[3\]$/);
  });

  test('the workers tell what they do', async () => {
    assert.match(
      await sh('ps'),
      /^WORKER +STATE.*\n\d+ +serving .*\n\nWORKER +COMPONENT.*\n\d+ +front +\d+\n\[0\]$/,
    );
    assert.match(await sh('heap'), /^WORKER +USED.*\n\d+ +\d+\.\d MiB/);
    assert.match(await sh('top -n 1'), /^WORKER +STATE +CPU .*\n\d+ +serving +\d+ %/);
    assert.match(await sh('profile 50ms'), /^0\.\d s sampled, busy \d+ %\nSELF MS/);
    const { stdout } = await shell.run(['profile', '20ms', '--json']);
    assert.ok(Array.isArray(JSON.parse(stdout).nodes));
  });

  test('a trace shows requests as they end', async () => {
    const trace = shell.exec(['trace', 'on', '-n', '2']);
    while (!trace.complaint.includes('tracing')) await new Promise(setImmediate);
    await fetch(`${shell.engine.base}/some/path?secret=1`);
    await fetch(`${shell.engine.base}/.well-known/spin/health`);
    const { exitCode, stdout } = await trace.outcome();
    assert.equal(exitCode, 0);
    assert.match(stdout, /^[\d:.]+ 200 [\d.]+ ms GET \/some\/path → front\n/);
    assert.doesNotMatch(stdout, /secret/);
  });

  test('a command is ended by signals, with their exit codes', async () => {
    for (const [signal, exitCode] of [
      [15, 143],
      [9, 137],
    ] as const) {
      const exec = shell.exec(['sleep', '1000']);
      exec.running.signal(28);
      exec.running.signal(signal);
      assert.equal((await exec.outcome()).exitCode, exitCode);
    }
  });

  test('the input is a script, or that of a command', async () => {
    const script = shell.exec(['sh']);
    script.type('echo one; false\necho $?\n');
    script.type('exit 4\necho never\n');
    script.end();
    assert.deepEqual(await script.outcome(), { exitCode: 4, stdout: 'one\n1\n', stderr: '' });
    const copy = shell.exec(['cat']);
    copy.type('to and fro\n');
    copy.end();
    assert.equal((await copy.outcome()).stdout, 'to and fro\n');
  });

  test('a reader that takes nothing holds the command up, and a kill ends it', async () => {
    const slow = shell.exec(['cat', '/static/big.bin']);
    slow.pause();
    slow.end();
    await slow.pending();
    slow.running.signal(9);
    assert.equal(await slow.running.exited, 137);
    slow.resume();
    assert.ok((await slow.outcome()).stdout.length < bigBytes);
    assert.equal((await shell.run(['cat', '/static/big.bin'])).stdout.length, bigBytes);
  });

  test('a terminal has a prompt, a history, Ctrl-C and an end', async () => {
    const exec = shell.exec(['sh'], { terminal: true, environment });
    await exec.until((output) => output.endsWith('shop $ '));
    exec.type('echo fir\x7f\x7f\x7fslow\r');
    await exec.until((output) => output.includes('slow\r\nslow\r\n'));
    exec.type('sleep 1000\r');
    await exec.until((output) => output.includes('sleep 1000\r\n'));
    exec.type('\x03');
    await exec.until((output) => output.includes('^C\r\n\r\x1b[Kshop $ '));
    exec.type('echo $?\r');
    await exec.until((output) => output.includes('\r\n130\r\n'));
    exec.type('\x1b[A\x1b[A\x01\x1b[C\x15\x0b');
    exec.type('cat /static/escape.txt\r');
    await exec.until((output) => output.includes('\\x1b[31mred'));
    exec.type('hea\t');
    await exec.until((output) => output.includes('head  heap'));
    exec.running.resize({ columns: 30, rows: 10 });
    exec.type('\x15exit 9\r');
    const { exitCode, stdout } = await exec.outcome();
    assert.equal(exitCode, 9);
    assert.doesNotMatch(stdout, /[^\r]\n/);
    assert.ok(!stdout.includes(redText));
  });

  test('the end of the input ends a shell at a terminal, and what runs in it', async () => {
    const idle = shell.exec(['sh'], { terminal: true });
    await idle.until((output) => output.endsWith('shop $ '));
    idle.type('\x04');
    assert.equal((await idle.outcome()).exitCode, 0);
    const gone = shell.exec(['sleep', '1000'], { terminal: true });
    gone.end();
    assert.equal((await gone.outcome()).exitCode, 129);
  });

  test('twenty at once, each with its own streams', async () => {
    const runs = Array.from({ length: 20 }, (_, index) =>
      shell.sh(`sleep 0.05; echo ${index}; exit ${index}`),
    );
    const ends = (await Promise.all(runs)).map(({ exitCode, stdout }) => `${exitCode} ${stdout.trim()}`);
    assert.deepEqual(
      ends,
      Array.from({ length: 20 }, (_, index) => `${index} ${index}`),
    );
  });

  test('a shell that hangs is ended by SIGKILL, with all that runs in it; the next one has a new thread', async () => {
    assert.equal(await sh('kv set hang 1'), '[0]');
    const database = new DatabaseSync(join(stateDir, defaultKeyValueFile));
    try {
      database.exec('BEGIN EXCLUSIVE');
      const other = shell.exec(['sleep', '1000']);
      // SQLite waits for the lock within one call: the thread does nothing else meanwhile.
      const hanging = shell.exec(['kv', 'set', 'hang', '2']);
      hanging.running.signal(9);
      const ends = await Promise.all([hanging.running.exited, other.running.exited]);
      assert.deepEqual(ends, [137, 137]);
    } finally {
      database.close();
    }
    assert.equal(await sh('kv get hang'), '1\n[0]');
  });

  test('a shell that ends with its engine tells 137', async () => {
    const exec = shell.exec(['sleep', '1000']);
    shell.engine.process.signal('SIGKILL');
    assert.equal(await exec.running.exited, 137);
    assert.throws(() => shell.exec(['true']), { code: 'unavailable' });
  });
});
