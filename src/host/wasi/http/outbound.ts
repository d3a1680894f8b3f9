import { BlockList, isIP, type LookupFunction } from 'node:net';
import type { Agent } from 'undici';
import type { Destination } from '../../../app/allowed-hosts-url.ts';
import { ShimError } from '../../../error.ts';
import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import type { BodyChannel, BodyTarget } from './body-channel.ts';
import { type ErrorCode, HttpFailure } from './error-code.ts';
import { OutboundExchange } from './outbound-exchange.ts';
import { loadOutboundTransport, type OutboundTransport } from './outbound-transport.ts';
import { RequestBody } from './request-body.ts';
import type { RequestTimeouts } from './request-options.ts';
import type { NameResolver } from './resolver.ts';

/** Connections to one origin at once. */
export const defaultMaxConnectionsPerOrigin = 128;

/** Requests of one component on their way at once, in one worker. */
export const defaultMaxRequests = 1_000;

/** Bytes of a response's head. */
export const maxResponseHeadBytes = 128 * 1024;

/** Origins with open connections at once. */
const maxOrigins = 1_000;

/** How long a connection may take that its request has given up waiting for, milliseconds. */
const connectorTimeoutMs = 600_000;

/** What one component may reach. */
export type OutboundPolicy = {
  /** Canonical destination of an absolute URL; undefined when there is none. */
  parse(url: string): Destination | undefined;
  allows(destination: Destination): boolean;
  /** Whether the component may call its own application. */
  allowsSelf(): boolean;
  /** Whether an entry names this very address (or a network of addresses), not merely `*`. */
  namesAddress(ip: string): boolean;
  /** Whether the runtime configuration blocks the address. */
  blocks(ip: string): boolean;
  /** Lines for the log: what was refused, and the entry to add. */
  refusal(destination: Destination): readonly string[];
  /** Where the application itself listens: a literal address, never taken from a request. */
  readonly self?: Destination | undefined;
};

/** How the connections of one component are made. */
export type OutboundOptions = {
  readonly policy: OutboundPolicy;
  readonly resolver: NameResolver;
  /** Certificates (PEM) trusted beside Node's roots. */
  readonly caBundle?: string;
  /** Keep connections for later requests; default true. */
  readonly pooling?: boolean;
  readonly maxConnectionsPerOrigin?: number;
  readonly maxRequests?: number;
};

/** A request that policy has let through. */
export type OutboundRequest = {
  readonly destination: Destination;
  readonly method: string;
  readonly path: string;
  readonly headers: HeaderList;
  readonly contentLength: number | undefined;
  readonly body: BodyChannel | undefined;
  readonly timeouts: RequestTimeouts;
};

let guarded: BlockList | undefined;

/** Link-local addresses and the IPv6 address of a cloud's metadata service: reachable only when an entry names them. */
function guardedAddresses(): BlockList {
  if (guarded !== undefined) return guarded;
  guarded = new BlockList();
  guarded.addSubnet('169.254.0.0', 16, 'ipv4');
  guarded.addSubnet('fe80::', 10, 'ipv6');
  guarded.addAddress('fd00:ec2::254', 'ipv6');
  // The same IPv4 network behind NAT64, 6to4 and the IPv4-compatible form.
  guarded.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6');
  guarded.addSubnet('2002:a9fe::', 32, 'ipv6');
  guarded.addSubnet('::a9fe:0', 112, 'ipv6');
  return guarded;
}

function isGuarded(ip: string): boolean {
  return guardedAddresses().check(ip, isIP(ip) === 6 ? 'ipv6' : 'ipv4');
}

function bareHost(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host;
}

/**
 * The HTTP client of one component in one worker. Every connection goes to an address that was checked, and to no
 * other; redirects are left to the guest. Connections are never shared with another component, since its grant differs.
 */
export class OutboundClient {
  readonly policy: OutboundPolicy;
  readonly #options: OutboundOptions;
  /** Made with the first request. */
  #agent: Promise<Agent> | undefined;
  #requests = 0;

  constructor(options: OutboundOptions) {
    this.policy = options.policy;
    this.#options = options;
  }

  #createAgent({ Agent, buildConnector, rootCertificates }: OutboundTransport): Agent {
    const options = this.#options;
    const tls = buildConnector({
      timeout: connectorTimeoutMs,
      allowH2: true,
      lookup: this.#lookup,
      ...(options.caBundle === undefined ? {} : { ca: [...rootCertificates, options.caBundle] }),
    });
    return new Agent({
      connections: options.maxConnectionsPerOrigin ?? defaultMaxConnectionsPerOrigin,
      maxOrigins,
      maxHeaderSize: maxResponseHeadBytes,
      // Timeouts are the request's own, see OutboundExchange.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (target, callback) => {
        const ip = bareHost(target.hostname);
        if (isIP(ip) !== 0 && !this.#isSelf(ip, target) && !this.#mayConnect(ip)) {
          callback(new HttpFailure({ tag: 'destination-IP-prohibited' }), null);
          return;
        }
        tls({ ...target, hostname: ip }, callback);
      },
    });
  }

  /** Sends a request; the exchange tells what becomes of it. Above `maxRequests` it is `connection-limit-reached`. */
  send(scope: InstanceScope, request: OutboundRequest): OutboundExchange | ErrorCode {
    if (this.#requests >= (this.#options.maxRequests ?? defaultMaxRequests))
      return { tag: 'connection-limit-reached' };
    this.#requests++;
    const { destination, method, path, timeouts } = request;
    const body = bodyOf(scope, request, () => exchange.abandon());
    const exchange = new OutboundExchange(
      scope,
      timeouts,
      body instanceof RequestBody ? body : undefined,
      () => {
        this.#requests--;
      },
    );
    const options = {
      origin: `${destination.scheme}://${destination.host}:${destination.port}`,
      // Both are written as latin-1: what the guest meant as UTF-8 goes out as its bytes.
      path: Buffer.from(path, 'utf8').toString('latin1'),
      headers: request.headers.flatMap(([name, value]) => [name, Buffer.from(value).toString('latin1')]),
      method,
      reset: this.#options.pooling === false,
      body,
    };
    this.#agent ??= loadOutboundTransport().then((transport) => this.#createAgent(transport));
    this.#agent
      // undici takes async iterables although its types do not say so.
      .then((agent) => agent.dispatch(options as Parameters<Agent['dispatch']>[0], exchange))
      .catch((thrown: unknown) => exchange.onResponseError(null, ShimError.from(thrown)));
    return exchange;
  }

  /** Cuts all connections. */
  async close(): Promise<void> {
    await (await this.#agent)?.destroy();
  }

  #isSelf(ip: string, target: { readonly port: string; readonly protocol: string }): boolean {
    const { self } = this.policy;
    const port = target.port === '' ? (target.protocol === 'https:' ? 443 : 80) : Number(target.port);
    return self !== undefined && bareHost(self.host) === ip && self.port === port;
  }

  #mayConnect(ip: string): boolean {
    return !this.policy.blocks(ip) && (!isGuarded(ip) || this.policy.namesAddress(ip));
  }

  readonly #lookup: LookupFunction = (hostname, options, callback) => {
    this.#options.resolver.resolve(hostname).then(
      (resolved) => {
        const wanted = options.family === 4 || options.family === 6 ? options.family : 0;
        const addresses = resolved
          .filter((ip) => this.#mayConnect(ip))
          .map((address) => ({ address, family: isIP(address) }))
          .filter(({ family }) => wanted === 0 || wanted === family);
        const [first] = addresses;
        if (first === undefined) callback(new HttpFailure({ tag: 'destination-IP-prohibited' }), []);
        else if (options.all === true) callback(null, addresses);
        else callback(null, first.address, first.family);
      },
      (error: Error) => callback(error, []),
    );
  };
}

/** What undici gets as the body; an open one is connected with the guest's stream. */
function bodyOf(
  scope: InstanceScope,
  { body, method, contentLength }: OutboundRequest,
  onAbort: () => void,
): RequestBody | Uint8Array | null {
  if (body === undefined) return null;
  if (body.state === 'finished') return Buffer.concat(body.takePending());
  if ((method === 'GET' || method === 'HEAD') && contentLength === undefined && body.pendingBytes === 0) {
    // As hyper does: these hardly ever have a body, and an empty chunked one confuses servers.
    body.attach(noBody);
    return null;
  }
  const requestBody = new RequestBody(scope, onAbort);
  body.attach(requestBody);
  return requestBody;
}

/** The body of a request that goes out without one. */
const noBody: BodyTarget = {
  capacity: () => {
    throw new HttpFailure({ tag: 'HTTP-request-length-required' });
  },
  write: () => {},
  isFlushed: () => true,
  onDrain: () => () => {},
  end: () => {},
  abort: () => {},
};
