import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ShimError } from '../../error.ts';
import { InstanceScope } from '../scope.ts';
import { createFilesystem } from './filesystem.ts';
import { can } from './filesystem-access.ts';
import type { Descriptor } from './filesystem-descriptor.ts';
import { maxPathLength, splitPath, staysWithin } from './filesystem-path.ts';
import { openPreopens, type Preopens } from './filesystem-preopens.ts';
import { maxFileOffset, maxTransferBytes } from './filesystem-stream.ts';
import { IoError, SourceFailure } from './io.ts';

let base = '';
let root = '';
let scope = new InstanceScope();
let opened: Preopens[] = [];

/** A descriptor of `root`, as a guest gets it. */
function directory(
  options: { writable?: boolean; maxOpenFiles?: number; in?: InstanceScope } = {},
): Descriptor {
  const preopens = openPreopens([{ source: root, destination: '/' }], {
    writable: options.writable === true,
  });
  opened.push(preopens);
  const grant =
    options.maxOpenFiles === undefined ? { preopens } : { preopens, maxOpenFiles: options.maxOpenFiles };
  const interfaces = createFilesystem(grant, options.in ?? scope);
  const { getDirectories } = interfaces.get('wasi:filesystem/preopens') as {
    getDirectories(): [Descriptor, string][];
  };
  const [entry] = getDirectories();
  assert.ok(entry);
  return entry[0];
}

/** Asserts that a call fails with one of the WIT codes. */
function refuses(operation: () => unknown, ...codes: string[]): void {
  let thrown: unknown = 'nothing was thrown';
  try {
    operation();
  } catch (error) {
    thrown = error;
  }
  assert.ok(codes.includes(String(thrown)), `${operation} gave ${thrown}, not ${codes.join(' or ')}`);
}

function text(descriptor: Descriptor): string {
  return Buffer.from(descriptor.read(1000n, 0n)[0]).toString();
}

function names(descriptor: Descriptor): string[] {
  const stream = descriptor.readDirectory();
  const found: string[] = [];
  for (let entry = stream.readDirectoryEntry(); entry !== undefined; entry = stream.readDirectoryEntry()) {
    found.push(`${entry.type} ${entry.name}`);
  }
  stream[Symbol.dispose]();
  return found.sort();
}

function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

const follow = { symlinkFollow: true };
const read = { read: true };
const readWrite = { read: true, write: true };

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'wasi-fs-'));
  root = join(base, 'root');
  scope = new InstanceScope();
  opened = [];
  mkdirSync(join(root, 'sub', 'deep'), { recursive: true });
  writeFileSync(join(root, 'file'), 'inside');
  writeFileSync(join(root, 'sub', 'nested'), 'nested');
  writeFileSync(join(base, 'secret'), 'secret');
  symlinkSync('file', join(root, 'link'));
  symlinkSync('sub', join(root, 'dirlink'));
  symlinkSync('../secret', join(root, 'out'));
  symlinkSync('..', join(root, 'up'));
  symlinkSync(join(base, 'secret'), join(root, 'absolute'));
  symlinkSync('loop', join(root, 'loop'));
  symlinkSync('nowhere', join(root, 'dangling'));
});

afterEach(() => {
  scope.end(new Error('the test is over'));
  for (const preopens of opened) preopens.close();
  rmSync(base, { recursive: true });
});

describe('reading', () => {
  it('opens, reads at an offset and tells the end of the file', () => {
    const file = directory().openAt(follow, 'file', {}, read);
    assert.deepEqual(file.read(3n, 0n), [Buffer.from('ins'), false]);
    assert.deepEqual(file.read(100n, 3n), [Buffer.from('ide'), true]);
    assert.equal(file.read(0n, 0n)[1], false);
    assert.deepEqual(file.read(1n, 6n), [Buffer.alloc(0), true]);
    assert.equal(file.getType(), 'regular-file');
    assert.equal(file.getFlags().read, true);
    assert.equal(file.stat().size, 6n);
    file.advise();
  });

  it('moves at most one transfer and refuses offsets beyond the largest', () => {
    writeFileSync(join(root, 'large'), Buffer.alloc(maxTransferBytes + 1, 7));
    const file = directory().openAt({}, 'large', {}, read);
    assert.equal(file.read(2n ** 64n - 1n, 0n)[0].length, maxTransferBytes);
    assert.equal(file.read(2n ** 64n - 1n, 0n)[1], false);
    assert.equal(file.read(1n, BigInt(maxFileOffset))[1], true);
    refuses(() => file.read(1n, BigInt(maxFileOffset) + 1n), 'invalid');
    refuses(() => file.readViaStream(2n ** 64n - 1n), 'invalid');
  });

  it('streams a file, also after its descriptor was dropped', async () => {
    const before = openFds();
    const file = directory().openAt({}, 'file', {}, read);
    const stream = file.readViaStream(2n);
    file[Symbol.dispose]();
    assert.equal(Buffer.from(await stream.blockingRead(100n)).toString(), 'side');
    assert.throws(
      () => stream.read(1n),
      (error) => (error as { tag: string }).tag === 'closed',
    );
    stream[Symbol.dispose]();
    stream[Symbol.dispose]();
    opened.pop()?.close();
    scope.end(new Error('over'));
    assert.equal(openFds(), before);
  });

  it('lists a directory without "." and ".."', () => {
    const sub = directory().openAt({}, 'sub', { directory: true }, read);
    assert.deepEqual(names(sub), ['directory deep', 'regular-file nested']);
    assert.equal(sub.getType(), 'directory');
    assert.deepEqual(names(directory()).filter((name) => name.startsWith('symbolic-link')).length, 7);
  });

  it('refuses names that are not UTF-8, entry by entry', () => {
    writeFileSync(Buffer.concat([Buffer.from(`${root}/sub/`), Buffer.from([0xff])]), '');
    refuses(() => names(directory().openAt({}, 'sub', {}, read)), 'illegal-byte-sequence');
  });

  it('tells what is there, with and without following the final symlink', () => {
    const top = directory();
    assert.equal(top.statAt({}, 'link').type, 'symbolic-link');
    assert.equal(top.statAt(follow, 'link').type, 'regular-file');
    assert.equal(top.statAt({}, 'dirlink/nested').size, 6n);
    assert.equal(top.readlinkAt('link'), 'file');
    utimesSync(join(root, 'file'), 1.5, 2.25);
    const stat = top.statAt({}, 'file');
    assert.deepEqual(stat.dataModificationTimestamp, { seconds: 2n, nanoseconds: 250_000_000 });
    assert.deepEqual(stat.dataAccessTimestamp, { seconds: 1n, nanoseconds: 500_000_000 });
    execFileSync('touch', ['-d', '@-5', join(root, 'file')]);
    assert.equal(top.statAt({}, 'file').dataModificationTimestamp, undefined);
  });

  it('knows an object by its identity, not by its name', () => {
    linkSync(join(root, 'file'), join(root, 'twin'));
    const top = directory();
    const [one, two] = [top.openAt({}, 'file', {}, read), top.openAt({}, 'twin', {}, read)];
    assert.equal(one.isSameObject(two), true);
    assert.equal(one.isSameObject(top), false);
    assert.deepEqual(one.metadataHash(), top.metadataHashAt(follow, 'link'));
    assert.notDeepEqual(one.metadataHash(), top.metadataHashAt({}, 'link'));
  });

  it('answers each wrong use with its code', () => {
    const top = directory();
    const file = top.openAt({}, 'file', {}, read);
    refuses(() => top.openAt({}, 'missing', {}, read), 'no-entry');
    refuses(() => top.openAt({}, '', {}, read), 'no-entry');
    refuses(() => top.openAt({}, 'file/', {}, read), 'not-directory');
    refuses(() => top.openAt({}, 'file/x', {}, read), 'not-directory');
    refuses(() => top.openAt({}, 'file', { directory: true }, read), 'not-directory');
    refuses(() => top.openAt({}, 'link', {}, read), 'loop');
    refuses(() => top.openAt(follow, 'loop', {}, read), 'loop');
    refuses(() => top.openAt({}, 'x'.repeat(256), {}, read), 'name-too-long');
    refuses(() => top.openAt({}, 'x'.repeat(maxPathLength + 1), {}, read), 'name-too-long');
    refuses(() => top.openAt({}, 'file\0', {}, read), 'invalid');
    refuses(() => top.read(1n, 0n), 'bad-descriptor');
    refuses(() => top.readViaStream(0n), 'bad-descriptor');
    refuses(() => file.readDirectory(), 'not-directory');
    refuses(() => file.openAt({}, 'x', {}, read), 'not-directory');
    refuses(() => file.statAt({}, ''), 'not-directory');
  });
});

describe('a path out of the directory', () => {
  const ways = [
    '../secret',
    'sub/../../secret',
    '/etc/passwd',
    'out',
    'absolute',
    'up/secret',
    'dirlink/../up/secret',
    'up',
    '..',
    '/',
    'sub/deep/../../..',
    'out/',
    './up/./root/../secret',
  ];

  for (const writable of [false, true]) {
    it(`is refused by every call that takes one (writable: ${writable})`, () => {
      const top = directory({ writable });
      const sub = top.openAt({}, 'sub', {}, read);
      for (const way of ways) {
        refuses(() => top.openAt(follow, way, {}, read), 'not-permitted');
        refuses(() => top.openAt(follow, way, { directory: true }, read), 'not-permitted');
        refuses(() => top.statAt(follow, way), 'not-permitted');
        refuses(() => top.metadataHashAt(follow, way), 'not-permitted');
        refuses(() => top.readlinkAt(`${way}/x`), 'not-permitted');
        refuses(() => top.openAt(follow, way, { create: true }, readWrite), 'not-permitted');
        refuses(() => top.openAt(follow, way, { truncate: true }, readWrite), 'not-permitted');
        refuses(() => top.setTimesAt(follow, way, { tag: 'now' }, { tag: 'now' }), 'not-permitted');
        for (const path of [`${way}/x`, `${way}/secret`]) {
          refuses(() => top.createDirectoryAt(path), 'not-permitted');
          refuses(() => top.unlinkFileAt(path), 'not-permitted');
          refuses(() => top.removeDirectoryAt(path), 'not-permitted');
          refuses(() => top.symlinkAt('file', path), 'not-permitted');
          refuses(() => top.renameAt('file', top, path), 'not-permitted');
          refuses(() => top.renameAt(path, top, 'stolen'), 'not-permitted');
          refuses(() => top.linkAt({}, 'file', top, path), 'not-permitted');
          refuses(() => top.linkAt({}, path, top, 'stolen'), 'not-permitted');
        }
      }
      refuses(() => sub.openAt(follow, '../file', {}, read), 'not-permitted');
      assert.equal(existsSync(join(root, 'stolen')), false);
      assert.equal(readFileSync(join(base, 'secret'), 'utf8'), 'secret');
      assert.deepEqual(readdirSync(base).sort(), ['root', 'secret']);
    });
  }

  it('cannot be made by the guest', () => {
    const top = directory({ writable: true });
    refuses(() => top.symlinkAt('/etc/passwd', 'mine'), 'not-permitted');
    refuses(() => top.symlinkAt('../secret', 'mine'), 'not-permitted');
    refuses(() => top.symlinkAt('../../secret', 'sub/mine'), 'not-permitted');
    refuses(() => top.symlinkAt('a\0b', 'mine'), 'invalid');
    top.symlinkAt('../file', 'sub/mine');
    assert.equal(text(top.openAt(follow, 'sub/mine', {}, read)), 'inside');
    refuses(() => top.readlinkAt('absolute'), 'not-permitted');
    // A hard link is to the symlink itself, a slash behind it does not change that.
    top.linkAt({}, 'out', top, 'out2');
    assert.equal(lstatSync(join(root, 'out2')).isSymbolicLink(), true);
    refuses(() => top.openAt(follow, 'out2', {}, read), 'not-permitted');
    refuses(() => top.linkAt({}, 'absolute/', top, 'stolen'), 'not-directory');
    refuses(() => top.linkAt(follow, 'out', top, 'stolen'), 'invalid');
  });

  it('stays closed when the directory it started from is moved', () => {
    const top = directory({ writable: true });
    const deep = top.openAt({}, 'sub/deep', {}, read);
    top.renameAt('sub/deep', top, 'deep');
    refuses(() => deep.openAt(follow, '../file', {}, read), 'not-permitted');
  });
});

describe('devices and FIFOs', () => {
  it('are refused without being opened', () => {
    execFileSync('mkfifo', [join(root, 'fifo')]);
    const top = directory({ writable: true });
    // Opening it for real would block the thread for good.
    refuses(() => top.openAt({}, 'fifo', {}, read), 'not-permitted');
    refuses(() => top.openAt({}, 'fifo', { create: true }, readWrite), 'not-permitted');
    assert.equal(top.statAt({}, 'fifo').type, 'fifo');
  });
});

describe('a read-only directory', () => {
  it('refuses every call that would change something', () => {
    const top = directory();
    const file = top.openAt({}, 'file', {}, read);
    const other = directory({ writable: true });
    const now = { tag: 'now' } as const;
    const calls: (() => unknown)[] = [
      () => top.openAt({}, 'new', { create: true }, read),
      () => top.openAt({}, 'file', { truncate: true }, read),
      () => top.openAt({}, 'file', { create: true, exclusive: true }, read),
      () => top.openAt({}, 'file', {}, readWrite),
      () => top.openAt({}, 'sub', { directory: true }, { mutateDirectory: true }),
      () => top.createDirectoryAt('new'),
      () => top.removeDirectoryAt('sub/deep'),
      () => top.unlinkFileAt('file'),
      () => top.symlinkAt('file', 'new'),
      () => top.linkAt({}, 'file', top, 'new'),
      () => top.linkAt({}, 'file', other, 'new'),
      () => other.linkAt({}, 'file', top, 'new'),
      () => top.renameAt('file', top, 'new'),
      () => top.renameAt('file', other, 'new'),
      () => other.renameAt('file', top, 'new'),
      () => top.setTimes(now, now),
      () => top.setTimesAt({}, 'file', now, now),
      () => file.setTimes(now, now),
      () => file.setSize(0n),
      () => file.write(Buffer.from('x'), 0n),
      () => file.writeViaStream(0n),
      () => file.appendViaStream(),
    ];
    const before = execFileSync('ls', ['-lRi', '--time-style=full-iso', root]).toString();
    for (const call of calls) refuses(call, 'not-permitted');
    file.sync();
    file.syncData();
    assert.equal(execFileSync('ls', ['-lRi', '--time-style=full-iso', root]).toString(), before);
    assert.equal(readFileSync(join(root, 'file'), 'utf8'), 'inside');
    assert.deepEqual([top.getFlags().read, top.getFlags().mutateDirectory], [true, false]);
  });

  it('has one gate, which knows what a descriptor was opened for', () => {
    const file = { kind: 'file', flags: { read: true }, writable: true } as const;
    const folder = { kind: 'directory', flags: { read: true }, writable: false } as const;
    assert.equal(can(file, 'read-file'), true);
    assert.equal(can({ ...file, flags: { write: true } }, 'read-file'), 'bad-descriptor');
    assert.equal(can(file, 'write-file'), 'bad-descriptor');
    assert.equal(can({ ...file, writable: false }, 'write-file'), 'not-permitted');
    assert.equal(can({ ...file, flags: { write: true } }, 'write-file'), true);
    assert.equal(can(folder, 'write-file'), 'bad-descriptor');
    assert.equal(can(folder, 'look-up'), true);
    assert.equal(can(file, 'look-up'), 'not-directory');
    assert.equal(can(folder, 'change-directory'), 'not-permitted');
    assert.equal(can({ ...folder, writable: true }, 'change-directory'), true);
    assert.equal(can(file, 'change-directory'), 'not-directory');
    assert.equal(can(folder, 'change-metadata'), 'not-permitted');
  });
});

describe('a writable directory', () => {
  it('creates, writes, truncates and removes files', () => {
    const top = directory({ writable: true });
    const file = top.openAt({}, 'new', { create: true, exclusive: true }, readWrite);
    assert.equal(file.write(Buffer.from('hello world'), 0n), 11n);
    file.setSize(5n);
    assert.equal(text(file), 'hello');
    file.sync();
    file.syncData();
    top.sync();
    refuses(() => top.openAt({}, 'new', { create: true, exclusive: true }, readWrite), 'exist');
    refuses(() => top.openAt({}, 'dangling', { create: true, exclusive: true }, readWrite), 'exist');
    refuses(() => top.openAt({}, 'new', { create: true, directory: true }, readWrite), 'invalid');
    refuses(() => top.openAt({}, 'sub', {}, readWrite), 'is-directory');
    refuses(() => file.setSize(2n ** 63n), 'invalid');
    const onlyWrite = top.openAt({}, 'new', { truncate: true }, { write: true });
    refuses(() => onlyWrite.read(1n, 0n), 'bad-descriptor');
    assert.equal(file.stat().size, 0n);
    top.unlinkFileAt('new');
    assert.equal(existsSync(join(root, 'new')), false);
    refuses(() => top.unlinkFileAt('sub'), 'is-directory');
    refuses(() => top.unlinkFileAt('file/'), 'not-directory');
  });

  it('writes through streams, at an offset and at the end', async () => {
    const top = directory({ writable: true });
    const file = top.openAt({}, 'file', {}, readWrite);
    const over = file.writeViaStream(2n);
    await over.blockingWriteAndFlush(Buffer.from('SI'));
    const [one, two] = [file.appendViaStream(), file.appendViaStream()];
    file[Symbol.dispose]();
    await one.blockingWriteAndFlush(Buffer.from('-1'));
    await two.blockingWriteAndFlush(Buffer.from('-2'));
    assert.equal(readFileSync(join(root, 'file'), 'utf8'), 'inSIde-1-2');
    for (const stream of [over, one, two]) stream[Symbol.dispose]();
  });

  it('makes, moves and removes directories and links', () => {
    const top = directory({ writable: true });
    top.createDirectoryAt('made/');
    top.renameAt('made/', top, 'sub/moved/');
    assert.equal(statSync(join(root, 'sub', 'moved')).isDirectory(), true);
    top.removeDirectoryAt('dirlink/moved/');
    refuses(() => top.removeDirectoryAt('sub'), 'not-empty');
    refuses(() => top.removeDirectoryAt('dirlink'), 'not-directory');
    refuses(() => top.removeDirectoryAt('sub/.'), 'invalid');
    refuses(() => top.createDirectoryAt('file'), 'exist');
    top.linkAt({}, 'file', top.openAt({}, 'sub', {}, read), 'twin');
    assert.equal(readFileSync(join(root, 'sub', 'twin'), 'utf8'), 'inside');
    refuses(() => top.renameAt('file/', top, 'x'), 'not-directory');
    top.unlinkFileAt('link');
    assert.equal(existsSync(join(root, 'file')), true);
    assert.equal(readlinkSync(join(root, 'out')), '../secret');
    top.unlinkFileAt('out');
    assert.equal(readFileSync(join(base, 'secret'), 'utf8'), 'secret');
  });

  it('sets times of files, directories and symlinks themselves', () => {
    const top = directory({ writable: true });
    const at = (seconds: bigint) =>
      ({ tag: 'timestamp', val: { seconds, nanoseconds: 500_000_000 } }) as const;
    top.setTimesAt({}, 'link', at(10n), at(20n));
    assert.deepEqual(
      [lstatSync(join(root, 'link')).mtimeMs, lstatSync(join(root, 'link')).atimeMs],
      [20_500, 10_500],
    );
    assert.ok(statSync(join(root, 'file')).mtimeMs > 1e12);
    top.setTimesAt(follow, 'link', at(30n), { tag: 'no-change' });
    assert.equal(statSync(join(root, 'file')).atimeMs, 30_500);
    assert.ok(statSync(join(root, 'file')).mtimeMs > 1e12);
    const sub = top.openAt({}, 'sub', {}, read);
    sub.setTimes({ tag: 'no-change' }, at(40n));
    assert.equal(statSync(join(root, 'sub')).mtimeMs, 40_500);
    sub.setTimes({ tag: 'no-change' }, { tag: 'now' });
    assert.ok(statSync(join(root, 'sub')).mtimeMs > 1e12);
    const wrong = { tag: 'timestamp', val: { seconds: 0n, nanoseconds: 1e9 } } as const;
    refuses(() => sub.setTimes(wrong, wrong), 'invalid');
  });
});

describe('what a guest makes the host hold', () => {
  it('is limited in open files, and given back', () => {
    const top = directory({ maxOpenFiles: 2 });
    const one = top.openAt({}, 'file', {}, read);
    const listing = top.readDirectory();
    refuses(() => top.openAt({}, 'file', {}, read), 'quota');
    refuses(() => top.readDirectory(), 'quota');
    one[Symbol.dispose]();
    one[Symbol.dispose]();
    const two = top.openAt({}, 'file', {}, read);
    refuses(() => top.openAt({}, 'file', {}, read), 'quota');
    listing[Symbol.dispose]();
    refuses(() => top.openAt({}, 'missing', {}, read), 'no-entry');
    top.openAt({}, 'file', {}, read);
    two[Symbol.dispose]();
  });

  it('is limited in handles without leaking a descriptor', () => {
    const small = new InstanceScope({ maxHandles: 2, maxHeldBytes: 0 });
    const top = directory({ in: small });
    const file = top.openAt({}, 'file', {}, read);
    const before = openFds();
    for (const call of [
      () => top.openAt({}, 'file', {}, read),
      () => top.readDirectory(),
      () => file.readViaStream(0n),
    ]) {
      assert.throws(call, ShimError);
    }
    assert.equal(openFds(), before);
    small.end(new Error('over'));
  });

  it('is closed with the scope, and what was closed is not used again', () => {
    const before = openFds();
    const top = directory();
    const file = top.openAt({}, 'file', {}, read);
    top.openAt({}, 'sub', {}, read).readDirectory();
    file.readViaStream(0n);
    scope.end(new Error('over'));
    assert.equal(openFds(), before + 1, 'only the preopen is open');
    assert.throws(() => file.read(1n, 0n), /after it was closed/);
    assert.throws(() => top.openAt({}, 'file', {}, read), /over/);
    file[Symbol.dispose]();
    top[Symbol.dispose]();
    top[Symbol.dispose]();
    assert.equal(openFds(), before + 1, 'dropping twice does not take the preopen away from others');
    opened.pop()?.close();
    assert.equal(openFds(), before);
  });
});

describe('preopens', () => {
  it('name what cannot be mounted', () => {
    const mount = (source: string, destination = '/') => openPreopens([{ source, destination }]);
    assert.throws(() => mount(join(base, 'missing')), /cannot mount ".*missing" at "\/".*ENOENT/);
    assert.throws(() => mount(join(root, 'file')), /ENOTDIR/);
    assert.throws(() => mount(root, 'relative'), /must be an absolute path/);
    const before = openFds();
    const twice = { source: root, destination: '/data' };
    assert.throws(() => openPreopens([twice, twice]), /two directories are mounted at "\/data"/);
    assert.equal(openFds(), before);
  });

  it('give each call descriptors of its own', () => {
    const preopens = openPreopens([
      { source: root, destination: '/' },
      { source: join(root, 'sub'), destination: '/data' },
    ]);
    opened.push(preopens);
    const { getDirectories } = createFilesystem({ preopens }, scope).get('wasi:filesystem/preopens') as {
      getDirectories(): [Descriptor, string][];
    };
    const [first, second] = [getDirectories(), getDirectories()];
    assert.deepEqual(
      first.map(([, path]) => path),
      ['/', '/data'],
    );
    first[0]?.[0][Symbol.dispose]();
    assert.equal(second[0]?.[0].statAt({}, 'file').size, 6n);
  });
});

describe('filesystem-error-code', () => {
  it('finds the code of a failed stream operation', () => {
    const { filesystemErrorCode } = createFilesystem({ preopens: { list: [], close: () => {} } }, scope).get(
      'wasi:filesystem/types',
    ) as { filesystemErrorCode(error: IoError): string | undefined };
    let cause: unknown;
    try {
      readFileSync(root);
    } catch (error) {
      cause = error;
    }
    assert.equal(filesystemErrorCode(new SourceFailure(cause)), 'is-directory');
    assert.equal(filesystemErrorCode(new SourceFailure(new Error('of another kind'))), undefined);
    assert.equal(filesystemErrorCode(new IoError('another')), undefined);
  });
});

describe('splitPath and staysWithin', () => {
  it('cut a path before its final name', () => {
    assert.deepEqual(splitPath('a//b///'), { parent: 'a//', name: 'b', trailingSlash: true });
    assert.deepEqual(splitPath('b'), { parent: '', name: 'b', trailingSlash: false });
    for (const path of ['.', '..', 'a/..', 'a/./']) refuses(() => splitPath(path), 'invalid');
    for (const path of ['/', '/a', '//']) refuses(() => splitPath(path), 'not-permitted');
    refuses(() => splitPath(''), 'no-entry');
  });

  it('count how far a relative target climbs', () => {
    assert.equal(staysWithin('a/b/link', '../../x'), true);
    assert.equal(staysWithin('a/b/link', '../../../x'), false);
    assert.equal(staysWithin('a/../link', '../x'), false);
    assert.equal(staysWithin('link', 'x/../y'), true);
    assert.equal(staysWithin('link', 'x/../../y'), false);
  });
});
