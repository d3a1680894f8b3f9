import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { Agent, EnvHttpProxyAgent } from 'undici';
import { ShimError } from '../error.ts';
import { isLoopbackHost } from './oci-name.ts';

/**
 * HTTP as a registry client needs it: TLS unless the host is this machine, redirects taken by hand so that an
 * authorization never reaches another origin (threats.md row 20), a bound on time and on retries.
 */

export type TransportOptions = {
  /** Plain HTTP also to hosts other than this machine. Default false. */
  readonly insecure?: boolean;
  /** Time to connect and to wait for response headers, each, in milliseconds. Default 30,000. */
  readonly headersTimeoutMs?: number;
  /** Longest silence within a body, in milliseconds. Default 30,000. */
  readonly idleTimeoutMs?: number;
  /** Longest whole request with its body, in milliseconds. Default 900,000. */
  readonly deadlineMs?: number;
  /** Attempts for one request in all, when the registry is busy or the connection breaks. Default 4. */
  readonly attempts?: number;
  /** Pause before the second attempt in milliseconds; doubles with each further one. Default 250. */
  readonly retryDelayMs?: number;
};

/** Most redirects of one request. */
export const maxRedirects = 5;
/** Longest pause that a `Retry-After` gets, in milliseconds. */
export const maxRetryAfterMs = 10_000;

export type HttpBody = () => AsyncIterable<Uint8Array>;

export type HttpRequest = {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent to the origin of `url` and to no other. */
  readonly authorization?: string | undefined;
  /** Made anew for each attempt; its length goes into the `content-length` header. */
  readonly body?: HttpBody;
  readonly redirects: 'follow' | 'none';
  /** `none` for what must not be sent twice to one address. Default `busy`: as the options say. */
  readonly retries?: 'busy' | 'none';
};

export type HttpResponse = {
  /** Where the response came from, after redirects. */
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: AsyncIterable<Uint8Array>;
  /** Throws the body away and frees the connection. */
  discard(): Promise<void>;
};

const retriedStatuses: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);
const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const brokenConnectionCodes: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
]);

/** Whether an error is a connection that broke or never came about, so that another attempt may go better. */
export function isBrokenConnection(error: unknown): boolean {
  return brokenConnectionCodes.has(codeOf(error) ?? '');
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
}

/** One header's single value. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

export class RegistryTransport {
  readonly #insecure: boolean;
  readonly #deadlineMs: number;
  readonly #attempts: number;
  readonly #retryDelayMs: number;
  readonly #direct: Agent;
  readonly #proxied: Dispatcher;

  constructor(options: TransportOptions = {}) {
    this.#insecure = options.insecure ?? false;
    this.#deadlineMs = options.deadlineMs ?? 900_000;
    this.#attempts = options.attempts ?? 4;
    this.#retryDelayMs = options.retryDelayMs ?? 250;
    const headersTimeout = options.headersTimeoutMs ?? 30_000;
    const settings = {
      connect: { timeout: headersTimeout },
      headersTimeout,
      bodyTimeout: options.idleTimeoutMs ?? 30_000,
      connections: 8,
    };
    this.#direct = new Agent(settings);
    const { env } = process;
    const proxy = env.https_proxy ?? env.HTTPS_PROXY ?? env.http_proxy ?? env.HTTP_PROXY ?? '';
    this.#proxied = proxy === '' ? this.#direct : new EnvHttpProxyAgent(settings);
  }

  /** Retries what is worth it and follows redirects. Any status comes back as a response; only transport failures throw. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    const attempts = request.retries === 'none' ? 1 : this.#attempts;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await this.#follow(request);
        if (!retriedStatuses.has(response.status) || attempt >= attempts) return response;
        await response.discard();
        await this.pause(attempt, headerOf(response.headers, 'retry-after'));
      } catch (error) {
        if (attempt >= attempts || !isBrokenConnection(error)) throw explainFailure(error, request.url);
        await this.pause(attempt);
      }
    }
  }

  /** Waits as long as the retry after the given attempt should: doubling, with jitter, or as the registry asks. */
  async pause(attempt: number, retryAfter?: string): Promise<void> {
    const asked = /^[0-9]{1,6}$/.test(retryAfter ?? '') ? Number(retryAfter) * 1000 : undefined;
    const backoff = this.#retryDelayMs * 2 ** (attempt - 1) * (0.75 + Math.random() / 2);
    await delay(Math.min(asked ?? backoff, maxRetryAfterMs));
  }

  get attempts(): number {
    return this.#attempts;
  }

  async close(): Promise<void> {
    await this.#direct.destroy();
    if (this.#proxied !== this.#direct) await this.#proxied.destroy();
  }

  /**
   * Throws `permission-denied` for what we do not talk to: another scheme, credentials in the URL, plain HTTP to
   * another machine, and plain HTTP once a secure origin has been part of the way.
   */
  checkUrl(url: URL, from?: URL): void {
    const where = `"${url.protocol}//${url.host}"`;
    const deny = (why: string): ShimError =>
      new ShimError('permission-denied', `registry address ${where} ${why}`);
    if (url.username !== '' || url.password !== '')
      throw deny('holds credentials: log in with "docker login" instead');
    if (url.protocol === 'https:') return;
    if (url.protocol !== 'http:') throw deny('is neither https nor http');
    if (from?.protocol === 'https:') {
      throw deny(
        `is plain HTTP, and "${from.host}", which sent us there, is not: configure that registry to send https addresses`,
      );
    }
    const fromElsewhere = from !== undefined && !isLoopbackHost(from.host);
    if (isLoopbackHost(url.host) && !fromElsewhere) return;
    if (!this.#insecure)
      throw deny(
        'is plain HTTP on another machine: give the registry a certificate, or allow it with "insecure"',
      );
  }

  async #follow(request: HttpRequest): Promise<HttpResponse> {
    const signal = AbortSignal.timeout(this.#deadlineMs);
    let { url, authorization } = request;
    this.checkUrl(url);
    for (let hops = 0; ; hops += 1) {
      const response = await this.#once(request, url, authorization, signal);
      const location = headerOf(response.headers, 'location');
      if (request.redirects === 'none' || location === undefined || !redirectStatuses.has(response.status))
        return response;
      await response.discard();
      if (hops === maxRedirects) {
        throw new ShimError(
          'unavailable',
          `registry "${request.url.host}" redirects more than ${maxRedirects} times: check its address`,
        );
      }
      const next = parseLocation(location, url);
      this.checkUrl(next, url);
      // Once away, it stays away: the way back may be steered by the other origin.
      if (next.origin !== url.origin) authorization = undefined;
      url = next;
    }
  }

  async #once(
    request: HttpRequest,
    url: URL,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const dispatcher = isLoopbackHost(url.host) ? this.#direct : this.#proxied;
    const options = {
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: request.method,
      headers: {
        'user-agent': 'spinshim',
        'accept-encoding': 'identity',
        ...request.headers,
        ...(authorization === undefined ? {} : { authorization }),
      },
      signal,
      body: request.body === undefined ? null : Readable.from(request.body(), { objectMode: false }),
    };
    const { statusCode, headers, body } = await dispatcher.request(options);
    return {
      url,
      status: statusCode,
      headers,
      body,
      discard: async () => {
        await body.dump({ limit: 64 * 1024 });
      },
    };
  }
}

/** The target of a redirect or of an upload. Throws `unavailable` when it is no URL. */
export function parseLocation(location: string, base: URL): URL {
  if (!URL.canParse(location, base)) {
    throw new ShimError('unavailable', `registry "${base.host}" answers with a location that is no URL`);
  }
  return new URL(location, base);
}

/** Any failure of a request or of reading its body as an error of ours that says what to do. */
export function explainFailure(error: unknown, url: URL): ShimError {
  if (error instanceof ShimError) return error;
  const code = codeOf(error) ?? (error instanceof Error ? error.name : 'unknown');
  if (code === 'TimeoutError') {
    return new ShimError('deadline-exceeded', `registry "${url.host}" did not finish in time: try again`, {
      cause: error,
    });
  }
  const certificate = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code);
  const advice = certificate
    ? 'add its certificate authority with NODE_EXTRA_CA_CERTS'
    : 'check the name, the network and the proxy settings';
  return new ShimError('unavailable', `registry "${url.host}" cannot be reached (${code}): ${advice}`, {
    cause: error,
  });
}
