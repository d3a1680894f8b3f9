import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { startPhases } from './cold-start.ts';
import { allDrawn } from './plots.ts';
import { fillIn, generatedFiles, referenceFile } from './report.ts';
import { readResults } from './results.ts';

test('the committed document and plots say what the committed results say', async () => {
  for (const [path, content] of await generatedFiles(await readResults(referenceFile)))
    assert.equal(await readFile(path, 'utf8'), content, `"${path}" is stale: run "node bench/report.ts"`);
});

test('a section is put between its marks, and what stood there is gone', () => {
  const text = 'a\n<!-- begin x -->\nold\n<!-- end x -->\nb';
  assert.equal(fillIn(text, new Map([['x', 'new']])), 'a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb');
  assert.throws(() => fillIn(text, new Map([['y', 'new']])), /begin y/);
  assert.throws(() => fillIn(`${text}${text}`, new Map([['x', 'new']])), /exactly one/);
});

test('every phase of a start has one place in the plot', () => {
  assert.deepEqual([...allDrawn].sort(), [...startPhases].sort());
});
