import { ShimError } from '../error.ts';

/**
 * Image references as docker and containerd write them: `host[:port]/path[:tag][@digest]`. A name without a host
 * belongs to `docker.io`, and there a name of one part to `library/`, as every container tool has it.
 */

/** A parsed image reference. `tag` is `latest` when the text names neither a tag nor a digest. */
export type ImageName = {
  /** Host with optional port, lower-cased, as the user names it (`docker.io`, `ghcr.io`, `localhost:5000`). */
  readonly registry: string;
  /** Repository path below the host. */
  readonly repository: string;
  readonly tag?: string;
  /** `sha256:<hex>` or `sha512:<hex>`; wins over the tag when both are there. */
  readonly digest?: string;
};

/** Longest `host/path` in characters, the bound of the distribution specification's implementations. */
export const maxNameLength = 255;

/** The registry a name without a host belongs to. */
export const defaultRegistry = 'docker.io';

// One DNS label: letters and digits, inner dashes.
const hostLabel = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
// Labels joined by dots; covers IPv4 as well.
const hostName = `${hostLabel}(?:\\.${hostLabel})*`;
// An IPv6 address in brackets; whether it is one is left to the URL parser at connection time.
const ipv6 = '\\[[a-fA-F0-9:]{2,45}\\]';
const port = ':[0-9]{1,5}';
const host = new RegExp(`^(?:${hostName}|${ipv6})(?:${port})?$`);
// One path part: lower-case runs joined by one dot, one or two underscores, or any number of dashes.
const pathPart = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const repositoryPath = new RegExp(`^${pathPart}(?:/${pathPart})*$`);
const tagText = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const digestText = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;
// A repository that looks like a bare image id would be read as one by other tools.
const bareId = /^[a-f0-9]{64}$/;

/** Whether the text is a digest we accept: `sha256` or `sha512`, lower-case hex, full length. */
export function isDigest(text: string): boolean {
  return digestText.test(text);
}

function bad(text: string, why: string): ShimError {
  return new ShimError(
    'invalid-argument',
    `image reference ${JSON.stringify(text.slice(0, 300))} ${why}: write "HOST[:PORT]/PATH[:TAG][@sha256:HEX]"`,
  );
}

/** First part is a host when it could not be a path part of docker.io: a dot, a colon, `localhost`, a capital. */
function looksLikeHost(part: string): boolean {
  return part === 'localhost' || part.includes('.') || part.includes(':') || part !== part.toLowerCase();
}

/**
 * Parses a reference. Throws `invalid-argument` that says which part is wrong.
 * Grammar: distribution's reference; `tag` defaults to `latest` when there is no digest either.
 */
export function parseImageName(text: string): ImageName {
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest))
    throw bad(text, 'has a digest that is not sha256 or sha512 in hex');
  const named = at < 0 ? text : text.slice(0, at);

  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/') && colon >= 0;
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  if (tag !== undefined && !tagText.test(tag))
    throw bad(text, 'has a tag with characters that tags do not have');
  const name = hasTag ? named.slice(0, colon) : named;
  if (name === '') throw bad(text, 'has no name');
  if (name.length > maxNameLength) throw bad(text, `has a name of more than ${maxNameLength} characters`);

  const { registry, repository } = splitHost(name);
  if (!host.test(registry)) throw bad(text, `has the host ${JSON.stringify(registry)}, which is none`);
  if (!repositoryPath.test(repository)) {
    throw bad(
      text,
      `has the path ${JSON.stringify(repository)}, and paths are lower case with single separators`,
    );
  }
  if (registry === defaultRegistry && bareId.test(name)) throw bad(text, 'is an image id, not a name');
  return {
    registry,
    repository,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: 'latest' } : {}),
    ...(digest === undefined ? {} : { digest }),
  };
}

function splitHost(name: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const explicit = slash >= 0 && looksLikeHost(first);
  const named = explicit ? first.toLowerCase() : defaultRegistry;
  const registry = named === 'index.docker.io' ? defaultRegistry : named;
  const path = explicit ? name.slice(slash + 1) : name;
  const official = registry === defaultRegistry && !path.includes('/');
  return { registry, repository: official ? `library/${path}` : path };
}

/** The canonical text of a name: host, path, then tag and digest where present. */
export function formatImageName(name: ImageName): string {
  const tag = name.tag === undefined ? '' : `:${name.tag}`;
  const digest = name.digest === undefined ? '' : `@${name.digest}`;
  return `${name.registry}/${name.repository}${tag}${digest}`;
}

/** Whether a host with optional port is this machine: `localhost`, 127.0.0.0/8 or `[::1]`. */
export function isLoopbackHost(hostAndPort: string): boolean {
  const bracket = hostAndPort.startsWith('[') ? hostAndPort.indexOf(']') + 1 : 0;
  const colon = hostAndPort.indexOf(':', bracket);
  const name = colon < 0 ? hostAndPort : hostAndPort.slice(0, colon);
  if (name === 'localhost' || name === '[::1]') return true;
  const octets = name.split('.');
  return (
    octets.length === 4 &&
    octets[0] === '127' &&
    octets.every((octet) => /^[0-9]{1,3}$/.test(octet) && Number(octet) < 256)
  );
}
