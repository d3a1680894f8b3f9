import assert from 'node:assert/strict';
import { constants, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { isLogDriver } from './log-driver.ts';
import { TaskStdio } from './stdio.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-driver-'));
after(() => rmSync(folder, { recursive: true }));

/** A driver as a shell script, and a folder for the container that has it. */
function driver(
  name: string,
  script: string,
): { readonly uri: string; readonly directory: string; log(): string } {
  const directory = join(folder, name);
  mkdirSync(directory);
  const path = join(directory, 'driver');
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const log = (): string => readFileSync(join(directory, 'log'), 'utf8');
  return { uri: `binary://${path}?to=${encodeURIComponent(join(directory, 'log'))}&plain`, directory, log };
}

function openWith(uri: string, directory: string): Promise<TaskStdio> {
  return TaskStdio.open({ stdin: '', stdout: uri, stderr: uri }, { id: 'c1', namespace: 'n1', directory });
}

/** Copies descriptors 3 and 4 to the file named by its second argument, once it has said that it is ready. */
const copying = `exec >"$2"
echo "args $1 $3, container $CONTAINER_ID in $CONTAINER_NAMESPACE"
exec 5>&-
sed 's/^/out: /' <&3 &
sed 's/^/err: /' <&4
wait`;

describe('a log driver', () => {
  test('is told by its scheme', () => {
    assert.ok(isLogDriver('binary:///usr/bin/x?a=b') && isLogDriver('binary-v2:///x'));
    assert.ok(!isLogDriver('fifo:///x') && !isLogDriver('/binary://x') && !isLogDriver('binary-v3:///x'));
  });

  test('gets both streams, its arguments and nothing of our environment, and has read all at the end', async () => {
    const { uri, directory, log } = driver('copies', `${copying}\nenv | sort >"$2.env"`);
    const stdio = await openWith(uri, directory);
    for (const [output, text] of [
      [stdio.stdout, 'one\ntwo\n'],
      [stdio.stderr, 'three\n'],
    ] as const) {
      assert.ok(output.kind === 'fifo');
      const writer = await open(output.path, constants.O_RDWR | constants.O_NONBLOCK);
      await writer.write(text);
      await writer.close();
    }
    stdio.writeReason('it broke');
    await stdio.close();
    const [head, ...lines] = log().trim().split('\n');
    assert.equal(head, 'args to plain, container c1 in n1');
    assert.deepEqual(lines.sort(), ['err: it broke', 'err: three', 'out: one', 'out: two']);
    const names = readFileSync(join(directory, 'log.env'), 'utf8').replaceAll(/=.*/g, '').trim().split('\n');
    // PWD and what else the shell itself sets besides.
    assert.deepEqual(
      names.filter((name) => !['PWD', '_', 'SHLVL', 'OLDPWD'].includes(name)),
      ['CONTAINER_ID', 'CONTAINER_NAMESPACE'],
    );
  });

  test('that says it is ready by a byte is not waited for longer', async () => {
    const { uri, directory, log } = driver('byte', 'printf x >&5; cat <&3 >"$2"; cat <&4 >>"$2"');
    const stdio = await openWith(uri.replace('binary:', 'binary-v2:'), directory);
    stdio.writeReason('late');
    await stdio.close();
    assert.equal(log(), 'late\n');
  });

  test('that fails or is no program is refused with what it said', async () => {
    const failing = driver('fails', 'echo "no such volume" >&2; exit 3');
    await assert.rejects(
      openWith(failing.uri, failing.directory),
      /log driver ".*" ended with exit code 3: no such volume/,
    );
    const { directory } = driver('none', '');
    await assert.rejects(openWith('binary:///no/such/program', directory), /cannot be started: .*ENOENT/);
  });

  test('without an absolute path is refused', async () => {
    for (const [index, uri] of ['binary://', 'binary://host/path', 'binary:///'].entries()) {
      const { directory } = driver(`path-${index}`, '');
      await assert.rejects(openWith(uri, directory), { code: 'invalid-argument' });
    }
  });
});
