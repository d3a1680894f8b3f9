import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import type { HeaderList, HttpExchange } from '../../host/http-exchange.ts';
import type { ClientSignal } from './client-signal.ts';
import type { RequestTarget } from './request-target.ts';
import type { ServerResponseSink } from './response-sink.ts';
import type { RoutedRequest } from './router.ts';
import { guestHeaders, headerList } from './spin-headers.ts';

/** One request of Node's server as the guest's side sees it. What a guest does not ask for is not made. */
export class ServerExchange implements HttpExchange {
  readonly scheme = 'http';
  readonly body: IncomingMessage | Http2ServerRequest;
  readonly response: ServerResponseSink;
  readonly signal: ClientSignal;
  readonly #target: RequestTarget;
  readonly #fields: readonly string[];
  readonly #routed: RoutedRequest;
  readonly #clientAddress: string;
  #headers: HeaderList | undefined;

  /**
   * `fields` are the client's header fields, names and values in turn; `clientAddress` is its `ip:port`, which the socket
   * cannot tell any more once the client has gone.
   */
  constructor(
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponseSink,
    signal: ClientSignal,
    target: RequestTarget,
    fields: readonly string[],
    routed: RoutedRequest,
    clientAddress: string,
  ) {
    this.body = request;
    this.response = response;
    this.signal = signal;
    this.#target = target;
    this.#fields = fields;
    this.#routed = routed;
    this.#clientAddress = clientAddress;
  }

  get method(): string {
    return this.body.method ?? 'GET';
  }

  get authority(): string {
    return this.#target.authority;
  }

  get pathWithQuery(): string {
    return this.#target.pathWithQuery;
  }

  get headers(): HeaderList {
    const { authority, pathWithQuery } = this.#target;
    this.#headers ??= guestHeaders(
      this.#fields,
      {
        scheme: this.scheme,
        host: authority === '' ? 'localhost' : authority,
        pathWithQuery,
        clientAddress: this.#clientAddress,
      },
      this.#routed,
    );
    return this.#headers;
  }

  trailers(): HeaderList {
    return headerList(this.body.rawTrailers);
  }
}
