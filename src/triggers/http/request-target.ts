/** Authority and path of a request. */
export type RequestTarget = { readonly authority: string; readonly pathWithQuery: string };

/** What a request says of its target: the request line's URL, HTTP/2's `:authority`, and every Host field. */
export type TargetParts = {
  readonly url: string;
  readonly authority: string | undefined;
  readonly hosts: readonly string[];
};

/**
 * Authority and path of a request: the Host header, or the authority of HTTP/2 or of an absolute-form target. Undefined
 * when there is none, more than one, or two that differ (reference/spin.md 3.1.3).
 */
export function parseTarget(parts: TargetParts): RequestTarget | undefined {
  const { url, hosts } = parts;
  if (hosts.length > 1) return undefined;
  let authority = parts.authority;
  let pathWithQuery = url;
  const schemeEnd = url.indexOf('://');
  if (!url.startsWith('/') && schemeEnd > 0) {
    const start = schemeEnd + 3;
    const slash = url.indexOf('/', start);
    authority = slash < 0 ? url.slice(start) : url.slice(start, slash);
    pathWithQuery = slash < 0 ? '/' : url.slice(slash);
  } else if (!url.startsWith('/') && url !== '*') return undefined;
  if (authority === '') authority = undefined;
  const [host] = hosts;
  if (host !== undefined && authority !== undefined && host.toLowerCase() !== authority.toLowerCase())
    return undefined;
  const chosen = host ?? authority;
  if (chosen === undefined || !isAuthority(chosen)) return undefined;
  return { authority: chosen, pathWithQuery };
}

const authorityCharacters = /^[A-Za-z0-9.\-_~!$&'()*+,;=:[\]%]+$/;

function isAuthority(text: string): boolean {
  return authorityCharacters.test(text);
}

/** The path of a path with query. */
export function withoutQuery(pathWithQuery: string): string {
  const query = pathWithQuery.indexOf('?');
  return query < 0 ? pathWithQuery : pathWithQuery.slice(0, query);
}
