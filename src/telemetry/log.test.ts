import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LogHub, parseLogLevel } from './log.ts';
import { LogFifo } from './log-fifo.ts';
import { LogFile } from './log-file.ts';
import { formatLogLine, maxFieldLength } from './log-line.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-log-'));
after(() => rmSync(folder, { recursive: true }));

test('a record is one line with the message last', () => {
  const record = new Map<string, unknown>([
    ['level', 'info'],
    ['time', '2026-01-01T00:00:00.000Z'],
    ['pid', 7],
    ['msg', 'a "b"\nc'],
    ['pod', 'p'],
    ['instance', 'i'],
    ['err', { message: 'no good' }],
  ]);
  assert.equal(
    formatLogLine(record),
    'time="2026-01-01T00:00:00.000Z" level=info instance=i pod=p pid=7 err="no good" msg="a \\"b\\"\\nc"\n',
  );
});

test('a value is cut at its limit', () => {
  assert.equal(formatLogLine(new Map([['a', 'x'.repeat(maxFieldLength)]])).length, maxFieldLength + 3);
  assert.match(formatLogLine(new Map([['a', 'x'.repeat(maxFieldLength + 1)]])), /…"\n$/);
});

test('a task gets the lines that name it, the host all', () => {
  const all: string[] = [];
  const ofTask: string[] = [];
  const hub = new LogHub('info', { write: (line) => all.push(line) });
  hub.addTask('a', { write: (line) => ofTask.push(line) });
  hub.logger.child({ instance: 'a', pod: 'p' }).info('one');
  hub.logger.info({ instance: 'b' }, 'two');
  hub.logger.debug('three');
  hub.removeTask('a');
  hub.logger.info({ instance: 'a' }, 'four');
  assert.equal(all.length, 3);
  assert.equal(ofTask.length, 1);
  assert.match(ofTask[0] ?? '', / level=info instance=a pod=p msg="one"\n$/);
});

test('environments are never written', () => {
  const all: string[] = [];
  const { logger } = new LogHub('info', { write: (line) => all.push(line) });
  logger.info({ env: { KEY: 'hidden' }, spec: { env: ['KEY=hidden'] } }, 'x');
  assert.doesNotMatch(all.join(''), /hidden/);
});

test('levels are known by name', () => {
  assert.equal(parseLogLevel('DEBUG'), 'debug');
  assert.equal(parseLogLevel('loud'), undefined);
  assert.equal(parseLogLevel(undefined), undefined);
});

test('a log file is set aside when it is full', () => {
  const path = join(folder, 'log');
  const file = new LogFile(path, 10);
  for (const line of ['12345\n', '6789\n', 'abcdefghijkl\n', 'x\n']) file.write(line);
  file.close();
  assert.equal(readFileSync(path, 'utf8'), 'x\n');
  assert.equal(readFileSync(`${path}.1`, 'utf8'), 'abcdefghijkl\n');
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('a FIFO that nobody reads loses lines and holds nobody up', () => {
  const path = join(folder, 'fifo');
  execFileSync('mkfifo', [path]);
  const fifo = LogFifo.open(path);
  assert.ok(fifo !== undefined);
  for (let index = 0; index < 100; index++) fifo.write('x'.repeat(4096));
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  assert.equal(readSync(reader, Buffer.alloc(4096)), 4096);
  closeSync(reader);
  fifo.close();
});

test('what is no FIFO is not opened', () => {
  assert.equal(LogFifo.open(join(folder, 'log')), undefined);
  assert.equal(LogFifo.open(join(folder, 'none')), undefined);
  assert.equal(existsSync(join(folder, 'none')), false);
});
