import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LogJournal } from './log-journal.ts';

test('lines go out as the journal reads them: a header, then each line with its priority', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'journal-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'stdout');
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  t.after(() => server.close());
  const journal = new LogJournal('spinshim', path);
  journal.write('time="t" level=error instance=a msg="broken"\n');
  journal.write('time="t" level=info msg="fine"\n');
  const [socket] = (await once(server, 'connection')) as [Socket];
  journal.close();
  let text = '';
  for await (const chunk of socket.setEncoding('utf8')) text += String(chunk);
  assert.equal(
    text,
    'spinshim\n\n6\n1\n0\n0\n0\n<3>time="t" level=error instance=a msg="broken"\n<6>time="t" level=info msg="fine"\n',
  );
});

test('a machine without a journal loses nothing but the lines', () => {
  const journal = new LogJournal('spinshim', '/nowhere/stdout');
  journal.write('level=info msg="x"\n');
  journal.write('level=info msg="y"\n');
  journal.close();
});
