import type { InstanceScope } from '../../scope.ts';
import type { BodyChannel } from '../../wasi/http/body-channel.ts';
import { type ErrorCode, HttpFailure } from '../../wasi/http/error-code.ts';
import type { IncomingContent } from '../../wasi/http/incoming-body.ts';
import {
  type ByteReader,
  chunkBytes,
  type GuestFuture,
  type GuestStream,
  guestReader,
  HostStream,
  heedlessly,
  type LazyPromise,
  lazily,
  pump,
  sourceReader,
  type WitResult,
} from '../guest-stream.ts';
import { Fields } from './fields.ts';

/** What a `future<result<option<trailers>, error-code>>` comes to. */
export type TrailersResult = WitResult<Fields | undefined, ErrorCode>;

/** What a `future<result<_, error-code>>` comes to: how a body's transfer went. */
export type TransferResult = WitResult<undefined, ErrorCode>;

/** What `consume-body` gives. */
export type ConsumedBody = readonly [AsyncIterable<Uint8Array>, LazyPromise<TrailersResult>];

const terminated: ErrorCode = { tag: 'connection-terminated' };

/** The body of a request or response of 0.3 with its trailers: used once, dropped by whoever does not use it. */
export type MessageBody = {
  /** Whether bytes come before the trailers. */
  readonly hasContents: boolean;
  /** For the guest. */
  consume(): ConsumedBody;
  /** Into a channel of the host's that is attached or will be; settles when the body is through or has failed. */
  transfer(channel: BodyChannel): Promise<TransferResult>;
  /** Moves the first bytes into a channel that is not attached yet. Whether there were any; a failure counts as none. */
  begin(channel: BodyChannel): Promise<boolean>;
  /** The trailers alone, for a message without contents. */
  trailers(): Promise<TrailersResult>;
  /** A transfer that is not `transfer`'s ends like this. */
  settle(result: TransferResult): void;
  drop(): void;
};

/** A body that the guest has made. The promise is what it gets to hear of the transfer. */
export function guestBody(
  scope: InstanceScope,
  stream: GuestStream | undefined,
  trailers: GuestFuture<TrailersResult>,
): { readonly body: MessageBody; readonly transferred: Promise<TransferResult> } {
  const { promise, resolve } = Promise.withResolvers<TransferResult>();
  const given: Promise<TrailersResult> = Promise.resolve(trailers);
  given.catch(() => {});
  const reader = stream === undefined ? noBytes : guestReader(scope, stream);
  const readTrailers = (): Promise<TrailersResult> =>
    scope.ofGuest(given).catch((): TrailersResult => ({ tag: 'err', val: terminated }));
  const body: MessageBody = {
    hasContents: stream !== undefined,
    consume: () => [
      new HostStream(scope, reader, (how) =>
        resolve(typeof how === 'string' ? { tag: 'ok', val: undefined } : failure(how.failure)),
      ),
      lazily(readTrailers),
    ],
    transfer: async (channel) => {
      const result = await transfer(scope, reader, readTrailers, channel);
      resolve(result);
      return result;
    },
    begin: (channel) => begin(reader, channel),
    trailers: readTrailers,
    settle: resolve,
    drop: () => {
      reader.close();
      resolve({ tag: 'err', val: terminated });
    },
  };
  return { body, transferred: promise };
}

/** A body that comes from the network. Nothing is asked of the peer before it is read. */
export function receivedBody(scope: InstanceScope, content: IncomingContent): MessageBody {
  const readTrailers = async (): Promise<TrailersResult> => {
    for (;;) {
      const end = content.end();
      if (end === undefined) {
        await scope.wait((resolve) => content.ended.subscribe(resolve));
        continue;
      }
      if ('code' in end) return { tag: 'err', val: end.code };
      return {
        tag: 'ok',
        val: end.trailers.length === 0 ? undefined : Fields.received(scope, end.trailers),
      };
    }
  };
  return {
    hasContents: true,
    consume: () => {
      let dropped = false;
      let asked = false;
      // Who wants the trailers of a body it does not read has the rest read and dropped.
      const discard = (): void => {
        if (dropped && asked) content.discard();
      };
      const rest: Disposable = { [Symbol.dispose]: () => content.abandon() };
      const stream = new HostStream(scope, sourceReader(scope, content.source), (how) => {
        dropped = how === 'dropped';
        if (!dropped) return;
        if (scope.ended === undefined) scope.adopt(rest);
        else content.abandon();
        discard();
      });
      const trailers = lazily(() => {
        asked = true;
        discard();
        return readTrailers();
      });
      return [stream, trailers];
    },
    transfer: (channel) => transfer(scope, sourceReader(scope, content.source), readTrailers, channel),
    begin: (channel) => begin(sourceReader(scope, content.source), channel),
    trailers: readTrailers,
    settle: () => {},
    drop: () => content.abandon(),
  };
}

async function begin(reader: ByteReader, channel: BodyChannel): Promise<boolean> {
  try {
    for (;;) {
      const bytes = await reader.read(chunkBytes);
      if (bytes === undefined) return false;
      if (bytes.length === 0) continue;
      channel.write(bytes);
      return true;
    }
  } catch {
    // The transfer that follows meets the same failure and reports it.
    return false;
  }
}

const noBytes: ByteReader = { read: () => Promise.resolve(undefined), close: () => {} };

async function transfer(
  scope: InstanceScope,
  reader: ByteReader,
  trailers: () => Promise<TrailersResult>,
  channel: BodyChannel,
): Promise<TransferResult> {
  // A request that is over cuts off a body that is not.
  const end: Disposable = { [Symbol.dispose]: () => channel.abort(terminated) };
  scope.adopt(end);
  try {
    if ((await pump(scope, reader, channel)) === 'closed') {
      heedlessly(trailers());
      return { tag: 'err', val: terminated };
    }
    const result = await trailers();
    if (scope.ended !== undefined) throw scope.ended;
    if (result.tag === 'err') throw new HttpFailure(result.val);
    const map = result.val === undefined ? undefined : Fields.take(result.val);
    // A length in the trailers would contradict the framing.
    const list = map?.entries().filter(([name]) => name !== 'content-length');
    map?.release();
    channel.finish(list !== undefined && list.length > 0 ? list : undefined);
    return { tag: 'ok', val: undefined };
  } catch (thrown) {
    const result = failure(thrown);
    if (result.tag === 'err') channel.abort(result.val);
    return result;
  } finally {
    scope.release(end);
  }
}

/** The code of what a transfer failed with: a failure of HTTP, a code thrown as it is, or anything else. */
function failure(thrown: unknown): TransferResult {
  if (thrown instanceof HttpFailure) return { tag: 'err', val: thrown.errorCode };
  if (!(thrown instanceof Error) && typeof thrown === 'object' && thrown !== null && 'tag' in thrown)
    return { tag: 'err', val: thrown as ErrorCode };
  return { tag: 'err', val: terminated };
}
