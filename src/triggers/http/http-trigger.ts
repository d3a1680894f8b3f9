import { isUtf8 } from 'node:buffer';
import type { Server as Http1Server, IncomingMessage, ServerResponse } from 'node:http';
import type { Http2Server, Http2ServerRequest, Http2ServerResponse, ServerOptions } from 'node:http2';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { App, HttpTrigger } from '../../app/types.ts';
import { ShimError } from '../../error.ts';
import type { HttpExchange } from '../../host/http-exchange.ts';
import { takePackets } from '../../linux.ts';
import { AnswerGroup } from './answer-group.ts';
import { refuseClient } from './client-error.ts';
import { ClientSignal } from './client-signal.ts';
import { Http2Sessions } from './http2-sessions.ts';
import { createServer, loadHttp2 } from './node-http.ts';
import { descriptorOf, isSendingLast, listenOn } from './node-net.ts';
import { parseTarget, type RequestTarget, withoutQuery } from './request-target.ts';
import { framingFields, ServerResponseSink } from './response-sink.ts';
import { type RoutedRequest, Router } from './router.ts';
import { ServerExchange } from './server-exchange.ts';
import { defaultHttpServerLimits, type HttpServerLimits } from './server-limits.ts';
import { type HostAnswer, wellKnownAnswer } from './well-known.ts';

/** Calls a component with one request; resolves when the guest is done, rejects when it failed. */
export type Invoke = (component: string, exchange: HttpExchange) => Promise<void>;

/** Answers after which an HTTP/1 connection is closed: who frames one request wrongly is not to be trusted with more. */
const malformed: ReadonlySet<number> = new Set([400, 431]);

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

/** An HTTP/1 connection. */
type Connection = {
  /** `ip:port` of the peer. */
  readonly peer: string;
  /** Its last request was malformed: what follows is not read as a request. */
  isRefused: boolean;
  /** Its client has sent a request before it had the answer to the last one. */
  isPipelined: boolean;
};

function connectionOf(socket: Socket): Connection {
  return { peer: peerOf(socket), isRefused: false, isPipelined: false };
}

/** First bytes of an HTTP/2 connection with prior knowledge. */
const http2Preface = 'PRI';

/** `:method`, `:scheme`, `:authority` and `:path` count among the fields of an HTTP/2 head. */
const pseudoFields = 4;

/**
 * Spin's HTTP trigger: HTTP/1.1 and h2c with prior knowledge on one listening socket, routing, injected headers, static
 * responses, the well-known endpoints, and the 404 and 500 answers of reference/spin.md 3.1.5.
 */
export class HttpTriggerServer {
  readonly router: Router;
  readonly #app: App;
  readonly #invoke: Invoke;
  readonly #limits: HttpServerLimits;
  readonly #answers: AnswerGroup;
  readonly #sendComplete = (): void => this.#answers.sendComplete();
  readonly #http1: Http1Server;
  /** Made when the first client speaks HTTP/2. */
  #http2: Http2Server | undefined;
  readonly #sockets = createTcpServer({ noDelay: true });
  readonly #sessions: Http2Sessions;
  /** Connections that have not said yet which protocol they speak. */
  readonly #fresh = new Set<Socket>();
  /** What is known of HTTP/1 connections. */
  readonly #known = new WeakMap<Socket, Connection>();
  readonly #connections = new Set<Socket>();
  /** Connections until now. */
  #accepted = 0;
  /** Answers that are not over: their guests work, or clients have not read them yet. */
  #active = 0;
  #phase: 'serving' | 'draining' | 'closing-idle' = 'serving';
  #progress = (): void => {};

  /** `answers` are those of this thread; whoever calls guests on it tells them so. */
  constructor(
    app: App,
    invoke: Invoke,
    limits: Partial<HttpServerLimits> = {},
    answers: AnswerGroup = new AnswerGroup(),
  ) {
    this.#app = app;
    this.#invoke = invoke;
    this.#answers = answers;
    this.#limits = { ...defaultHttpServerLimits, ...limits };
    this.router = new Router(
      app.triggers.filter((trigger): trigger is HttpTrigger => trigger.type === 'http'),
    );
    this.#sessions = new Http2Sessions(this.#limits.keepAliveTimeoutMs);
    this.#http1 = this.#createHttp1();
    this.#sockets.on('connection', (socket: Socket) => this.#accept(socket));
  }

  #createHttp1(): Http1Server {
    const server = createServer({
      maxHeaderSize: this.#limits.maxHeaderBytes,
      requestTimeout: 0,
      headersTimeout: this.#limits.headTimeoutMs,
      keepAliveTimeout: this.#limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: this.#limits.checkIntervalMs,
      // Refused with all other bad targets, so that nothing behind such a request is served either.
      requireHostHeader: false,
    });
    // Node drops the fields above its count without a word; one more than allowed tells that there were too many.
    server.maxHeadersCount = this.#limits.maxHeaderFields + 1;
    // Node fills the list of connections that its time-outs are checked against on this event only.
    server.emit('listening');
    server.on('request', (request, response) => this.#serve(request, response));
    server.on('checkContinue', (request, response) => {
      response.writeContinue();
      this.#serve(request, response);
    });
    // Node would cut both of these connections by itself, with the answers that wait in this turn.
    server.on('clientError', (error, socket) => {
      this.#sendComplete();
      refuseClient(error, socket as Socket);
    });
    server.on('connect', ({ socket }) => {
      this.#sendComplete();
      socket.destroy();
    });
    return server;
  }

  #createHttp2(): Http2Server {
    const server = loadHttp2().createServer({
      settings: {
        maxHeaderListSize: this.#limits.maxHeaderBytes,
        maxConcurrentStreams: this.#limits.maxConcurrentStreams,
      },
      maxHeaderListPairs: this.#limits.maxHeaderFields + 1 + pseudoFields,
      // What a guest answers is passed on as it is: a field that is there twice is sent twice.
      strictSingleValueFields: false,
    } as ServerOptions);
    server.on('request', (request, response) => this.#serve(request, response));
    server.on('session', (session) => {
      this.#sessions.add(session);
      if (this.#phase !== 'serving') session.close();
    });
    return server;
  }

  /** Serves on a listening socket; takes the descriptor over. */
  listen(fd: number): Promise<void> {
    return new Promise((resolve, reject) => {
      // Later ones are failures to accept: that connection is lost, the listening socket stays.
      this.#sockets.on('error', (error) => reject(ShimError.from(error, 'unavailable')));
      this.#sockets.once('listening', resolve);
      listenOn(this.#sockets, fd);
    });
  }

  /** Serves one connection that was made elsewhere; takes it over. */
  serveConnection(socket: Socket): void {
    this.#accept(socket);
  }

  /**
   * Stops accepting and lets requests in flight finish. Connections without a request may send one more for a moment
   * (a client cannot know that the server is about to close what it just reuses), then they are closed; with `keepIdle`
   * they stay until their keep-alive time is over, as they would without us. Resolves when no connection is left.
   */
  async drain({ keepIdle = false }: { readonly keepIdle?: boolean } = {}): Promise<void> {
    this.#phase = 'draining';
    for (const socket of this.#connections) listenAgain(socket);
    // Handshakes on their way complete meanwhile and are accepted; who closed the door to new ones is the caller.
    await sleep(this.#limits.drainAcceptMs);
    if (!keepIdle) await this.#acceptAll();
    this.#sockets.close();
    this.#sessions.close();
    const closeIdle = (): void => {
      this.#phase = 'closing-idle';
      this.#closeIdle();
    };
    // Not before what the kernel has of a client by now is read: this thread may have had no time for it.
    const idleIsOver = keepIdle ? undefined : setTimeout(setImmediate, this.#limits.drainIdleMs, closeIdle);
    await new Promise<void>((resolve) => {
      this.#progress = () => {
        if (this.#phase === 'closing-idle') this.#closeIdle();
        if (this.#connections.size === 0) resolve();
      };
      this.#progress();
    });
    clearTimeout(idleIsOver);
    this.#http1.close();
  }

  /**
   * Accepts what is made and was not accepted yet, which the kernel would reset: Node takes one connection in a turn of its
   * loop, and this thread may have had little time. Where the door is open more may always come, so there is an end to it.
   */
  async #acceptAll(): Promise<void> {
    const end = performance.now() + this.#limits.drainIdleMs;
    for (let accepted = -1; accepted !== this.#accepted && performance.now() < end; ) {
      accepted = this.#accepted;
      await turn();
    }
  }

  /** Cuts every connection and stops. */
  destroy(): void {
    this.#sendComplete();
    this.#sockets.close();
    for (const socket of this.#fresh) socket.destroy();
    this.#sessions.destroy();
    this.#http1.closeAllConnections();
    this.#http1.close();
  }

  #closeIdle(): void {
    for (const socket of this.#fresh) socket.destroy();
    // Node takes a connection for idle whose answer has been ended, though its client has not read it.
    for (const socket of this.#connections) if (isSendingLast(socket)) return;
    this.#http1.closeIdleConnections();
    // What is left without a request still sends a body that its response did not wait for.
    if (this.#active === 0) this.#http1.closeAllConnections();
  }

  #accept(socket: Socket): void {
    this.#connections.add(socket);
    this.#accepted += 1;
    this.#fresh.add(socket);
    if (this.#phase !== 'serving') listenAgain(socket);
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#fresh.delete(socket);
      this.#progress();
    });
    socket.on('error', () => socket.destroy());
    const giveUp = setTimeout(() => socket.destroy(), this.#limits.headTimeoutMs);
    socket.once('close', () => clearTimeout(giveUp));
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const start = head.toString('latin1', 0, http2Preface.length);
      if (start.length < http2Preface.length && http2Preface.startsWith(start)) return;
      socket.off('data', onData);
      clearTimeout(giveUp);
      this.#fresh.delete(socket);
      socket.pause();
      socket.unshift(head);
      if (start === http2Preface) {
        this.#http2 ??= this.#createHttp2();
        this.#http2.emit('connection', socket);
      } else {
        this.#known.set(socket, connectionOf(socket));
        // First of all who listen: nothing can be written once they have heard that the client sends no more.
        socket.prependListener('end', this.#sendComplete);
        this.#http1.emit('connection', socket);
        socket.resume();
      }
    };
    socket.on('data', onData);
  }

  #serve(request: AnyRequest, response: AnyResponse): void {
    this.#active += 1;
    const connection = this.#known.get(request.socket) ?? connectionOf(request.socket);
    // An answer to the request before is on its way, or waits for others of its turn.
    if (!('stream' in response) && response.socket === null) {
      connection.isPipelined = true;
      this.#sendComplete();
    }
    const sink = new ServerResponseSink(
      response,
      connection,
      () => this.#phase !== 'serving' || connection.isRefused,
      this.#answers,
    );
    const signal = new ClientSignal();
    response.on('close', () => {
      this.#active -= 1;
      if (!response.writableFinished) signal.abort(new Error('the client closed the connection'));
      sink.wake();
      // The connection counts as idle only after this event.
      if (this.#phase !== 'serving') setImmediate(this.#progress);
    });
    response.on('error', ignore);
    // Node tells an HTTP/1 request of its failure only if it listens.
    if ('stream' in request) request.on('error', ignore);
    if (connection.isRefused) return;
    const fields = clientFields(request);
    const decision = this.#decide(request, fields);
    if (decision.kind === 'answer') {
      if (malformed.has(decision.answer.status) && !('stream' in response)) connection.isRefused = true;
      answerWith(sink, decision.answer);
      return;
    }
    const { component, target, routed } = decision;
    const exchange = new ServerExchange(request, sink, signal, target, fields, routed, connection.peer);
    void this.#call(component, exchange);
  }

  async #call(component: string, exchange: ServerExchange): Promise<void> {
    try {
      await this.#invoke(component, exchange);
    } catch {
      if (exchange.response.started) exchange.response.abort();
      else answerWith(exchange.response, emptyAnswer(500));
    }
  }

  /** What to do with a request: the host's own answer, or a component to call. */
  #decide(request: AnyRequest, fields: readonly string[]): Decision {
    if (fields.length > this.#limits.maxHeaderFields * 2) return { kind: 'answer', answer: emptyAnswer(431) };
    const target = targetOf(request, fields);
    if (target === undefined) return { kind: 'answer', answer: emptyAnswer(400) };
    const path = withoutQuery(target.pathWithQuery);
    const wellKnown = wellKnownAnswer(this.#app, path);
    if (wellKnown !== undefined) return { kind: 'answer', answer: wellKnown };
    const routed = this.router.route(path);
    if (routed === undefined) return { kind: 'answer', answer: emptyAnswer(404) };
    const served = routed.route.trigger.target;
    if (served.kind === 'static') return { kind: 'answer', answer: served };
    if (!areUtf8(fields)) return { kind: 'answer', answer: emptyAnswer(500) };
    return { kind: 'call', component: served.component, routed, target };
  }
}

/** Who closes the door may have closed it in the middle of this connection's handshake; where it may not, nobody had to. */
function listenAgain(socket: Socket): void {
  const fd = descriptorOf(socket);
  if (fd === undefined) return;
  try {
    takePackets(fd);
  } catch (thrown) {
    if (ShimError.from(thrown).code !== 'permission-denied') throw thrown;
  }
}

function ignore(): void {}

function emptyAnswer(status: number): HostAnswer {
  return { status, headers: [], body: '' };
}

/** Sends an answer of the host's own; fields that frame the message are the server's business. */
function answerWith(sink: ServerResponseSink, answer: HostAnswer): void {
  const fields = answer.headers
    .filter(([name]) => !framingFields.has(name.toLowerCase()))
    .map(([name, value]): readonly [string, Uint8Array] => [name, Buffer.from(value, 'latin1')]);
  sink.start(answer.status, fields);
  if (answer.body !== '') sink.write(Buffer.from(answer.body));
  sink.end();
}

/** `ip:port` of the other end. */
function peerOf({ remoteAddress = '0.0.0.0', remotePort = 0 }: Socket): string {
  const address = remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress;
  return address.includes(':') ? `[${address}]:${remotePort}` : `${address}:${remotePort}`;
}

/** The header fields of a request, names and values in turn, without HTTP/2's pseudo fields. */
function clientFields(request: AnyRequest): readonly string[] {
  const { rawHeaders } = request;
  if (!('stream' in request)) return rawHeaders;
  const fields: string[] = [];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    if (!name.startsWith(':')) fields.push(name, rawHeaders[index + 1] ?? '');
  }
  return fields;
}

const beyondAscii = /[^\0-\x7f]/;

/** Whether all values are UTF-8; each character of one is a byte. */
function areUtf8(fields: readonly string[]): boolean {
  for (let index = 1; index < fields.length; index += 2) {
    const value = fields[index] ?? '';
    if (beyondAscii.test(value) && !isUtf8(Buffer.from(value, 'latin1'))) return false;
  }
  return true;
}

function targetOf(request: AnyRequest, fields: readonly string[]): RequestTarget | undefined {
  const hosts: string[] = [];
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const name = fields[index] ?? '';
    if (name.length === 'host'.length && name.toLowerCase() === 'host') hosts.push(fields[index + 1] ?? '');
  }
  const authority = 'authority' in request ? request.authority : undefined;
  return parseTarget({ url: request.url ?? '/', authority, hosts });
}
