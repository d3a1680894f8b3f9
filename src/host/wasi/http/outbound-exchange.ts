import type { Dispatcher } from 'undici';
import type { HeaderList } from '../../http-exchange.ts';
import type { InstanceScope } from '../../scope.ts';
import { type ByteSource, type Readiness, Signal } from '../io.ts';
import { type ErrorCode, errorCodeOf, HttpFailure } from './error-code.ts';
import type { IncomingContent } from './incoming-body.ts';
import type { RequestBody } from './request-body.ts';
import type { RequestTimeouts } from './request-options.ts';

/** Bytes of a response body that are kept before the connection is paused. */
export const responseHighWaterMark = 64 * 1024;

/** What is known of the response's head. */
export type ResponseHead =
  | { readonly kind: 'pending' }
  | { readonly kind: 'received'; readonly status: number; readonly headers: HeaderList }
  | { readonly kind: 'failed'; readonly code: ErrorCode };

type End = { readonly trailers: HeaderList } | { readonly code: ErrorCode };

/**
 * One outbound request on its way: undici's handler on one side, the guest's response on the other. A request given up
 * before its connection stands is aborted as soon as undici has one for it.
 */
export class OutboundExchange implements IncomingContent, Dispatcher.DispatchHandler {
  readonly source: ByteSource;
  readonly ended: Readiness;
  /** Ready when the head is no longer pending. */
  readonly answered: Readiness;
  readonly #scope: InstanceScope;
  readonly #timeouts: RequestTimeouts;
  readonly #requestBody: RequestBody | undefined;
  readonly #onSettled: () => void;
  readonly #headSignal = new Signal();
  readonly #bodySignal = new Signal();
  #head: ResponseHead = { kind: 'pending' };
  #end: End | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  #queue: Uint8Array[] = [];
  #bytes = 0;
  #discarding = false;
  #timer: NodeJS.Timeout | undefined;

  /** `onSettled` is called once, when undici is done with the request. */
  constructor(
    scope: InstanceScope,
    timeouts: RequestTimeouts,
    requestBody: RequestBody | undefined,
    onSettled: () => void,
  ) {
    this.#scope = scope;
    this.#timeouts = timeouts;
    this.#requestBody = requestBody;
    this.#onSettled = onSettled;
    this.source = {
      readiness: {
        isReady: () => this.#bytes > 0 || this.#end !== undefined,
        subscribe: (callback) => this.#bodySignal.subscribe(callback),
      },
      read: (max) => this.#read(max),
      close: () => {},
    };
    this.ended = {
      isReady: () => this.#end !== undefined,
      subscribe: (callback) => this.#bodySignal.subscribe(callback),
    };
    this.answered = {
      isReady: () => this.#head.kind !== 'pending',
      subscribe: (callback) => this.#headSignal.subscribe(callback),
    };
    this.#arm(timeouts.connect, { tag: 'connection-timeout' });
  }

  get head(): ResponseHead {
    return this.#head;
  }

  end(): End | undefined {
    return this.#bytes === 0 ? this.#end : undefined;
  }

  discard(): void {
    this.#discarding = true;
    this.#drop();
    this.#resume();
    this.#bodySignal.notify();
  }

  abandon(): void {
    this.fail({ tag: 'connection-terminated' });
  }

  /** Gives the request up with this code; without effect once the response is complete. */
  fail(code: ErrorCode): void {
    this.#disarm();
    this.#drop();
    if (this.#end !== undefined) return;
    this.#end = { code };
    if (this.#head.kind === 'pending') this.#head = { kind: 'failed', code };
    this.#controller?.abort(new HttpFailure(code));
    this.#requestBody?.close(code);
    this.#headSignal.notify();
    this.#bodySignal.notify();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#end !== undefined && 'code' in this.#end) {
      controller.abort(new HttpFailure(this.#end.code));
      return;
    }
    this.#arm(this.#timeouts.firstByte, { tag: 'connection-read-timeout' });
  }

  onRequestUpgrade(controller: Dispatcher.DispatchController): void {
    controller.abort(new HttpFailure({ tag: 'HTTP-upgrade-failed' }));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return;
    this.#head = { kind: 'received', status, headers: headerList(controller.rawHeaders) };
    this.#armBetweenBytes();
    this.#headSignal.notify();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#discarding) {
      this.#armBetweenBytes();
      return;
    }
    // Throws when the instance holds too much already; undici then aborts and reports it to `onResponseError`.
    this.#scope.charge(chunk.length);
    this.#queue.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes >= responseHighWaterMark) {
      this.#disarm();
      controller.pause();
    } else {
      this.#armBetweenBytes();
    }
    this.#bodySignal.notify();
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    this.#disarm();
    this.#end = { trailers: headerList(controller.rawTrailers) };
    this.#requestBody?.close();
    this.#bodySignal.notify();
    this.#onSettled();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    const code = errorCodeOf(error);
    const cutShort = this.#head.kind === 'received' && code.tag === 'connection-terminated';
    this.fail(cutShort ? { tag: 'HTTP-response-incomplete' } : code);
    this.#onSettled();
  }

  #read(max: number): Uint8Array | 'end' | undefined {
    const [first] = this.#queue;
    if (first === undefined) {
      if (this.#end === undefined) return undefined;
      if ('code' in this.#end) throw new HttpFailure(this.#end.code);
      return 'end';
    }
    const bytes = first.length <= max ? first : first.subarray(0, max);
    if (bytes === first) this.#queue.shift();
    else this.#queue[0] = first.subarray(max);
    this.#bytes -= bytes.length;
    this.#scope.refund(bytes.length);
    this.#resume();
    return bytes;
  }

  #resume(): void {
    if (this.#controller?.paused !== true || this.#bytes >= responseHighWaterMark) return;
    this.#armBetweenBytes();
    this.#controller.resume();
  }

  #drop(): void {
    this.#scope.refund(this.#bytes);
    this.#queue = [];
    this.#bytes = 0;
  }

  #armBetweenBytes(): void {
    this.#arm(this.#timeouts.betweenBytes, { tag: 'connection-read-timeout' });
  }

  #arm(delay: number, code: ErrorCode): void {
    this.#disarm();
    this.#timer = setTimeout(() => this.fail(code), delay);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

type RawHeaders = Dispatcher.DispatchController['rawHeaders'];

/** undici's raw headers: a flat list for HTTP/1, a record for HTTP/2. */
function headerList(raw: RawHeaders): HeaderList {
  const list: [string, Uint8Array][] = [];
  const add = (name: Buffer | string, value: Buffer | string): void => {
    const text = typeof name === 'string' ? name : name.toString('latin1');
    const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
    // A copy: the parser's buffers are views that keep a whole socket chunk alive.
    if (!text.startsWith(':')) list.push([text, Uint8Array.from(bytes)]);
  };
  if (Array.isArray(raw)) {
    for (let index = 0; index + 1 < raw.length; index += 2) add(raw[index] ?? '', raw[index + 1] ?? '');
    return list;
  }
  for (const [name, value] of Object.entries(raw ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) add(name, one);
  }
  return list;
}
