import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import { ShimError } from '../../error.ts';
import type { HeaderList, ResponseSink } from '../../host/http-exchange.ts';
import { validateHeaderName, validateHeaderValue } from './node-http.ts';

/** Body bytes held for one response before the guest has to wait. */
const highWaterBytes = 256 * 1024;

/** Body bytes held together with the head. */
const heldBytes = 64 * 1024;

/** Fields that frame a message or manage its connection: never taken from an answer, lower-case. */
export const framingFields: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

type State = 'new' | 'head-held' | 'streaming' | 'finished';

/**
 * A response sink over Node's HTTP/1.1 or HTTP/2 response. Head and first bytes are held back for one turn of the event
 * loop: a guest that finishes within it gets `content-length` and one packet; one that takes its time is streamed.
 */
export class ServerResponseSink implements ResponseSink {
  readonly #response: ServerResponse | Http2ServerResponse;
  readonly #closing: () => boolean;
  readonly #wake = (): void => {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const callback of waiting) callback();
  };
  #state: State = 'new';
  #status = 0;
  #headers: HeaderList = [];
  #held: Uint8Array[] = [];
  #heldLength = 0;
  #waiting = new Set<() => void>();

  /** `closing` tells that the connection is to end with this response (the server is being stopped). */
  constructor(response: ServerResponse | Http2ServerResponse, closing: () => boolean) {
    this.#response = response;
    this.#closing = closing;
    response.on('drain', this.#wake).on('close', this.#wake).on('error', this.#wake);
  }

  get started(): boolean {
    return this.#state !== 'new';
  }

  /** Throws `invalid-argument` for a status, name or value that the protocol of this connection cannot carry. */
  start(status: number, headers: HeaderList): void {
    if (this.#state !== 'new') throw new ShimError('internal', 'the response was started twice');
    checkHead(status, 'stream' in this.#response ? maxHttp2Status : maxHttp1Status, headers);
    this.#state = 'head-held';
    this.#status = status;
    this.#headers = headers;
    setImmediate(() => {
      if (this.#state === 'head-held') this.#stream();
    });
  }

  write(bytes: Uint8Array): void {
    if (this.#state === 'head-held') {
      this.#held.push(bytes);
      this.#heldLength += bytes.length;
      if (this.#heldLength >= heldBytes) this.#stream();
      return;
    }
    if (this.#state !== 'streaming' || this.#gone) return;
    (this.#response as ServerResponse).write(bytes, this.#wake);
  }

  capacity(): number {
    if (this.#gone) return highWaterBytes;
    return Math.max(0, highWaterBytes - this.#heldLength - this.#response.writableLength);
  }

  onDrain(callback: () => void): () => void {
    this.#waiting.add(callback);
    if (this.isFlushed()) setImmediate(this.#wake);
    return () => this.#waiting.delete(callback);
  }

  /** Held bytes count as flushed: they go out within this turn, and the guest need not wait for it. */
  isFlushed(): boolean {
    return this.#gone || this.#response.writableLength === 0;
  }

  end(trailers?: HeaderList): void {
    if (this.#state === 'finished') return;
    const hasTrailers = trailers !== undefined && trailers.length > 0;
    if (this.#state === 'head-held') {
      if (hasTrailers) this.#stream();
      else this.#sendHead([['content-length', Buffer.from(String(this.#heldLength))]]);
    }
    this.#state = 'finished';
    if (this.#gone) return;
    if (hasTrailers)
      this.#response.addTrailers(grouped(trailers.filter(([name]) => !framingFields.has(name))));
    const last = this.#takeHeld();
    (this.#response as ServerResponse).end(last);
  }

  abort(): void {
    if (this.#state === 'finished') return;
    this.#state = 'finished';
    if ('stream' in this.#response) this.#response.stream.close(2);
    else this.#response.destroy();
  }

  /** Sends the head and what was held; from here on every write goes out at once. */
  #stream(): void {
    this.#sendHead([]);
    if (this.#gone) return;
    const bytes = this.#takeHeld();
    if (bytes.length > 0) (this.#response as ServerResponse).write(bytes, this.#wake);
    // Node keeps a head back until there is a body to go with it.
    else if (!('stream' in this.#response)) this.#response.flushHeaders();
  }

  #takeHeld(): Uint8Array {
    const [first = empty, ...rest] = this.#held;
    this.#held = [];
    this.#heldLength = 0;
    return rest.length === 0 ? first : Buffer.concat([first, ...rest]);
  }

  get #gone(): boolean {
    const response = this.#response;
    if ('stream' in response) return response.stream.destroyed || response.stream.closed;
    return response.destroyed || (response.socket?.destroyed ?? false);
  }

  #sendHead(implied: HeaderList): void {
    this.#state = 'streaming';
    if (this.#gone) return;
    const has = (name: string): boolean => this.#headers.some(([known]) => known === name);
    const fields = [
      ...this.#headers,
      ...implied.filter(([name]) => allowsLength(this.#status) && !has(name)),
    ];
    if ('stream' in this.#response) {
      this.#response.writeHead(this.#status, grouped(fields));
      return;
    }
    if (this.#closing()) fields.push(['connection', close]);
    else this.#response.removeHeader('connection');
    this.#response.writeHead(
      this.#status,
      fields.flatMap(([name, value]) => [name, latin1(value)]),
    );
  }
}

const empty = new Uint8Array(0);
const close = Buffer.from('close');

/** Final statuses only: after a 1xx the client would wait for another head. */
const minStatus = 200;
const maxHttp1Status = 999;
const maxHttp2Status = 599;

function checkHead(status: number, maxStatus: number, headers: HeaderList): void {
  if (!Number.isInteger(status) || status < minStatus || status > maxStatus) {
    throw new ShimError(
      'invalid-argument',
      `a response cannot have the status ${status}: expected ${minStatus} to ${maxStatus}`,
    );
  }
  for (const [name, value] of headers) {
    try {
      validateHeaderName(name);
      validateHeaderValue(name, latin1(value));
    } catch (error) {
      throw ShimError.from(error, 'invalid-argument');
    }
  }
}

/** Values by name; `fromEntries` makes own properties of all names, `__proto__` too. */
function grouped(fields: HeaderList): Record<string, string[]> {
  const values = new Map<string, string[]>();
  for (const [name, value] of fields) values.set(name, [...(values.get(name) ?? []), latin1(value)]);
  return Object.fromEntries(values);
}

function latin1(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1');
}

function allowsLength(status: number): boolean {
  return status !== 204 && status !== 304;
}
