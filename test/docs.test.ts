import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '..');

/** Shortest piece of a message that says something about where it comes from, in characters. */
const minPiece = 6;

function textOf(...patterns: readonly string[]): string {
  const files = patterns.flatMap((pattern) => globSync(pattern, { cwd: root }));
  return files
    .filter((file) => !file.endsWith('.test.ts'))
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n');
}

/** First cells of the tables of a page whose head says that they show what is seen. */
function seenCells(page: string): string[] {
  const cells: string[] = [];
  let inTable = false;
  for (const line of page.split('\n')) {
    if (!line.startsWith('|')) inTable = false;
    else if (line.startsWith('| what is seen |')) inTable = true;
    else if (inTable && !line.startsWith('| --- |')) cells.push(line.slice(2, line.indexOf(' | ')));
  }
  return cells;
}

test('every message that the troubleshooting page shows is in the sources', () => {
  // C writes quotes of its strings with a backslash.
  const sources = textOf('src/**/*.ts', 'shim-binary/*.c').replaceAll('\\"', '"');
  const cells = seenCells(readFileSync(join(root, 'docs', 'troubleshooting.md'), 'utf8'));
  assert.ok(cells.length > 30, `${cells.length} rows`);
  for (const cell of cells.filter((text) => !/(containerd|Docker)'s words/.test(text))) {
    for (const [, message = ''] of cell.matchAll(/`([^`]+)`/g)) {
      for (const piece of message.split('…').map((text) => text.replace(/^[" ]+|[" ]+$/g, ''))) {
        if (piece.length >= minPiece) assert.ok(sources.includes(piece), `"${piece}" of "${message}"`);
      }
    }
  }
});

test('links between the pages lead somewhere', () => {
  const pages = globSync('{README.md,docs/**/*.md,deploy/README.md,fixtures/README.md,src/ttrpc/README.md}', {
    cwd: root,
  });
  assert.ok(pages.length > 10);
  for (const page of pages) {
    const text = readFileSync(join(root, page), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      assert.ok(existsSync(join(root, dirname(page), target)), `"${page}" links to "${target}"`);
    }
  }
});
