import { createConnection, type Socket } from 'node:net';
import { Channel } from './channel.ts';
import { startDeadline } from './deadline.ts';
import { decodeResponse, encodeRequest, type Metadata } from './envelope.ts';
import { defaultMaxFrameBytes, type FrameEvent, FrameType } from './frame.ts';
import { coded, type MethodCodec } from './service.ts';
import { assertSocketPath } from './socket-path.ts';
import { quote, StatusCode, TtrpcError, toErrorStatusCode } from './status.ts';

/** How long `connect` waits, milliseconds. */
export const defaultConnectTimeoutMs = 10_000;

/** Most bytes of requests that may wait for the server to read them. */
export const defaultMaxUnsentRequestBytes = 64 * 1024 * 1024;

/** Highest stream id: four bytes, odd. */
const maxStreamId = 0xffff_ffff;

export type TtrpcClientOptions = {
  /** Longest wait for the connection, milliseconds. */
  readonly connectTimeoutMs?: number;
  /** Longest frame body, either way, bytes. */
  readonly maxFrameBytes?: number;
  /** A call that would bring the unsent bytes above this fails with ResourceExhausted. */
  readonly maxUnsentBytes?: number;
  /** Called once when the connection is over, whoever ended it. */
  readonly onClose?: () => void;
};

export type CallOptions = {
  /** Budget, milliseconds: sent to the server and kept here. None by default; one of 0 or less has passed already. */
  readonly timeoutMs?: number;
  /** Keys are sent in lower case. */
  readonly metadata?: Metadata;
  /** Aborting forgets the call; the server is not told, since the protocol has no cancel. */
  readonly signal?: AbortSignal;
};

type PendingCall = {
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: TtrpcError) => void;
};

/** A connection to a ttrpc server; carries any number of unary calls at once. */
export class TtrpcClient {
  readonly #channel: Channel;
  readonly #maxFrameBytes: number;
  readonly #maxUnsentBytes: number;
  readonly #onClose: () => void;
  /** Stream id → the call that awaits its reply. */
  readonly #pending = new Map<number, PendingCall>();
  #nextStreamId = 1;

  private constructor(socket: Socket, options: TtrpcClientOptions) {
    this.#maxFrameBytes = options.maxFrameBytes ?? defaultMaxFrameBytes;
    this.#maxUnsentBytes = options.maxUnsentBytes ?? defaultMaxUnsentRequestBytes;
    this.#onClose = options.onClose ?? (() => {});
    this.#channel = new Channel(socket, {
      maxFrameBytes: this.#maxFrameBytes,
      // The server pauses its reading; a client that did too could deadlock with it.
      pauseReadsAboveBytes: Number.POSITIVE_INFINITY,
      onFrame: (event) => this.#onFrame(event),
      onClose: (error) => this.#onChannelClosed(error),
    });
  }

  /**
   * Connects to a unix socket.
   *
   * @throws TtrpcError Unavailable if nobody answers, DeadlineExceeded after `connectTimeoutMs`, InvalidArgument for
   * a path the kernel cannot take
   */
  static async connect(path: string, options: TtrpcClientOptions = {}): Promise<TtrpcClient> {
    assertSocketPath(path);
    const timeoutMs = options.connectTimeoutMs ?? defaultConnectTimeoutMs;
    const socket = createConnection({ path });
    await new Promise<void>((resolve, reject) => {
      const callOff = startDeadline(timeoutMs, () => {
        const message = `ttrpc: no connection to ${JSON.stringify(path)} within ${timeoutMs} ms`;
        socket.destroy(new TtrpcError(StatusCode.DeadlineExceeded, message));
      });
      const onError = (error: Error): void => {
        callOff();
        const message = `ttrpc: cannot connect to ${JSON.stringify(path)}: ${error.message}`;
        const refused = new TtrpcError(StatusCode.Unavailable, message, { cause: error });
        reject(error instanceof TtrpcError ? error : refused);
      };
      socket.once('error', onError);
      socket.once('connect', () => {
        callOff();
        socket.off('error', onError);
        resolve();
      });
    });
    return new TtrpcClient(socket, options);
  }

  /** Whether the connection is over. */
  get closed(): boolean {
    return this.#channel.closed;
  }

  /** Closes the connection; calls that await a reply fail with Unavailable. */
  close(): void {
    this.#channel.destroy();
  }

  /**
   * Calls a method and gives its reply.
   *
   * @param service full name (`containerd.task.v2.Task`)
   * @param method bare name (`Create`)
   * @throws TtrpcError: the server's status; DeadlineExceeded after `timeoutMs`; Canceled on `signal`; Unavailable
   * when the connection is over; ResourceExhausted above a limit; InvalidArgument for a request that cannot be
   * encoded; Internal for a reply that cannot be decoded
   */
  async call<Req, Res>(
    service: string,
    method: string,
    codec: MethodCodec<Req, Res>,
    request: Req,
    options: CallOptions = {},
  ): Promise<Res> {
    const name = `${service}/${method}`;
    const timeoutMs = options.timeoutMs ?? Number.POSITIVE_INFINITY;
    if (Number.isNaN(timeoutMs)) {
      throw new TtrpcError(
        StatusCode.InvalidArgument,
        `timeoutMs of ${name} is not a number: give milliseconds`,
      );
    }
    if (timeoutMs <= 0) throw deadlineError(name, timeoutMs);
    if (options.signal?.aborted === true) throw canceledError(name, options.signal);
    const body = encodeRequest({
      service,
      method,
      payload: coded(StatusCode.InvalidArgument, `the request of ${name} cannot be encoded`, () =>
        codec.requestSerialize(request),
      ),
      timeoutNano: toNanoseconds(timeoutMs),
      metadata: options.metadata ?? new Map(),
    });
    const payload = await this.#exchange(name, body, timeoutMs, options.signal);
    const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    return coded(StatusCode.Internal, `malformed reply of ${name}`, () => codec.responseDeserialize(bytes));
  }

  /** Sends a request envelope and gives the payload of its reply. */
  #exchange(
    name: string,
    body: Uint8Array,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const id = this.#takeStreamId(name, body.length);
    return new Promise((resolve, reject) => {
      const stopDeadline =
        timeoutMs === Number.POSITIVE_INFINITY
          ? () => {}
          : startDeadline(timeoutMs, () => this.#pending.get(id)?.reject(deadlineError(name, timeoutMs)));
      const onAbort = (): void => {
        if (signal !== undefined) this.#pending.get(id)?.reject(canceledError(name, signal));
      };
      const settle = (): void => {
        this.#pending.delete(id);
        stopDeadline();
        signal?.removeEventListener('abort', onAbort);
      };
      signal?.addEventListener('abort', onAbort);
      this.#pending.set(id, {
        resolve: (payload) => {
          settle();
          resolve(payload);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      this.#channel.send(FrameType.Request, id, body);
    });
  }

  /** The id of a request of that many bytes; throws if it cannot be sent. */
  #takeStreamId(name: string, bodyBytes: number): number {
    if (this.#channel.closed) throw closedError(undefined);
    if (bodyBytes > this.#maxFrameBytes) {
      const limit = `${bodyBytes} bytes exceeds the limit of ${this.#maxFrameBytes} bytes`;
      throw new TtrpcError(StatusCode.ResourceExhausted, `the request of ${name} of ${limit}: send less`);
    }
    if (this.#channel.unsentBytes + bodyBytes > this.#maxUnsentBytes) {
      const waiting = `${this.#channel.unsentBytes} bytes wait for the server to read, limit ${this.#maxUnsentBytes}`;
      throw new TtrpcError(StatusCode.ResourceExhausted, `${name} not sent: ${waiting}: call less at once`);
    }
    if (this.#nextStreamId > maxStreamId) {
      throw new TtrpcError(StatusCode.Unavailable, 'ttrpc: all stream ids are used up: connect anew');
    }
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    return id;
  }

  #onFrame(event: FrameEvent): void {
    if (event.header.type !== FrameType.Response) return;
    // No call: it timed out or was aborted, and this is its late reply.
    const call = this.#pending.get(event.header.streamId);
    if (call === undefined) return;
    if (event.kind === 'oversized') {
      const limit = `${event.header.bodyBytes} bytes exceeds the limit of ${this.#maxFrameBytes} bytes`;
      call.reject(new TtrpcError(StatusCode.ResourceExhausted, `the reply of ${limit}`));
      return;
    }
    try {
      const { status, payload } = decodeResponse(event.body);
      if (status === undefined || status.code === StatusCode.Ok) call.resolve(payload);
      else {
        const { details } = status;
        call.reject(new TtrpcError(toErrorStatusCode(status.code), status.message, { details }));
      }
    } catch (thrown) {
      call.reject(new TtrpcError(StatusCode.Internal, TtrpcError.from(thrown).message, { cause: thrown }));
    }
  }

  #onChannelClosed(error: Error | undefined): void {
    for (const call of [...this.#pending.values()]) call.reject(closedError(error));
    this.#onClose();
  }
}

/** Most nanoseconds an int64 holds. */
const maxNanoseconds = 2n ** 63n - 1n;

/** Milliseconds, above zero, as the wire's budget: at least 1, since 0 would mean none; 0 for an infinite one. */
function toNanoseconds(timeoutMs: number): bigint {
  if (timeoutMs === Number.POSITIVE_INFINITY) return 0n;
  // Whole milliseconds apart from the rest: one product of both would lose digits above 2^53.
  const wholeMs = Math.trunc(timeoutMs);
  const nanoseconds = BigInt(wholeMs) * 1_000_000n + BigInt(Math.ceil((timeoutMs - wholeMs) * 1e6));
  return nanoseconds > maxNanoseconds ? maxNanoseconds : nanoseconds;
}

function closedError(cause: Error | undefined): TtrpcError {
  return new TtrpcError(StatusCode.Unavailable, 'ttrpc: connection closed', { cause });
}

function deadlineError(name: string, timeoutMs: number): TtrpcError {
  return new TtrpcError(StatusCode.DeadlineExceeded, `${quote(name)}: no reply within ${timeoutMs} ms`);
}

function canceledError(name: string, signal: AbortSignal): TtrpcError {
  return new TtrpcError(StatusCode.Canceled, `${quote(name)} was aborted by its caller`, {
    cause: signal.reason,
  });
}
