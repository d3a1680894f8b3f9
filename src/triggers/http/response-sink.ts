import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { ShimError } from '../../error.ts';
import type { HeaderList, ResponseSink } from '../../host/http-exchange.ts';
import { freeOwned } from '../../large-bytes.ts';
import type { AnswerGroup, HeldAnswer } from './answer-group.ts';
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

type State = 'new' | 'head-held' | 'complete' | 'streaming' | 'finished';

/** Body bytes that a complete HTTP/1.1 answer may have to go out as one text with its head. */
const oneTextBytes = 16 * 1024;

/**
 * A response sink over Node's HTTP/1.1 or HTTP/2 response. Head and first bytes are held back for one turn of the event
 * loop: a guest that finishes within it gets `content-length` and one packet; one that takes its time is streamed. Over
 * HTTP/1.1 that packet may go out together with those of others (`AnswerGroup`). Whoever makes it calls `wake` when the
 * response has closed.
 */
export class ServerResponseSink implements ResponseSink, HeldAnswer {
  readonly #response: ServerResponse | Http2ServerResponse;
  readonly #isHttp2: boolean;
  readonly #connection: { readonly isPipelined: boolean };
  readonly #closing: () => boolean;
  readonly #answers: AnswerGroup;
  readonly #onWritten = (): void => this.wake();
  #state: State = 'new';
  #status = 0;
  /** The head's fields: names and values in turn, each character of a value a byte. */
  #fields: string[] = [];
  #hasLength = false;
  #announcesTrailers = false;
  #held: Uint8Array[] = [];
  #heldLength = 0;
  #waiting: Set<() => void> | undefined;

  /** `closing` tells that the connection is to end with this response (the server is being stopped). */
  constructor(
    response: ServerResponse | Http2ServerResponse,
    connection: { readonly isPipelined: boolean },
    closing: () => boolean,
    answers: AnswerGroup,
  ) {
    this.#response = response;
    this.#isHttp2 = 'stream' in response;
    this.#connection = connection;
    this.#closing = closing;
    this.#answers = answers;
  }

  get started(): boolean {
    return this.#state !== 'new';
  }

  /** Throws `invalid-argument` for a status, name or value that the protocol of this connection cannot carry. */
  start(status: number, headers: HeaderList): void {
    if (this.#state !== 'new') throw new ShimError('internal', 'the response was started twice');
    checkStatus(status, this.#isHttp2 ? maxHttp2Status : maxHttp1Status);
    const fields: string[] = [];
    for (const [name, value] of headers) {
      const text = latin1(value);
      checkField(name, text);
      fields.push(name, text);
      if (name === 'content-length') this.#hasLength = true;
      else if (name === 'trailer') this.#announcesTrailers = true;
    }
    this.#state = 'head-held';
    this.#status = status;
    this.#fields = fields;
    this.#answers.begin(this);
  }

  endOfTurn(): void {
    if (this.#state === 'head-held') this.#stream();
  }

  write(bytes: Uint8Array): void {
    if (this.#state === 'head-held') {
      this.#held.push(bytes);
      this.#heldLength += bytes.length;
      if (this.#heldLength >= heldBytes) this.#stream();
      return;
    }
    if (this.#state !== 'streaming' || this.#gone) return;
    this.#send(bytes);
  }

  capacity(): number {
    if (this.#gone) return highWaterBytes;
    return Math.max(0, highWaterBytes - this.#heldLength - this.#response.writableLength);
  }

  onDrain(callback: () => void): () => void {
    const waiting = this.#waiting ?? new Set();
    this.#waiting = waiting.add(callback);
    if (this.isFlushed()) setImmediate(this.#onWritten);
    return () => waiting.delete(callback);
  }

  /** Calls back who waits for room. */
  wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || waiting.size === 0) return;
    this.#waiting = undefined;
    for (const callback of waiting) callback();
  }

  /** Held bytes count as flushed: they go out within this turn, and the guest need not wait for it. */
  isFlushed(): boolean {
    return this.#gone || this.#response.writableLength === 0;
  }

  end(trailers?: HeaderList): void {
    if (this.#isOver) return;
    const hasTrailers = trailers !== undefined && trailers.length > 0;
    if (this.#state === 'head-held') {
      // What goes out on one connection of HTTP/2 is put together by Node, and Node has a pipeline's order to keep.
      if (!hasTrailers && !this.#isHttp2 && !this.#connection.isPipelined) {
        this.#state = 'complete';
        this.#answers.complete(this);
        return;
      }
      if (hasTrailers) this.#stream();
      else this.#sendHead(this.#heldLength);
    }
    this.#finish(hasTrailers ? trailers : undefined);
  }

  send(): void {
    this.#sendHead(this.#heldLength);
    this.#finish(undefined);
  }

  #finish(trailers: HeaderList | undefined): void {
    this.#state = 'finished';
    if (this.#gone) return;
    if (trailers !== undefined) this.#response.addTrailers(grouped(trailerFields(trailers)));
    const last = this.#takeHeld();
    const response = this.#response as ServerResponse;
    // Node joins head and text into one piece, which costs it less than two.
    if (last.length <= oneTextBytes && !this.#isHttp2) response.end(latin1(last), 'latin1');
    else response.end(last);
  }

  abort(): void {
    if (this.#isOver) return;
    this.#state = 'finished';
    if ('stream' in this.#response) this.#response.stream.close(2);
    else {
      // Behind an answer that is on its way Node would forget it, and the client wait for ever.
      if (this.#response.socket === null) this.#response.once('socket', (socket: Socket) => socket.destroy());
      this.#response.destroy();
    }
  }

  /** Sends the head and what was held; from here on every write goes out at once. */
  #stream(): void {
    this.#sendHead(undefined);
    if (this.#gone) return;
    this.#response.on('drain', this.#onWritten).on('error', this.#onWritten);
    const bytes = this.#takeHeld();
    if (bytes.length > 0) this.#send(bytes);
    // Node keeps a head back until there is a body to go with it.
    else if (!('stream' in this.#response)) this.#response.flushHeaders();
  }

  /** Sends part of a body. Of a failed write nobody knows whether the kernel is done with the bytes, nor of HTTP/2's. */
  #send(bytes: Uint8Array): void {
    (this.#response as ServerResponse).write(bytes, (error) => {
      if (!this.#isHttp2 && (error === undefined || error === null)) freeOwned(bytes);
      this.wake();
    });
  }

  #takeHeld(): Uint8Array {
    const held = this.#held;
    if (held.length === 0) return empty;
    this.#held = [];
    this.#heldLength = 0;
    return held.length === 1 ? (held[0] ?? empty) : Buffer.concat(held);
  }

  /** Whoever answers has done so, or given up. */
  get #isOver(): boolean {
    return this.#state === 'complete' || this.#state === 'finished';
  }

  get #gone(): boolean {
    const response = this.#response;
    if ('stream' in response) return response.stream.destroyed || response.stream.closed;
    return response.destroyed || (response.socket?.destroyed ?? false);
  }

  /** `length` is that of the body, if it is known. */
  #sendHead(length: number | undefined): void {
    this.#state = 'streaming';
    if (this.#gone) return;
    const fields = this.#fields;
    if (length !== undefined && !this.#hasLength && allowsLength(this.#status))
      fields.push('content-length', String(length));
    if ('stream' in this.#response) {
      this.#response.writeHead(this.#status, grouped(fields));
      return;
    }
    if (this.#closing()) fields.push('connection', 'close');
    else this.#response.removeHeader('connection');
    // Node refuses a head that announces trailers where none can follow.
    const drops = this.#announcesTrailers && (length !== undefined || !this.#isChunked(this.#response));
    this.#response.writeHead(this.#status, drops ? without('trailer', fields) : fields);
  }

  /** Whether a body of unknown length goes out in chunks. */
  #isChunked({ req }: ServerResponse): boolean {
    return (
      !this.#hasLength && req.httpVersion === '1.1' && req.method !== 'HEAD' && allowsLength(this.#status)
    );
  }
}

const empty = new Uint8Array(0);

/** Final statuses only: after a 1xx the client would wait for another head. */
const minStatus = 200;
const maxHttp1Status = 999;
const maxHttp2Status = 599;

function checkStatus(status: number, maxStatus: number): void {
  if (!Number.isInteger(status) || status < minStatus || status > maxStatus) {
    throw new ShimError(
      'invalid-argument',
      `a response cannot have the status ${status}: expected ${minStatus} to ${maxStatus}`,
    );
  }
}

/** Names and values that need no second look. */
const plainName = /^[0-9A-Za-z-]+$/;
const plainValue = /^[\t\x20-\x7e]*$/;

function checkField(name: string, value: string): void {
  if (plainName.test(name) && plainValue.test(value)) return;
  try {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  } catch (error) {
    throw ShimError.from(error, 'invalid-argument');
  }
}

function trailerFields(trailers: HeaderList): string[] {
  return trailers.flatMap(([name, value]) => (framingFields.has(name) ? [] : [name, latin1(value)]));
}

/** Values by name; `fromEntries` makes own properties of all names, `__proto__` too. */
function grouped(fields: readonly string[]): Record<string, string[]> {
  const values = new Map<string, string[]>();
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const name = fields[index] ?? '';
    values.set(name, [...(values.get(name) ?? []), fields[index + 1] ?? '']);
  }
  return Object.fromEntries(values);
}

/** The fields but those of one name, which is lower-case. */
function without(name: string, fields: readonly string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index + 1 < fields.length; index += 2)
    if (fields[index] !== name) kept.push(fields[index] ?? '', fields[index + 1] ?? '');
  return kept;
}

function latin1(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1');
}

function allowsLength(status: number): boolean {
  return status !== 204 && status !== 304;
}
