/** One connection of a server: checks requests, runs them at once, sends replies as they come. */
import type { Socket } from 'node:net';
import { Channel } from './channel.ts';
import { startDeadline } from './deadline.ts';
import { decodeRequest, encodeResponse, type RequestEnvelope } from './envelope.ts';
import { FrameFlag, type FrameHeader, FrameType } from './frame.ts';
import type { BoundMethod } from './service.ts';
import { type ErrorStatusCode, quote, StatusCode, TtrpcError, toErrorStatusCode } from './status.ts';

/** Limits of one connection. */
export type ConnectionLimits = {
  /** Longest body of a frame, either way, bytes. */
  readonly maxFrameBytes: number;
  /** Most handlers at work. A call counts until its handler is done, even when its deadline was answered before. */
  readonly maxConcurrentCalls: number;
  /** Most bytes of request bodies held by handlers at work. */
  readonly maxHeldRequestBytes: number;
  /** Reading pauses while more bytes of replies than this wait for the peer to read. */
  readonly pauseReadsAboveBytes: number;
  /** A reply that would bring the waiting bytes above this is replaced by a ResourceExhausted status. */
  readonly maxUnsentBytes: number;
};

/** What a connection asks of its server. */
export type ConnectionHooks = {
  /** @throws TtrpcError Unimplemented */
  readonly lookup: (service: string, method: string) => BoundMethod;
  readonly toStatus: (thrown: unknown) => { readonly code: number; readonly message: string };
  readonly onError: (error: unknown, where: string) => void;
  readonly onClose: () => void;
};

/** Longest error message sent, UTF-16 code units. */
const maxMessageLength = 16 * 1024;

type ActiveCall = { readonly controller: AbortController; stopDeadline: () => void };

/** Serves one socket. Made by `TtrpcServer`; over when `onClose` is called. */
export class ServerConnection {
  readonly #limits: ConnectionLimits;
  readonly #hooks: ConnectionHooks;
  readonly #channel: Channel;
  /** Stream id → the call that still awaits its reply. */
  readonly #calls = new Map<number, ActiveCall>();
  #lastStreamId = 0;
  #running = 0;
  #heldRequestBytes = 0;
  #draining = false;

  constructor(socket: Socket, limits: ConnectionLimits, hooks: ConnectionHooks) {
    this.#limits = limits;
    this.#hooks = hooks;
    this.#channel = new Channel(socket, {
      maxFrameBytes: limits.maxFrameBytes,
      pauseReadsAboveBytes: limits.pauseReadsAboveBytes,
      onFrame: (event) => {
        // Any other type is of a later protocol, or the data of a stream that was refused.
        if (event.header.type !== FrameType.Request) return;
        if (event.kind === 'frame') this.#onRequest(event.header, event.body);
        else this.#onOversized(event.header);
      },
      onClose: (error) => this.#onClose(error),
    });
  }

  /** Refuses further requests and closes once every reply is sent. */
  drain(): void {
    this.#draining = true;
    if (this.#calls.size === 0) this.#channel.end();
  }

  /** Closes at once; the signals of all calls abort. */
  destroy(): void {
    this.#channel.destroy();
  }

  #onOversized(header: FrameHeader): void {
    if (header.streamId % 2 === 1) this.#lastStreamId = Math.max(this.#lastStreamId, header.streamId);
    this.#sendError(
      header.streamId,
      StatusCode.ResourceExhausted,
      `request of ${header.bodyBytes} bytes exceeds the limit of ${this.#limits.maxFrameBytes} bytes: send less`,
    );
  }

  #onRequest(header: FrameHeader, body: Buffer): void {
    const id = header.streamId;
    let request: RequestEnvelope;
    let bound: BoundMethod;
    try {
      this.#admit(id, body.length);
      request = decodeRequest(body);
      if ((header.flags & FrameFlag.RemoteOpen) !== 0) {
        const name = `${quote(request.service)}, method ${quote(request.method)}`;
        throw new TtrpcError(StatusCode.Unimplemented, `service ${name}: streaming is not supported`);
      }
      if (request.timeoutNano < 0n) {
        throw new TtrpcError(StatusCode.DeadlineExceeded, 'the deadline had passed before the call arrived');
      }
      bound = this.#hooks.lookup(request.service, request.method);
    } catch (thrown) {
      const { code, message } = TtrpcError.from(thrown, StatusCode.Internal);
      this.#sendError(id, code, message);
      return;
    }
    void this.#run(id, request, bound, body.length);
  }

  /** Throws if a request on this stream cannot be taken; else the stream id is used up. */
  #admit(id: number, bodyBytes: number): void {
    if (id % 2 === 0) {
      throw new TtrpcError(StatusCode.InvalidArgument, `stream id ${id} is even: a client's must be odd`);
    }
    if (id <= this.#lastStreamId) {
      const rule = `not above ${this.#lastStreamId}, the last one: stream ids must grow`;
      throw new TtrpcError(StatusCode.InvalidArgument, `stream id ${id} is ${rule}`);
    }
    this.#lastStreamId = id;
    if (this.#draining) {
      throw new TtrpcError(StatusCode.Unavailable, 'the server is closing: connect anew');
    }
    const { maxConcurrentCalls, maxHeldRequestBytes } = this.#limits;
    if (this.#running >= maxConcurrentCalls) {
      const limit = `${maxConcurrentCalls} calls at work on this connection`;
      throw new TtrpcError(StatusCode.ResourceExhausted, `the limit of ${limit} is reached: try later`);
    }
    if (this.#heldRequestBytes + bodyBytes > maxHeldRequestBytes) {
      const limit = `${maxHeldRequestBytes} bytes of requests at work on this connection`;
      throw new TtrpcError(StatusCode.ResourceExhausted, `the limit of ${limit} is reached: try later`);
    }
  }

  async #run(id: number, request: RequestEnvelope, bound: BoundMethod, bodyBytes: number): Promise<void> {
    const where = `${quote(request.service)}, method ${quote(request.method)}`;
    const controller = new AbortController();
    const call: ActiveCall = { controller, stopDeadline: () => {} };
    let deadline: number | undefined;
    if (request.timeoutNano !== 0n) {
      const delayMs = Number(request.timeoutNano) / 1e6;
      deadline = performance.now() + delayMs;
      call.stopDeadline = startDeadline(delayMs, () => this.#expire(id, where, delayMs));
    }
    this.#calls.set(id, call);
    this.#running += 1;
    this.#heldRequestBytes += bodyBytes;
    const { service, method, payload, metadata } = request;
    try {
      const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
      const reply = await bound(bytes, { service, method, metadata, signal: controller.signal, deadline });
      if (this.#settle(id)) this.#sendReply(id, where, reply);
    } catch (thrown) {
      if (this.#settle(id)) this.#sendFailure(id, where, thrown);
    } finally {
      this.#running -= 1;
      this.#heldRequestBytes -= bodyBytes;
      this.#endIfDrained();
    }
  }

  #expire(id: number, where: string, delayMs: number): void {
    const call = this.#calls.get(id);
    if (call === undefined || !this.#settle(id)) return;
    const message = `service ${where}: no reply within the caller's ${delayMs} ms`;
    this.#sendError(id, StatusCode.DeadlineExceeded, message);
    call.controller.abort(new TtrpcError(StatusCode.DeadlineExceeded, message));
    this.#endIfDrained();
  }

  /** Takes a call off the list; false if it was answered, or its connection closed, before. */
  #settle(id: number): boolean {
    const call = this.#calls.get(id);
    if (call === undefined) return false;
    call.stopDeadline();
    return this.#calls.delete(id);
  }

  #endIfDrained(): void {
    if (this.#draining && this.#calls.size === 0) this.#channel.end();
  }

  #sendFailure(id: number, where: string, thrown: unknown): void {
    let code: ErrorStatusCode = StatusCode.Internal;
    let message = 'the error could not be described';
    try {
      const status = this.#hooks.toStatus(thrown);
      code = toErrorStatusCode(status.code);
      message = String(status.message);
    } catch (failure) {
      this.#hooks.onError(failure, `toStatus for service ${where}`);
    }
    this.#sendError(id, code, message);
    if (code === StatusCode.Unknown || code === StatusCode.Internal) {
      this.#hooks.onError(thrown, `service ${where}`);
    }
  }

  #sendReply(id: number, where: string, payload: Uint8Array): void {
    const body = encodeResponse({ status: undefined, payload });
    const { maxFrameBytes, maxUnsentBytes } = this.#limits;
    if (body.length > maxFrameBytes) {
      const limit = `${body.length} bytes exceeds the limit of ${maxFrameBytes} bytes`;
      this.#sendError(id, StatusCode.ResourceExhausted, `service ${where}: the reply of ${limit}`);
    } else if (this.#channel.unsentBytes + body.length > maxUnsentBytes) {
      const waiting = `${this.#channel.unsentBytes} bytes of replies wait to be read, limit ${maxUnsentBytes}`;
      this.#sendError(id, StatusCode.ResourceExhausted, `service ${where}: ${waiting}: read faster`);
    } else {
      this.#channel.send(FrameType.Response, id, body);
    }
  }

  /** An error reply has no payload: some clients decode the payload before they look at the status. */
  #sendError(id: number, code: ErrorStatusCode, message: string): void {
    const status = { code, message: message.slice(0, maxMessageLength), details: [] };
    this.#channel.send(FrameType.Response, id, encodeResponse({ status, payload: new Uint8Array(0) }));
  }

  #onClose(error: Error | undefined): void {
    const reason = new TtrpcError(StatusCode.Canceled, 'ttrpc: connection closed', { cause: error });
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) {
      call.stopDeadline();
      call.controller.abort(reason);
    }
    if (error !== undefined && !isPeerGone(error)) this.#hooks.onError(error, 'connection');
    this.#hooks.onClose();
  }
}

/** Whether the error only says that the peer has left. */
function isPeerGone(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}
