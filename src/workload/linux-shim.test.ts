import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findLinuxShim, LinuxShim } from './linux-shim.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-linux-'));
const name = 'containerd-shim-runc-v2';
const never = new AbortController().signal;
let count = 0;

after(() => rmSync(folder, { recursive: true }));

/** A shim that is a shell script, in a folder of its own. */
function script(text: string): string {
  const directory = join(folder, String(count++));
  mkdirSync(directory);
  const path = join(directory, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

function shim(text: string, debug = false): LinuxShim {
  const site = {
    address: '/c.sock',
    ttrpcAddress: '/c.ttrpc',
    namespace: 'k8s.io',
    publishBinary: '/bin/c',
    debug,
  };
  return new LinuxShim(script(text), site, 'c1', folder);
}

test('the shim beside containerd comes before those on the PATH, and a named one before both', () => {
  const [beside, onPath] = [script(''), script('')];
  const PATH = `relative:${join(onPath, '..')}`;
  const publishBinary = join(beside, '..', 'containerd');
  assert.equal(findLinuxShim({ publishBinary }, { PATH }), beside);
  assert.equal(findLinuxShim({ publishBinary: '/nowhere/containerd' }, { PATH }), onPath);
  assert.equal(findLinuxShim({ publishBinary }, { PATH, SPINSHIM_LINUX_SHIM: onPath }), onPath);
});

test('a node without one is told what is missing', () => {
  const message =
    /Linux container, and the shim .* is not in any of "\/nowhere".*install "containerd-shim-runc-v2"/;
  assert.throws(() => findLinuxShim({ publishBinary: '' }, { PATH: '/nowhere' }), {
    code: 'not-found',
    message,
  });
  assert.throws(() => findLinuxShim({ publishBinary: '' }, { SPINSHIM_LINUX_SHIM: 'relative' }), {
    message: /is not at "relative"/,
  });
});

test('start is called as containerd calls it', async () => {
  const text =
    'echo "$@"; pwd; cat; echo; echo "$TTRPC_ADDRESS $GRPC_ADDRESS $NAMESPACE $NODE_COMPILE_CACHE"; echo noise >&2';
  process.env.NODE_COMPILE_CACHE ??= join(folder, 'cache');
  const answer = await shim(text).start(
    { directory: folder, name: 'pod', input: Buffer.from('options') },
    never,
  );
  assert.deepEqual(answer.toString().split('\n'), [
    '-namespace k8s.io -address /c.sock -publish-binary /bin/c -id pod start',
    folder,
    'options',
    '/c.ttrpc /c.sock k8s.io ',
    '',
  ]);
});

test('delete is told the bundle and works in it', async () => {
  const answer = await shim('echo "$@"; pwd', true).delete();
  const flags = `-namespace k8s.io -address /c.sock -publish-binary /bin/c -id c1 -bundle ${folder} -debug delete`;
  assert.equal(answer.toString(), `${flags}\n${folder}\n`);
});

test('a verb that fails is an error with what it said', async () => {
  await assert.rejects(shim('echo no room >&2; exit 3').delete(), {
    code: 'internal',
    message: /delete ended with exit code 3: no room$/,
  });
  await assert.rejects(shim('echo on stdout; exit 1').delete(), /exit code 1: on stdout$/);
  await assert.rejects(shim('kill -9 $$').delete(), /ended with SIGKILL: it said nothing/);
  const gone = shim('');
  rmSync(gone.binary);
  await assert.rejects(gone.delete(), { code: 'unavailable' });
});

test('an answer without end is cut off', async () => {
  await assert.rejects(shim('exec yes').delete(), /answered more than 65536 bytes/);
});

test('input that nobody reads does no harm', async () => {
  assert.equal(
    (
      await shim('echo ok').start({ directory: folder, name: 'pod', input: Buffer.alloc(1 << 20) }, never)
    ).toString(),
    'ok\n',
  );
});

test('a start whose caller goes away is given up', async () => {
  const controller = new AbortController();
  const started = shim('exec sleep 1000').start(
    { directory: folder, name: 'pod', input: Buffer.alloc(0) },
    controller.signal,
  );
  controller.abort();
  await assert.rejects(started, { code: 'unavailable', message: /given up/ });
  await assert.rejects(
    shim('exec sleep 1000').start(
      { directory: folder, name: 'pod', input: Buffer.alloc(0) },
      controller.signal,
    ),
    /given up/,
  );
});
