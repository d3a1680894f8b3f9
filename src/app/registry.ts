import { ShimError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { sha256Digest } from './blob-verify.ts';
import type { CredentialProvider } from './credentials.ts';
import { fileCredentials } from './credentials.ts';
import type { ImageName } from './oci-name.ts';
import { defaultRegistry, isLoopbackHost, parseImageName } from './oci-name.ts';
import { maxImageManifestBytes, sniffManifestType } from './oci-parse.ts';
import type { Descriptor } from './oci-types.ts';
import { isIndexType, isManifestType, mediaTypes } from './oci-types.ts';
import { RegistryAuth, readCapped } from './registry-auth.ts';
import { parseChallenges } from './registry-challenge.ts';
import type { HttpBody, HttpRequest, HttpResponse, TransportOptions } from './registry-transport.ts';
import { headerOf, isBrokenConnection, parseLocation, RegistryTransport } from './registry-transport.ts';

export type RegistryOptions = TransportOptions & {
  /** Default: the files of docker and spin. */
  readonly credentials?: CredentialProvider;
  /** What to ask for. Default `pull`. */
  readonly access?: 'pull' | 'push';
};

const acceptedManifests = [
  mediaTypes.manifest,
  mediaTypes.index,
  mediaTypes.dockerManifest,
  mediaTypes.dockerIndex,
].join(', ');

/** Longest piece of a registry's own error text that gets into ours, in characters. */
const maxErrorText = 300;

/**
 * One repository of a registry over HTTP (OCI distribution specification 1.1). HTTPS; plain HTTP for this machine, or
 * with `insecure`. Close it when done: connections are kept open between requests.
 */
export class Registry implements BlobSource {
  readonly #name: ImageName;
  readonly #base: URL;
  readonly #transport: RegistryTransport;
  readonly #auth: RegistryAuth;
  /** Manifests that `resolve` has read already, digest → bytes: they are asked for next. */
  readonly #resolved = new Map<string, Buffer>();

  constructor(name: ImageName, options: RegistryOptions = {}) {
    this.#name = name;
    const plain = options.insecure === true || isLoopbackHost(name.registry);
    const host = name.registry === defaultRegistry ? 'registry-1.docker.io' : name.registry;
    const base = `${plain ? 'http' : 'https'}://${host}/v2/${name.repository}/`;
    if (!URL.canParse(base)) {
      throw new ShimError(
        'invalid-argument',
        `registry ${JSON.stringify(name.registry)} is not a host with an optional port`,
      );
    }
    this.#base = new URL(base);
    this.#transport = new RegistryTransport(options);
    const scope = {
      registry: name.registry,
      repository: name.repository,
      access: options.access ?? 'pull',
    } as const;
    this.#auth = new RegistryAuth(scope, options.credentials ?? fileCredentials(), this.#transport);
  }

  /** See {@link BlobSource.resolve}; the reference has to be of this repository. Also throws what `read` throws. */
  async resolve(reference: string): Promise<Descriptor> {
    const name = parseImageName(reference);
    if (name.registry !== this.#name.registry || name.repository !== this.#name.repository) {
      throw new ShimError(
        'invalid-argument',
        `image "${reference}" is not of the repository "${this.#name.registry}/${this.#name.repository}"`,
      );
    }
    const wanted = name.digest ?? name.tag ?? 'latest';
    const response = await this.#get(`manifests/${wanted}`, { accept: acceptedManifests });
    const bytes = await readCapped(response, maxImageManifestBytes);
    const stated = headerOf(response.headers, 'content-type')?.split(';')[0]?.trim() ?? '';
    const mediaType = isIndexType(stated) || isManifestType(stated) ? stated : sniffManifestType(bytes);
    // A sha512 reference is checked by whoever reads the descriptor; sha256 costs nothing to check here.
    const digest = name.digest?.startsWith('sha512:') ? name.digest : sha256Digest(bytes);
    if (name.digest !== undefined && name.digest !== digest) {
      throw new ShimError(
        'digest-mismatch',
        `registry "${name.registry}" answers with the manifest ${digest} where ${name.digest} was asked for: do not trust it`,
      );
    }
    this.#resolved.set(digest, bytes);
    return { mediaType, digest, size: bytes.byteLength };
  }

  /**
   * See {@link BlobSource.read}. Throws `not-found`, `unauthenticated`, `permission-denied`, `unavailable`,
   * `deadline-exceeded`. A connection that breaks half-way is taken up where it broke.
   */
  async *read(descriptor: Descriptor): AsyncGenerator<Uint8Array, void> {
    const known = this.#resolved.get(descriptor.digest);
    if (known !== undefined) {
      yield known;
      return;
    }
    const manifest = isIndexType(descriptor.mediaType) || isManifestType(descriptor.mediaType);
    const path = `${manifest ? 'manifests' : 'blobs'}/${descriptor.digest}`;
    const headers: Record<string, string> = manifest ? { accept: descriptor.mediaType } : {};
    let received = 0;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await this.#get(
          path,
          received === 0 ? headers : { ...headers, range: `bytes=${received}-` },
        );
        let skip = response.status === 206 ? 0 : received;
        for await (const chunk of response.body) {
          const fresh = chunk.subarray(Math.min(skip, chunk.byteLength));
          skip -= chunk.byteLength - fresh.byteLength;
          if (fresh.byteLength === 0) continue;
          received += fresh.byteLength;
          yield fresh;
        }
        return;
      } catch (error) {
        if (error instanceof ShimError) throw error;
        if (!isBrokenConnection(error) || attempt >= this.#transport.attempts) {
          throw new ShimError(
            'unavailable',
            `registry "${this.#name.registry}" broke off while sending ${descriptor.digest} after ${received} of ${descriptor.size} bytes: try again`,
            { cause: error },
          );
        }
        await this.#transport.pause(attempt);
      }
    }
  }

  /** Whether the repository holds a blob. */
  async hasBlob(digest: string): Promise<boolean> {
    const response = await this.#send({
      method: 'HEAD',
      url: this.#url(`blobs/${digest}`),
      redirects: 'follow',
    });
    await response.discard();
    if (response.status === 200) return true;
    if (response.status === 404) return false;
    throw this.#unexpected(response, `look for the blob ${digest}`, '');
  }

  /**
   * Uploads a blob in one piece unless the repository holds it already. `body` may be opened more than once: an upload
   * that breaks is begun anew, since a registry may have kept a part of it under its address.
   */
  async putBlob(descriptor: Descriptor, body: HttpBody): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      if (await this.hasBlob(descriptor.digest)) return;
      try {
        await this.#upload(descriptor, body);
        return;
      } catch (error) {
        const again = error instanceof ShimError && error.code === 'unavailable';
        if (!again || attempt >= this.#transport.attempts) throw error;
        await this.#transport.pause(attempt);
      }
    }
  }

  async #upload(descriptor: Descriptor, body: HttpBody): Promise<void> {
    const what = `upload the blob ${descriptor.digest}`;
    const once = { redirects: 'none', retries: 'none' } as const;
    const headers = { 'content-length': '0' };
    const start = await this.#send({ method: 'POST', url: this.#url('blobs/uploads/'), headers, ...once });
    const location = headerOf(start.headers, 'location');
    if (start.status !== 202 || location === undefined) {
      throw this.#unexpected(start, what, await errorText(start));
    }
    await start.discard();
    const url = parseLocation(location, start.url);
    this.#transport.checkUrl(url, start.url);
    url.searchParams.set('digest', descriptor.digest);
    const response = await this.#send({
      method: 'PUT',
      url,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(descriptor.size) },
      body,
      ...once,
    });
    if (response.status !== 201) throw this.#unexpected(response, what, await errorText(response));
    await response.discard();
  }

  /** Stores a manifest or an index under a tag or under its own digest. */
  async putManifest(bytes: Buffer, mediaType: string, reference: string): Promise<void> {
    const response = await this.#send({
      method: 'PUT',
      url: this.#url(`manifests/${reference}`),
      headers: { 'content-type': mediaType, 'content-length': String(bytes.byteLength) },
      body: async function* () {
        yield bytes;
      },
      redirects: 'none',
    });
    if (response.status !== 201) {
      throw this.#unexpected(response, `store the manifest "${reference}"`, await errorText(response));
    }
    await response.discard();
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.#transport.close();
  }

  #url(path: string): URL {
    return new URL(path, this.#base);
  }

  async #get(path: string, headers: Readonly<Record<string, string>>): Promise<HttpResponse> {
    const response = await this.#send({ method: 'GET', url: this.#url(path), headers, redirects: 'follow' });
    if (response.status === 200 || (response.status === 206 && headers.range !== undefined)) return response;
    throw this.#unexpected(response, `read "${path}"`, await errorText(response));
  }

  /** Sends with the authorization we have; a challenge of the registry itself is answered once. */
  async #send(request: Omit<HttpRequest, 'authorization'>): Promise<HttpResponse> {
    const ours = request.url.origin === this.#base.origin;
    const authorize = (): string | undefined => (ours ? this.#auth.authorization : undefined);
    const response = await this.#transport.send({ ...request, authorization: authorize() });
    if (response.status !== 401 || !ours || response.url.origin !== this.#base.origin) return response;
    await response.discard();
    const header = response.headers['www-authenticate'];
    const challenges = parseChallenges(header === undefined ? [] : Array.isArray(header) ? header : [header]);
    await this.#auth.answer(challenges, response.url);
    return this.#transport.send({ ...request, authorization: authorize() });
  }

  #unexpected(response: HttpResponse, what: string, text: string): ShimError {
    const { registry, repository } = this.#name;
    const said = text === '' ? '' : ` (${text})`;
    if (response.status === 401) return this.#auth.refused();
    if (response.status === 403) {
      return new ShimError(
        'permission-denied',
        `registry "${registry}" forbids to ${what} in "${repository}"${said}: ask for the right, or run "docker login ${registry}" with another account`,
      );
    }
    if (response.status === 404) {
      return new ShimError(
        'not-found',
        `registry "${registry}" cannot ${what} in "${repository}"${said}: check the name and the tag`,
      );
    }
    const busy = response.status === 429 || response.status >= 500;
    return new ShimError(
      busy ? 'unavailable' : 'failed-precondition',
      `registry "${registry}" answers with status ${response.status} to our request to ${what} in "${repository}"${said}${busy ? ': try again later' : ''}`,
    );
  }
}

/** What the registry itself says is wrong, in one clean line; empty when it says nothing readable. */
async function errorText(response: HttpResponse): Promise<string> {
  try {
    const answer: unknown = JSON.parse((await readCapped(response, 64 * 1024)).toString('utf8'));
    if (typeof answer !== 'object' || answer === null || !('errors' in answer)) return '';
    const first: unknown = Array.isArray(answer.errors) ? answer.errors[0] : undefined;
    if (typeof first !== 'object' || first === null) return '';
    const fields = new Map<string, unknown>(Object.entries(first));
    const words = [fields.get('code'), fields.get('message')].filter((word) => typeof word === 'string');
    return words
      .join(': ')
      .replace(/[^\x20-\x7e]/g, '?')
      .slice(0, maxErrorText);
  } catch {
    return '';
  }
}
