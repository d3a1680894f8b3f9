import type { HeaderList, HttpExchange } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { FieldMap } from '../../wasi/http/fields.ts';
import { isMethod, type Method, methodFromText, type Scheme } from '../../wasi/http/method.ts';
import { isAuthority, isPath, isScheme } from '../../wasi/http/outgoing-request.ts';
import { ReadableContent } from '../../wasi/http/readable-content.ts';
import { type GuestFuture, type GuestStream, heedlessly } from '../guest-stream.ts';
import { Fields } from './fields.ts';
import {
  type ConsumedBody,
  guestBody,
  type MessageBody,
  receivedBody,
  type TrailersResult,
  type TransferResult,
} from './message-body.ts';
import { type Durations, RequestOptions } from './request-options.ts';

type Line = {
  readonly method: Method;
  readonly scheme: Scheme | undefined;
  readonly authority: string | undefined;
  readonly pathWithQuery: string | undefined;
};

/** A request that somebody has handed over. */
export type RequestParts = Line & {
  readonly fields: FieldMap;
  readonly body: MessageBody;
  readonly options: Durations | undefined;
};

/** wasi:http/types 0.3 `request`: made by a guest, or received. */
export class Request {
  readonly #scope: InstanceScope;
  #line: Line;
  readonly #headers: FieldMap | HeaderList;
  #map: FieldMap | undefined;
  readonly #body: MessageBody;
  readonly #options: Durations | undefined;

  private constructor(
    scope: InstanceScope,
    line: Line,
    headers: FieldMap | HeaderList,
    body: MessageBody,
    options: Durations | undefined,
  ) {
    this.#scope = scope;
    this.#line = line;
    this.#headers = headers;
    if (headers instanceof FieldMap) this.#map = headers;
    this.#body = body;
    this.#options = options;
    scope.adopt(this);
  }

  /** WIT `new`. */
  static create(
    scope: InstanceScope,
    headers: Fields,
    contents: GuestStream | undefined,
    trailers: GuestFuture<TrailersResult>,
    options: RequestOptions | undefined,
  ): readonly [Request, Promise<TransferResult>] {
    const map = Fields.take(headers);
    const { body, transferred } = guestBody(scope, contents, trailers);
    const line: Line = {
      method: { tag: 'get' },
      scheme: undefined,
      authority: undefined,
      pathWithQuery: undefined,
    };
    const durations = options === undefined ? undefined : RequestOptions.take(options);
    return [new Request(scope, line, map, body, durations), transferred];
  }

  /** One inbound exchange. */
  static received(scope: InstanceScope, exchange: HttpExchange): Request {
    const line: Line = {
      method: methodFromText(exchange.method),
      scheme: exchange.scheme === 'https' ? { tag: 'HTTPS' } : { tag: 'HTTP' },
      authority: exchange.authority,
      pathWithQuery: exchange.pathWithQuery,
    };
    const content = new ReadableContent(exchange.body, () => exchange.trailers());
    return new Request(scope, line, exchange.headers, receivedBody(scope, content), undefined);
  }

  /** Takes the request out of a handle that the guest gave away. */
  static take(request: Request): RequestParts {
    request.#scope.release(request);
    return { ...request.#line, fields: request.#fields, body: request.#body, options: request.#options };
  }

  static consumeBody(request: Request, result: GuestFuture<TransferResult>): ConsumedBody {
    request.#scope.release(request);
    request.#map?.release();
    heedlessly(result);
    return request.#body.consume();
  }

  getMethod(): Method {
    return this.#line.method;
  }

  setMethod(method: Method): void {
    if (!isMethod(method)) throw undefined;
    this.#line = { ...this.#line, method: method.tag === 'other' ? methodFromText(method.val) : method };
  }

  getPathWithQuery(): string | undefined {
    return this.#line.pathWithQuery;
  }

  /** An empty one is `/`, as the request line has to have something. */
  setPathWithQuery(pathWithQuery: string | undefined): void {
    if (pathWithQuery !== undefined && !isPath(pathWithQuery)) throw undefined;
    this.#line = { ...this.#line, pathWithQuery: pathWithQuery === '' ? '/' : pathWithQuery };
  }

  getScheme(): Scheme | undefined {
    return this.#line.scheme;
  }

  setScheme(scheme: Scheme | undefined): void {
    if (scheme !== undefined && !isScheme(scheme)) throw undefined;
    this.#line = { ...this.#line, scheme: scheme && canonicalScheme(scheme) };
  }

  getAuthority(): string | undefined {
    return this.#line.authority;
  }

  setAuthority(authority: string | undefined): void {
    if (authority !== undefined && !(isAuthority(authority) && namesHost(authority))) throw undefined;
    this.#line = { ...this.#line, authority };
  }

  getOptions(): RequestOptions | undefined {
    return this.#options === undefined ? undefined : RequestOptions.view(this.#scope, this.#options);
  }

  getHeaders(): Fields {
    return Fields.view(this.#scope, this.#fields);
  }

  get #fields(): FieldMap {
    const headers = this.#headers;
    this.#map ??= headers instanceof FieldMap ? headers : FieldMap.received(this.#scope, headers);
    return this.#map;
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#map?.release();
    this.#body.drop();
  }
}

/** A scheme that has a case of its own is never `other` (WebAssembly/wasi-http issue 194). */
function canonicalScheme(scheme: Scheme): Scheme {
  if (scheme.tag !== 'other') return scheme;
  if (scheme.val === 'http') return { tag: 'HTTP' };
  return scheme.val === 'https' ? { tag: 'HTTPS' } : scheme;
}

/** Whether an authority is a host and at most a port there is. */
function namesHost(authority: string): boolean {
  const port = /^(?:\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::([0-9]{0,5}))?$/.exec(authority);
  return port !== null && Number(port[1] ?? 0) <= 65_535;
}
