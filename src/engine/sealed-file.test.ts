import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { appendFile, chmod, link, open, readFile, rename, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { type CheckedFile, type OpenOptions, SealedFile, writeSealed } from './sealed-file.ts';
import { temporaryFolder } from './test-engine.ts';

const key = Buffer.alloc(32, 1);
const label = 'a file';
const payload = Buffer.alloc(100_000, 'payload ');
const options: OpenOptions = { key: () => key, label, maxBytes: 1_000_000 };
/** For one who must not need to check. */
const keyless: OpenOptions = { ...options, key: () => assert.fail('the seal is checked') };

async function sealedFile(t: TestContext): Promise<{ path: string; known: CheckedFile }> {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'file');
  const known = await writeSealed(path, key, label, [payload]);
  assert.ok(known !== undefined);
  // Until a change has another time: kernels before 6.13 count some milliseconds as one.
  const { ctimeNs } = await stat(path, { bigint: true });
  const other = join(folder, 'other');
  do await writeFile(other, '');
  while ((await stat(other, { bigint: true })).ctimeNs === ctimeNs);
  return { path, known };
}

/** Opens a file, holds its payload against what was sealed, and gives what it is known by. */
function checkedOf(path: string, how: OpenOptions): CheckedFile | undefined {
  const file = SealedFile.open(path, how);
  assert.ok(file.payload.equals(payload));
  file.release();
  return file.checked;
}

/** What this process has of a file: descriptors and mappings. */
function holdsOf(path: string): readonly string[] {
  const fds = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return [...fds, ...maps.filter((line) => line.endsWith(path))];
}

test('a file that is known is mapped and not checked; released, nothing is left of it', async (t) => {
  const { path, known } = await sealedFile(t);
  assert.deepEqual(checkedOf(path, options), known);
  assert.deepEqual(holdsOf(path), []);
  const file = SealedFile.open(path, { ...keyless, known });
  assert.equal(holdsOf(path).length, 2);
  assert.ok(file.payload.equals(payload));
  assert.equal(file.placeOf(file.payload.subarray(7)), 39);
  file.release();
  assert.equal(file.payload.length, 0);
  file.release();
  assert.deepEqual(holdsOf(path), []);
});

test('a file that is known and cannot be mapped is read and checked', async (t) => {
  const { known } = await sealedFile(t);
  const folder = import.meta.dirname;
  const script = `
    import { bpf, callAnswers, callOffsets, encodeBpf } from ${JSON.stringify(join(folder, '../bpf.ts'))};
    import { installSeccompFilter } from ${JSON.stringify(join(folder, '../linux-rights.ts'))};
    import { machine, systemCallNumber } from ${JSON.stringify(join(folder, '../system-calls.ts'))};
    import { SealedFile } from ${JSON.stringify(join(folder, 'sealed-file.ts'))};
    const options = { label: ${JSON.stringify(label)}, maxBytes: 1_000_000, known: ${JSON.stringify(known)} };
    const open = (key) => {
      let checked = 'not checked';
      const file = SealedFile.open(options.known.path, { ...options, key: () => { checked = 'checked'; return key; } });
      const outcome = [checked, file.isMappable(), file.payload.toString().length, file.checked?.identity === options.known.identity];
      file.release();
      return outcome;
    };
    const before = open(Buffer.alloc(32, 1));
    // mmap of a descriptor that is one.
    installSeccompFilter(encodeBpf([
      [bpf.load, callOffsets.number],
      [bpf.jumpEqual, systemCallNumber('mmap', machine), 0, 3],
      [bpf.load, callOffsets.argument(4)],
      [bpf.jumpEqual, 0xffffffff, 1, 0],
      [bpf.give, callAnswers.fail(13)],
      [bpf.give, callAnswers.allow],
    ]), false);
    let refusal = '';
    try { open(Buffer.alloc(32, 2)); } catch (error) { refusal = error.code; }
    console.log(JSON.stringify([before, open(Buffer.alloc(32, 1)), refusal]));`;
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...['--no-warnings', '--input-type=module', '-e', script],
  ]);
  assert.deepEqual(JSON.parse(stdout), [
    ['not checked', true, payload.length, true],
    ['checked', false, payload.length, true],
    'data-loss',
  ]);
});

test('a descriptor that was taken stays open', async (t) => {
  const { path, known } = await sealedFile(t);
  for (const how of [options, { ...keyless, known }]) {
    const file = SealedFile.open(path, how);
    const fd = file.takeDescriptor();
    file.release();
    assert.deepEqual(holdsOf(path), [String(fd)]);
    await (await open(`/proc/self/fd/${fd}`)).close();
    closeSync(fd);
  }
});

/** What makes another file of it, or the same one anew: each time its seal is checked. */
const changes: readonly (readonly [name: string, change: (path: string) => Promise<unknown>])[] = [
  [
    'the same bytes in another file',
    async (path) => {
      await writeFile(`${path}.x`, await readFile(path), { mode: 0o600 });
      const { atime, mtime } = await stat(path);
      await utimes(`${path}.x`, atime, mtime);
      await rename(`${path}.x`, path);
    },
  ],
  [
    'the same bytes once more, and the times set back',
    async (path) => {
      const { atime, mtime } = await stat(path);
      await writeFile(path, await readFile(path));
      await utimes(path, atime, mtime);
    },
  ],
  ['rights given and taken', (path) => chmod(path, 0o644).then(() => chmod(path, 0o600))],
  ['another name', (path) => link(path, `${path}.y`)],
  ['another time', (path) => utimes(path, 1000, 1000)],
];

for (const [name, change] of changes) {
  test(`a file that is known is checked after a change: ${name}`, async (t) => {
    const { path, known } = await sealedFile(t);
    await change(path);
    assert.throws(() => SealedFile.open(path, { ...keyless, known }), /the seal is checked/);
    checkedOf(path, { ...options, known });
    assert.equal(holdsOf(path).length, 0);
  });
}

test('a file that is known is refused once it is changed', async (t) => {
  const { path, known } = await sealedFile(t);
  await appendFile(path, 'x');
  assert.throws(() => SealedFile.open(path, { ...options, known }), { code: 'data-loss', message: /seal/ });
});

test('a file that was written to a moment ago is not known: the next change may leave its times as they are', async (t) => {
  const { path } = await sealedFile(t);
  await writeFile(path, await readFile(path));
  assert.equal(checkedOf(path, options), undefined);
});

test('that a file was used is noted once an hour, and it is known all the same', async (t) => {
  const { path } = await sealedFile(t);
  for (const seconds of [1000, Date.now() / 1000 + 7200]) {
    await utimes(path, seconds, seconds);
    const first = checkedOf(path, options);
    // A time to come tells nothing: the next writing may have it.
    assert.equal(first === undefined, seconds > 1000);
    const how = first === undefined ? options : { ...keyless, known: first };
    const noted = checkedOf(path, { ...how, touch: true });
    assert.notEqual(noted?.identity, first?.identity);
    const usedAt = (await stat(path)).mtimeMs;
    assert.ok(Math.abs(Date.now() - usedAt) < 3_600_000);
    assert.deepEqual(checkedOf(path, { ...keyless, touch: true, known: noted }), noted);
    assert.equal((await stat(path)).mtimeMs, usedAt);
  }
});
