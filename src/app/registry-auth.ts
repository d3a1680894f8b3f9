import { ShimError } from '../error.ts';
import type { Credential, CredentialProvider } from './credentials.ts';
import type { Challenge } from './registry-challenge.ts';
import { explainFailure, type HttpResponse, type RegistryTransport } from './registry-transport.ts';

/** Most bytes of a token service's answer. */
export const maxTokenBytes = 64 * 1024;

/** Whom the authorization is for. */
export type AuthScope = {
  /** Host as the user names it; the key of the credentials. */
  readonly registry: string;
  readonly repository: string;
  readonly access: 'pull' | 'push';
};

/**
 * Turns challenges into an `Authorization` value: basic, or a bearer token from the registry's token service
 * (distribution's token and OAuth 2 specifications). Holds the value for further requests; never puts it in a message.
 */
export class RegistryAuth {
  readonly #scope: AuthScope;
  readonly #credentials: CredentialProvider;
  readonly #transport: RegistryTransport;
  #value: string | undefined;

  constructor(scope: AuthScope, credentials: CredentialProvider, transport: RegistryTransport) {
    this.#scope = scope;
    this.#credentials = credentials;
    this.#transport = transport;
  }

  /** The value to send, once a challenge has been answered. */
  get authorization(): string | undefined {
    return this.#value;
  }

  /**
   * Answers a 401. Throws `unauthenticated` when there is no credential for it or it is not accepted.
   * `registryUrl` is where the challenge came from: a token service may not be less secure than that.
   */
  async answer(challenges: readonly Challenge[], registryUrl: URL): Promise<void> {
    const credential = await this.#credentials(this.#scope.registry);
    const bearer = challenges.find((challenge) => challenge.scheme === 'bearer');
    if (bearer !== undefined) {
      this.#value = `Bearer ${await this.#token(bearer, credential, registryUrl)}`;
      return;
    }
    const basic = challenges.some((challenge) => challenge.scheme === 'basic');
    if (!basic || credential?.kind !== 'basic') throw this.refused();
    this.#value = basicValue(credential);
  }

  /** The error for a registry that does not let us in. */
  refused(): ShimError {
    const { registry, repository, access } = this.#scope;
    return new ShimError(
      'unauthenticated',
      `registry "${registry}" does not let us ${access} "${repository}": run "docker login ${registry}" with an account that may, and check that the repository exists`,
    );
  }

  async #token(
    challenge: Extract<Challenge, { scheme: 'bearer' }>,
    credential: Credential | undefined,
    registryUrl: URL,
  ): Promise<string> {
    if (!URL.canParse(challenge.realm)) {
      throw new ShimError(
        'unavailable',
        `registry "${this.#scope.registry}" names a token service that is no URL`,
      );
    }
    const url = new URL(challenge.realm);
    this.#transport.checkUrl(url, registryUrl);
    const { repository, access } = this.#scope;
    const scope =
      access === 'push' || challenge.scope === undefined
        ? `repository:${repository}:${access === 'push' ? 'pull,push' : 'pull'}`
        : challenge.scope;
    const response =
      credential?.kind === 'identity-token'
        ? await this.#exchange(url, credential.token, challenge.service, scope)
        : await this.#request(url, credential, challenge.service, scope);
    return this.#readToken(response);
  }

  #request(
    url: URL,
    credential: Extract<Credential, { kind: 'basic' }> | undefined,
    service: string | undefined,
    scope: string,
  ): Promise<HttpResponse> {
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', scope);
    const authorization = credential === undefined ? undefined : basicValue(credential);
    return this.#transport.send({ method: 'GET', url, authorization, redirects: 'none' });
  }

  #exchange(url: URL, token: string, service: string | undefined, scope: string): Promise<HttpResponse> {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: token,
      client_id: 'spinshim',
      scope,
    });
    if (service !== undefined) form.set('service', service);
    const bytes = Buffer.from(form.toString());
    return this.#transport.send({
      method: 'POST',
      url,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': String(bytes.byteLength),
      },
      body: async function* () {
        yield bytes;
      },
      redirects: 'none',
    });
  }

  async #readToken(response: HttpResponse): Promise<string> {
    if (response.status !== 200) {
      await response.discard();
      if (response.status >= 400 && response.status < 500) throw this.refused();
      throw new ShimError(
        'unavailable',
        `token service "${response.url.host}" answers with status ${response.status}: try again later`,
      );
    }
    const token = findToken(await readCapped(response, maxTokenBytes));
    if (token === undefined) {
      throw new ShimError('unavailable', `token service "${response.url.host}" answers without a token`);
    }
    return token;
  }
}

function basicValue(credential: Extract<Credential, { kind: 'basic' }>): string {
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`;
}

function findToken(bytes: Buffer): string | undefined {
  let answer: unknown;
  try {
    answer = JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof answer !== 'object' || answer === null) return undefined;
  const fields = new Map<string, unknown>(Object.entries(answer));
  const token = fields.get('token') ?? fields.get('access_token');
  return typeof token === 'string' && /^[\x21-\x7e]+$/.test(token) ? token : undefined;
}

/** A body in memory; throws `resource-exhausted` at the first byte beyond `maxBytes`, `unavailable` when it breaks off. */
export async function readCapped(response: HttpResponse, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let received = 0;
  try {
    for await (const chunk of response.body) {
      received += chunk.byteLength;
      if (received > maxBytes) {
        throw new ShimError(
          'resource-exhausted',
          `answer of "${response.url.host}" is longer than ${maxBytes} bytes`,
        );
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw explainFailure(error, response.url);
  }
  return Buffer.concat(chunks);
}
