import { isUtf8 } from 'node:buffer';
import { createServer, type Server as Http1Server, type IncomingMessage, type ServerResponse } from 'node:http';
import {
  createServer as createHttp2Server,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import { createServer as createTcpServer, type Socket } from 'node:net';
import type { App, HttpTrigger } from '../../app/types.ts';
import { ShimError } from '../../error.ts';
import type { HeaderList, HttpExchange } from '../../host/http-exchange.ts';
import { parseTarget, type RequestTarget, withoutQuery } from './request-target.ts';
import { ServerResponseSink } from './response-sink.ts';
import { type RoutedRequest, Router } from './router.ts';
import { defaultHttpServerLimits, type HttpServerLimits } from './server-limits.ts';
import { guestHeaders } from './spin-headers.ts';
import { type HostAnswer, wellKnownAnswer } from './well-known.ts';

/** Calls a component with one request; resolves when the guest is done, rejects when it failed. */
export type Invoke = (component: string, exchange: HttpExchange) => Promise<void>;

type AnyRequest = IncomingMessage | Http2ServerRequest;
type AnyResponse = ServerResponse | Http2ServerResponse;

type Decision =
  | { readonly kind: 'answer'; readonly answer: HostAnswer }
  | {
      readonly kind: 'call';
      readonly component: string;
      readonly routed: RoutedRequest;
      readonly target: RequestTarget;
    };

/** First bytes of an HTTP/2 connection with prior knowledge. */
const http2Preface = 'PRI';

/**
 * Spin's HTTP trigger: HTTP/1.1 and h2c with prior knowledge on one listening socket, routing, injected headers, static
 * responses, the well-known endpoints, and the 404 and 500 answers of reference/spin.md 3.1.5.
 */
export class HttpTriggerServer {
  readonly router: Router;
  readonly #app: App;
  readonly #invoke: Invoke;
  readonly #limits: HttpServerLimits;
  readonly #http1: Http1Server;
  readonly #http2: Http2Server;
  readonly #sockets = createTcpServer({ noDelay: true });
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #fresh = new Set<Socket>();
  #active = 0;
  #draining = false;
  #idle: (() => void) | undefined;

  constructor(app: App, invoke: Invoke, limits: Partial<HttpServerLimits> = {}) {
    this.#app = app;
    this.#invoke = invoke;
    this.#limits = { ...defaultHttpServerLimits, ...limits };
    this.#http1 = createServer({
      maxHeaderSize: this.#limits.maxHeaderBytes,
      requestTimeout: 0,
      headersTimeout: this.#limits.headTimeoutMs,
      keepAliveTimeout: this.#limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: this.#limits.checkIntervalMs,
    });
    this.#http2 = createHttp2Server({ settings: { maxHeaderListSize: this.#limits.maxHeaderBytes } });
    this.router = new Router(
      app.triggers.filter((trigger): trigger is HttpTrigger => trigger.type === 'http'),
    );
    this.#http1.maxHeadersCount = this.#limits.maxHeaderFields;
    // Node fills the list of connections that its time-outs are checked against on this event only.
    this.#http1.emit('listening');
    this.#http1.on('request', (request, response) => this.#serve(request, response));
    this.#http1.on('checkContinue', (request, response) => {
      response.writeContinue();
      this.#serve(request, response);
    });
    this.#http1.on('upgrade', (_request, socket) => socket.destroy());
    this.#http2.on('request', (request, response) => this.#serve(request, response));
    this.#http2.on('session', (session) => {
      this.#sessions.add(session);
      session.once('close', () => this.#sessions.delete(session));
    });
    this.#sockets.on('connection', (socket: Socket) => this.#accept(socket));
  }

  /** Serves on a listening socket; takes the descriptor over. */
  listen(fd: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sockets.once('error', (error) => reject(ShimError.from(error, 'unavailable')));
      this.#sockets.listen({ fd }, resolve);
    });
  }

  /** Stops accepting, lets requests in flight finish, closes idle connections; resolves when none is left. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#sockets.close();
    for (const socket of this.#fresh) socket.destroy();
    for (const session of this.#sessions) session.close();
    this.#http1.closeIdleConnections();
    if (this.#active > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    this.#http1.close();
    this.#http2.close();
  }

  /** Cuts every connection and stops; for tests and for a server that was never meant to drain. */
  destroy(): void {
    this.#sockets.close();
    for (const socket of this.#fresh) socket.destroy();
    for (const session of this.#sessions) session.destroy();
    this.#http1.closeAllConnections();
    this.#http1.close();
  }

  #accept(socket: Socket): void {
    this.#fresh.add(socket);
    const stop = (): void => {
      this.#fresh.delete(socket);
      socket.destroy();
    };
    socket.setTimeout(this.#limits.headTimeoutMs, stop);
    socket.on('error', stop);
    socket.once('close', () => this.#fresh.delete(socket));
    socket.once('data', (chunk: Buffer) => {
      this.#fresh.delete(socket);
      socket.setTimeout(0);
      socket.pause();
      socket.unshift(chunk);
      if (chunk.toString('latin1', 0, http2Preface.length) === http2Preface) {
        this.#http2.emit('connection', socket);
      } else {
        this.#http1.emit('connection', socket);
        socket.resume();
      }
    });
  }

  #serve(request: AnyRequest, response: AnyResponse): void {
    this.#active += 1;
    response.once('close', () => {
      this.#active -= 1;
      if (this.#active === 0) this.#idle?.();
    });
    response.on('error', () => {});
    request.on('error', () => {});
    const sink = new ServerResponseSink(response, () => this.#draining);
    const headers = rawHeaders(request);
    const decision = this.#decide(request, headers);
    if (decision.kind === 'answer') {
      answerWith(sink, decision.answer);
      return;
    }
    const exchange = this.#exchange(request, response, sink, decision.target, headers, decision.routed);
    this.#invoke(decision.component, exchange).catch(() => {
      if (sink.started) sink.abort();
      else answerWith(sink, emptyAnswer(500));
    });
  }

  /** What to do with a request: the host's own answer, or a component to call. */
  #decide(request: AnyRequest, headers: HeaderList): Decision {
    const target = targetOf(request, headers);
    if (target === undefined) return { kind: 'answer', answer: emptyAnswer(400) };
    const path = withoutQuery(target.pathWithQuery);
    const wellKnown = wellKnownAnswer(this.#app, path);
    if (wellKnown !== undefined) return { kind: 'answer', answer: wellKnown };
    const routed = this.router.route(path);
    if (routed === undefined) return { kind: 'answer', answer: emptyAnswer(404) };
    const served = routed.route.trigger.target;
    if (served.kind === 'static') return { kind: 'answer', answer: served };
    if (headers.some(([, value]) => !isUtf8(value))) return { kind: 'answer', answer: emptyAnswer(500) };
    return { kind: 'call', component: served.component, routed, target };
  }

  #exchange(
    request: AnyRequest,
    response: AnyResponse,
    sink: ServerResponseSink,
    target: RequestTarget,
    headers: HeaderList,
    routed: RoutedRequest,
  ): HttpExchange {
    const gone = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) gone.abort(new Error('the client closed the connection'));
    });
    const line = {
      scheme: 'http' as const,
      host: target.authority === '' ? 'localhost' : target.authority,
      pathWithQuery: target.pathWithQuery,
      clientAddress: clientAddress(request),
    };
    return {
      method: request.method ?? 'GET',
      scheme: 'http',
      authority: target.authority,
      pathWithQuery: target.pathWithQuery,
      headers: guestHeaders(headers, line, routed),
      body: request,
      trailers: () => pairs(request.rawTrailers),
      signal: gone.signal,
      response: sink,
    };
  }
}

function emptyAnswer(status: number): HostAnswer {
  return { status, headers: [], body: '' };
}

function answerWith(sink: ServerResponseSink, answer: HostAnswer): void {
  const body = Buffer.from(answer.body);
  const headers = answer.headers.map(([name, value]): readonly [string, Uint8Array] => [
    name,
    Buffer.from(value, 'latin1'),
  ]);
  sink.start(answer.status, [...headers, ['content-length', Buffer.from(String(body.length))]]);
  if (body.length > 0) sink.write(body);
  sink.end();
}

function rawHeaders(request: AnyRequest): HeaderList {
  return pairs(request.rawHeaders).filter(([name]) => !name.startsWith(':'));
}

function pairs(flat: readonly string[]): HeaderList {
  const list: (readonly [string, Uint8Array])[] = [];
  for (let index = 0; index + 1 < flat.length; index += 2) {
    list.push([flat[index] ?? '', Buffer.from(flat[index + 1] ?? '', 'latin1')]);
  }
  return list;
}

function targetOf(request: AnyRequest, headers: HeaderList): RequestTarget | undefined {
  return parseTarget({
    url: request.url ?? '/',
    authority: 'authority' in request ? request.authority : undefined,
    hosts: headers
      .filter(([name]) => name.toLowerCase() === 'host')
      .map(([, value]) => Buffer.from(value).toString('latin1')),
  });
}

function clientAddress(request: AnyRequest): string {
  const { remoteAddress = '0.0.0.0', remotePort = 0 } = request.socket;
  const address = remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress;
  return address.includes(':') ? `[${address}]:${remotePort}` : `${address}:${remotePort}`;
}
