import { ShimError } from '../error.ts';
import { quoted } from './manifest-key.ts';

type Token =
  | { readonly kind: 'literal'; readonly character: string }
  | { readonly kind: 'any' }
  | { readonly kind: 'star' }
  | {
      readonly kind: 'class';
      readonly negated: boolean;
      readonly ranges: readonly (readonly [string, string])[];
    };

/** One part of a pattern between slashes. */
type Segment = { readonly kind: 'globstar' } | { readonly kind: 'name'; readonly tokens: readonly Token[] };

/**
 * Positions in a pattern that a path walked so far has reached. Walking keeps all of them at once, so the cost of a
 * path is its length times the pattern's, whatever the pattern.
 */
export type GlobPositions = readonly number[];

/**
 * A file pattern: `*` and `?` within a name, `[a-z]` and `[!a-z]`, and `**` as a whole name for any number of folders.
 * Names that start with a dot are like all others; case matters.
 */
export class Glob {
  readonly #segments: readonly Segment[];
  /** The pattern as one run of tokens in which a star also crosses slashes. */
  readonly #flat: readonly Token[];

  private constructor(segments: readonly Segment[]) {
    this.#segments = segments;
    this.#flat = segments.flatMap((segment, index): readonly Token[] => [
      ...(index === 0 ? [] : [{ kind: 'literal' as const, character: '/' }]),
      ...(segment.kind === 'globstar' ? [{ kind: 'star' as const }] : segment.tokens),
    ]);
  }

  /** Parses a relative pattern with forward slashes; `invalid-manifest` if it is malformed. */
  static parse(pattern: string): Glob {
    const parts: string[] = [];
    for (const part of pattern.split('/')) {
      if (part === '..') parts.pop();
      else if (part !== '' && part !== '.') parts.push(part);
    }
    return new Glob(parts.map((part) => parseSegment(part, pattern)));
  }

  /** Where a walk begins. */
  start(): GlobPositions {
    return this.#withEmptyGlobstars([0]);
  }

  /** Where a walk is after one more name; empty when no path from here on can match. */
  step(positions: GlobPositions, name: string): GlobPositions {
    const characters = [...name];
    const next = new Set<number>();
    for (const position of positions) {
      const segment = this.#segments[position];
      if (segment === undefined) continue;
      if (segment.kind === 'globstar') next.add(position);
      else if (matchTokens(segment.tokens, characters)) next.add(position + 1);
    }
    return this.#withEmptyGlobstars([...next]);
  }

  /** Whether the path walked so far matches the whole pattern. */
  accepts(positions: GlobPositions): boolean {
    return positions.includes(this.#segments.length);
  }

  /** Whether a whole relative path matches. */
  matches(path: string): boolean {
    return this.accepts(
      path.split('/').reduce((positions, name) => this.step(positions, name), this.start()),
    );
  }

  /** As `matches`, but `*`, `?` and classes also stand for slashes: how `exclude_files` reads patterns. */
  matchesAcrossFolders(path: string): boolean {
    return this.matches(path) || matchTokens(this.#flat, [...path]);
  }

  /** `**` may stand for no folder at all. */
  #withEmptyGlobstars(positions: readonly number[]): GlobPositions {
    const all = new Set(positions);
    for (const position of all) if (this.#segments[position]?.kind === 'globstar') all.add(position + 1);
    return [...all];
  }
}

function parseSegment(part: string, pattern: string): Segment {
  if (part === '**') return { kind: 'globstar' };
  if (part.includes('**')) throw malformed(pattern, 'has "**" beside other characters of one name');
  const characters = [...part];
  const tokens: Token[] = [];
  for (let index = 0; index < characters.length; index++) {
    const character = characters[index] ?? '';
    if (character === '*') tokens.push({ kind: 'star' });
    else if (character === '?') tokens.push({ kind: 'any' });
    else if (character === '[') {
      const { token, end } = parseClass(characters, index, pattern);
      tokens.push(token);
      index = end;
    } else tokens.push({ kind: 'literal', character });
  }
  return { kind: 'name', tokens };
}

function parseClass(
  characters: readonly string[],
  start: number,
  pattern: string,
): { readonly token: Token; readonly end: number } {
  const negated = characters[start + 1] === '!';
  const first = start + (negated ? 2 : 1);
  // A bracket that comes first is a member, so the search for the end begins after it.
  const end = characters.indexOf(']', first + 1);
  if (end === -1) throw malformed(pattern, 'has "[" without "]"');
  const ranges: (readonly [string, string])[] = [];
  for (let index = first; index < end; index++) {
    const from = characters[index] ?? '';
    const to = characters[index + 2] ?? '';
    if (characters[index + 1] === '-' && index + 2 < end) {
      ranges.push([from, to]);
      index += 2;
    } else ranges.push([from, from]);
  }
  return { token: { kind: 'class', negated, ranges }, end };
}

function malformed(pattern: string, text: string): ShimError {
  return new ShimError('invalid-manifest', `file pattern ${quoted(pattern)} ${text}`);
}

function matchesOne(token: Token, character: string): boolean {
  switch (token.kind) {
    case 'literal':
      return token.character === character;
    case 'any':
      return true;
    case 'star':
      return false;
    case 'class':
      return token.ranges.some(([from, to]) => character >= from && character <= to) !== token.negated;
    default:
      return token satisfies never;
  }
}

/** Whether the tokens match all characters. On a mismatch only the last star is widened: at most length × length steps. */
function matchTokens(tokens: readonly Token[], characters: readonly string[]): boolean {
  let token = 0;
  let position = 0;
  let star = -1;
  let starPosition = 0;
  while (position < characters.length) {
    const current = tokens[token];
    if (current?.kind === 'star') {
      star = token++;
      starPosition = position;
    } else if (current !== undefined && matchesOne(current, characters[position] ?? '')) {
      token++;
      position++;
    } else if (star !== -1) {
      token = star + 1;
      position = ++starPosition;
    } else return false;
  }
  return tokens.slice(token).every(({ kind }) => kind === 'star');
}
