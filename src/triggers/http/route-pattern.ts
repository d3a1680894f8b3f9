import { ShimError } from '../../error.ts';

/**
 * Spin's route patterns: what the router of the released versions does, measured case by case
 * (reference/spin.md 3.1.1). Pure values; no regular expression touches a request.
 */

type Segment =
  | { readonly kind: 'exact'; readonly text: string }
  | { readonly kind: 'slash' }
  | { readonly kind: 'dot' }
  | { readonly kind: 'param'; readonly name: string }
  | { readonly kind: 'wildcard' };

/** A parsed route. */
export type RoutePattern = {
  /** As written in the manifest. */
  readonly raw: string;
  /** With a leading slash and without one trailing slash: the value of `spin-matched-route`. */
  readonly normalized: string;
  readonly segments: readonly Segment[];
  readonly isWildcard: boolean;
};

/** What a path matched. */
export type RouteMatch = {
  /** In the order of the pattern; a name used twice is there twice. */
  readonly params: readonly (readonly [name: string, value: string])[];
  /** What the trailing wildcard matched, with its leading slash; `` without a wildcard. */
  readonly pathInfo: string;
};

/** Parses a route of a manifest. Throws `invalid-manifest` for `/:` and `*name`, and for a `*` that is not last. */
export function parseRoute(raw: string): RoutePattern {
  const withLead = raw.startsWith('/') ? raw : `/${raw}`;
  const normalized = withLead.length > 1 && withLead.endsWith('/') ? withLead.slice(0, -1) : withLead;
  const starred = normalized.endsWith('/...') ? `${normalized.slice(0, -3)}*` : normalized;
  const segments: Segment[] = [];
  const parts = trimSlashes(starred).split('/');
  parts.forEach((part, index) => {
    if (index > 0) segments.push({ kind: 'slash' });
    segments.push(...parsePart(part, raw));
  });
  const wildcard = segments.findIndex((segment) => segment.kind === 'wildcard');
  if (wildcard >= 0 && wildcard !== segments.length - 1) {
    throw new ShimError(
      'invalid-manifest',
      `route "${raw}" has a "*" before its end: a wildcard can only be the last part, "/..."`,
    );
  }
  return { raw, normalized: normalized === '' ? '/' : normalized, segments, isWildcard: wildcard >= 0 };
}

/** One piece between slashes: split at dots; a dot after literal text belongs to the text. */
function parsePart(part: string, raw: string): Segment[] {
  const segments: Segment[] = [];
  let offset = 0;
  for (;;) {
    const dot = part.indexOf('.', offset);
    const piece = dot < 0 ? part.slice(offset) : part.slice(offset, dot);
    const last = segments.at(-1);
    if (piece === ':' || (piece.startsWith('*') && piece !== '*')) {
      throw new ShimError(
        'invalid-manifest',
        `route "${raw}" has a part "${piece}" that is neither a name nor a wildcard: write ":name" or end the route in "/..."`,
      );
    }
    if (piece === '*') segments.push({ kind: 'wildcard' });
    else if (piece.startsWith(':')) segments.push({ kind: 'param', name: piece.slice(1) });
    else if (last?.kind === 'exact')
      segments[segments.length - 1] = { kind: 'exact', text: last.text + piece };
    else if (piece !== '') segments.push({ kind: 'exact', text: piece });
    if (dot < 0) return segments;
    const before = segments.at(-1);
    if (before?.kind === 'param') segments.push({ kind: 'dot' });
    else if (before?.kind === 'exact')
      segments[segments.length - 1] = { kind: 'exact', text: `${before.text}.` };
    else segments.push({ kind: 'exact', text: '.' });
    offset = dot + 1;
  }
}

/** Matches a request path (no query, not decoded). Linear in the path for every segment. */
export function matchRoute(pattern: RoutePattern, path: string): RouteMatch | undefined {
  const trimmed = trimSlashes(path);
  const params: (readonly [string, string])[] = [];
  const { segments } = pattern;
  let at = 0;
  for (let index = 0; index < segments.length; index++) {
    const segment = segments[index];
    const next = segments[index + 1];
    switch (segment?.kind) {
      case 'exact':
        if (!trimmed.startsWith(segment.text, at)) return undefined;
        at += segment.text.length;
        break;
      case 'slash':
        if (trimmed[at] === '/') at += 1;
        else if (!(next?.kind === 'wildcard' && at === trimmed.length)) return undefined;
        break;
      case 'dot':
        if (trimmed[at] !== '.') return undefined;
        at += 1;
        break;
      case 'param': {
        const end = endOfParam(trimmed, at, next);
        if (end <= at) return undefined;
        params.push([segment.name, trimmed.slice(at, end)]);
        at = end;
        break;
      }
      case 'wildcard':
        return { params, pathInfo: trailingPart(path, trimmed, at, segments.length === 1) };
      default:
        return undefined;
    }
  }
  return at === trimmed.length ? { params, pathInfo: '' } : undefined;
}

function endOfParam(path: string, from: number, next: Segment | undefined): number {
  const end = path.indexOf(next?.kind === 'dot' ? '.' : '/', from);
  if (end >= 0) return end;
  return next?.kind === 'dot' ? -1 : path.length;
}

/**
 * The wildcard's share of the path as the client sent it, trailing slashes kept: `/foo/...` gives `` for `/foo` and
 * `/` for `/foo/`.
 */
function trailingPart(path: string, trimmed: string, at: number, wholePath: boolean): string {
  const lead = path.length - trimStart(path).length;
  if (wholePath) return trimmed === '' ? '/' : path.slice(Math.max(0, lead - 1));
  const start = lead + at;
  const consumedSlash = at > 0 && trimmed[at - 1] === '/';
  return consumedSlash ? path.slice(start - 1) : path.slice(start);
}

function trimStart(text: string): string {
  let start = 0;
  while (text[start] === '/') start += 1;
  return text.slice(start);
}

function trimSlashes(text: string): string {
  const front = trimStart(text);
  let end = front.length;
  while (end > 0 && front[end - 1] === '/') end -= 1;
  return front.slice(0, end);
}

const rank = { exact: 0, slash: 0, dot: 0, param: 1, wildcard: 2 } as const;

/**
 * Order in which routes are tried: segment by segment exact before param before wildcard, then more dots first, then
 * fewer segments; 0 keeps the order of the manifest.
 */
export function compareRoutes(left: RoutePattern, right: RoutePattern): number {
  const [a, b] = [left.segments.filter(isNamed), right.segments.filter(isNamed)];
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    const difference = rank[a[index]?.kind ?? 'exact'] - rank[b[index]?.kind ?? 'exact'];
    if (difference !== 0) return difference;
  }
  const dots = (segments: readonly Segment[]): number =>
    segments.filter((segment) => segment.kind === 'dot').length;
  return dots(right.segments) - dots(left.segments) || a.length - b.length;
}

function isNamed(segment: Segment): boolean {
  return segment.kind !== 'slash' && segment.kind !== 'dot';
}
