/**
 * Names of keys in documents: which known key an unknown one was probably meant to be, and how a key is written
 * in a path such as `component."my id".files[2]`.
 */

/** Longest key (UTF-16 units) that is compared or quoted whole; longer ones are cut. */
export const maxQuotedKeyLength = 64;

/** Furthest edit distance at which a known key is still suggested. */
const maxSuggestedDistance = 3;

/** Levenshtein distance with two rows; cost is the product of the lengths, so callers bound them. */
function editDistance(left: string, right: string): number {
  let previous = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const substituted = (previous[column - 1] ?? 0) + (left[row - 1] === right[column - 1] ? 0 : 1);
      current.push(Math.min(substituted, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[right.length] ?? 0;
}

/** The known key nearest to `key` by edit distance (case and `-`/`_` count as nothing), or undefined if none is near. */
export function nearestKey(key: string, known: readonly string[]): string | undefined {
  if (key.length > maxQuotedKeyLength) return undefined;
  const folded = key.toLowerCase().replaceAll('-', '_');
  let best: string | undefined;
  let bestDistance = Math.min(maxSuggestedDistance, Math.ceil(folded.length / 2)) + 1;
  for (const candidate of known) {
    const distance = editDistance(folded, candidate.toLowerCase().replaceAll('-', '_'));
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best;
}

/** Quotes a value of a document for an error text: JSON escapes, cut to a length that fits a line. */
export function quoted(value: string): string {
  return JSON.stringify(value.length > maxQuotedKeyLength ? `${value.slice(0, maxQuotedKeyLength)}…` : value);
}

/** Appends a key (dotted, quoted where it is not bare) or an index to the path of a value in a document. */
export function childPath(parent: string, key: string | number): string {
  if (typeof key === 'number') return `${parent}[${key}]`;
  const written = /^[A-Za-z0-9_-]+$/.test(key) && key.length <= maxQuotedKeyLength ? key : quoted(key);
  return parent === '' ? written : `${parent}.${written}`;
}
