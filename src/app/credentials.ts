import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ShimError } from '../error.ts';

/**
 * Who we are to a registry: Docker's configuration file with its credential helpers, then the file of
 * `spin registry login`. Hosts are matched exactly, never by suffix. No secret gets into a message.
 */

export type Credential =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** A refresh token, exchanged for an access token at the registry's token service. */
  | { readonly kind: 'identity-token'; readonly token: string };

/** Gives the credential of a registry host (`ghcr.io`, `localhost:5000`), or nothing for an anonymous pull. */
export type CredentialProvider = (registry: string) => Promise<Credential | undefined>;

/** Where to look; the defaults are those of the command line tools. */
export type CredentialOptions = {
  /** Default: `process.env`. Read: DOCKER_CONFIG, XDG_CONFIG_HOME, HOME, PATH. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** How long a credential helper may take, in milliseconds. Default 20,000. */
  readonly helperTimeoutMs?: number;
};

/** Largest configuration file in bytes. */
export const maxCredentialFileBytes = 1024 * 1024;
/** Most bytes of a helper's answer. */
export const maxHelperOutputBytes = 64 * 1024;

const dockerHubKey = 'https://index.docker.io/v1/';
const helperName = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,63}$/;

/** Looks a registry up in the files of docker and spin, read anew each time. */
export function fileCredentials(options: CredentialOptions = {}): CredentialProvider {
  const environment = options.environment ?? process.env;
  const home = environment.HOME ?? homedir();
  const dockerFile = join(environment.DOCKER_CONFIG ?? join(home, '.docker'), 'config.json');
  const spinFile = join(
    environment.XDG_CONFIG_HOME ?? join(home, '.config'),
    'fermyon',
    'registry-auth.json',
  );
  const helperTimeoutMs = options.helperTimeoutMs ?? 20_000;

  return async (registry) => {
    const docker = await readJson(dockerFile);
    if (docker !== undefined) {
      const key = registry === 'docker.io' ? dockerHubKey : registry;
      const helper = helperFor(docker, registry, key, dockerFile);
      const found =
        (helper === undefined ? undefined : await askHelper(helper, key, environment, helperTimeoutMs)) ??
        fromAuths(docker, registry, dockerFile);
      if (found !== undefined) return found;
    }
    const spin = await readJson(spinFile);
    return spin === undefined ? undefined : fromAuths(spin, registry, spinFile);
  };
}

async function readJson(path: string): Promise<ReadonlyMap<string, unknown> | undefined> {
  let text: string;
  try {
    const bytes = await readFile(path);
    if (bytes.byteLength > maxCredentialFileBytes) {
      throw new ShimError(
        'invalid-argument',
        `credential file "${path}" is larger than ${maxCredentialFileBytes} bytes`,
      );
    }
    text = bytes.toString('utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw ShimError.from(error, 'invalid-argument');
  }
  try {
    return asMap(JSON.parse(text));
  } catch {
    // The parser's message quotes the text around the error, which may be a secret.
    throw new ShimError(
      'invalid-argument',
      `credential file "${path}" is not JSON: repair it or log in again`,
    );
  }
}

function isAbsent(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES';
}

function asMap(value: unknown): ReadonlyMap<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return new Map();
  return new Map(Object.entries(value));
}

/** The host of a key in `auths`: docker writes bare hosts and, for some registries, URLs. */
function hostOfKey(key: string): string {
  const bare = key.startsWith('https://') ? key.slice(8) : key.startsWith('http://') ? key.slice(7) : key;
  const slash = bare.indexOf('/');
  const host = (slash < 0 ? bare : bare.slice(0, slash)).toLowerCase();
  return host === 'index.docker.io' ? 'docker.io' : host;
}

function helperFor(
  config: ReadonlyMap<string, unknown>,
  registry: string,
  key: string,
  path: string,
): string | undefined {
  const helpers = asMap(config.get('credHelpers'));
  const name = helpers.get(registry) ?? helpers.get(key) ?? config.get('credsStore');
  if (name === undefined || name === '') return undefined;
  if (typeof name !== 'string' || !helperName.test(name)) {
    throw new ShimError(
      'invalid-argument',
      `credential file "${path}" names a credential helper that is no program name`,
    );
  }
  return name;
}

function fromAuths(
  config: ReadonlyMap<string, unknown>,
  registry: string,
  path: string,
): Credential | undefined {
  for (const [key, entry] of asMap(config.get('auths'))) {
    if (hostOfKey(key) !== registry) continue;
    const found = fromEntry(entry, registry, path);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** One entry: docker's object, or spin's bare base64 of `username:password`. */
function fromEntry(entry: unknown, registry: string, path: string): Credential | undefined {
  if (typeof entry === 'string') return fromBase64(entry, registry, path);
  const fields = asMap(entry);
  const text = (name: string): string | undefined => {
    const value = fields.get(name);
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const token = text('identitytoken');
  if (token !== undefined) return { kind: 'identity-token', token };
  const auth = text('auth');
  if (auth !== undefined) return fromBase64(auth, registry, path);
  const username = text('username');
  const password = text('password');
  return username === undefined || password === undefined ? undefined : { kind: 'basic', username, password };
}

function fromBase64(text: string, registry: string, path: string): Credential {
  const decoded = Buffer.from(text, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon <= 0) {
    throw new ShimError(
      'invalid-argument',
      `credential file "${path}" has an entry for "${registry}" that is not base64 of "username:password": log in again`,
    );
  }
  // Docker pads passwords with NUL bytes in some versions.
  const password = decoded.slice(colon + 1).replaceAll('\0', '');
  return { kind: 'basic', username: decoded.slice(0, colon), password };
}

/** Runs `docker-credential-NAME get` with the host on its standard input; no answer means no credential. */
function askHelper(
  name: string,
  key: string,
  environment: Readonly<Record<string, string | undefined>>,
  timeout: number,
): Promise<Credential | undefined> {
  const program = `docker-credential-${name}`;
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      ['get'],
      { env: { ...environment }, timeout, maxBuffer: maxHelperOutputBytes, encoding: 'utf8' },
      (error, stdout) => {
        if (error === null) {
          const credential = parseHelperAnswer(stdout);
          if (credential !== undefined) return resolve(credential);
          return reject(
            new ShimError('invalid-argument', `credential helper "${program}" gave no username and secret`),
          );
        }
        // The protocol has one sentence for "I know nothing of that host", on standard output.
        if (stdout.includes('credentials not found')) return resolve(undefined);
        const why =
          error.killed === true
            ? `took longer than ${timeout} ms`
            : `failed (${String(error.code ?? 'signal')})`;
        reject(
          new ShimError(
            'failed-precondition',
            `credential helper "${program}" ${why}: run it by hand, or log in again`,
          ),
        );
      },
    );
    // A helper that ends without reading breaks the pipe; its exit says what there is to say.
    child.stdin?.on('error', () => {});
    child.stdin?.end(`${key}\n`);
  });
}

function parseHelperAnswer(stdout: string): Credential | undefined {
  let fields: ReadonlyMap<string, unknown>;
  try {
    fields = asMap(JSON.parse(stdout));
  } catch {
    return undefined;
  }
  const username = fields.get('Username');
  const secret = fields.get('Secret');
  if (typeof username !== 'string' || typeof secret !== 'string' || secret === '') return undefined;
  if (username === '<token>') return { kind: 'identity-token', token: secret };
  return username === '' ? undefined : { kind: 'basic', username, password: secret };
}
