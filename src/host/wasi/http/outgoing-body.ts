import type { InstanceScope } from '../../scope.ts';
import { OutputStream } from '../io.ts';
import type { BodyChannel } from './body-channel.ts';
import { Fields } from './fields.ts';

/** wasi:http/types `outgoing-body`: written once, complete only by `finish`; dropped before that it is cut off. */
export class OutgoingBody {
  readonly #scope: InstanceScope;
  readonly #channel: BodyChannel;
  #written = false;

  constructor(scope: InstanceScope, channel: BodyChannel) {
    this.#scope = scope;
    this.#channel = channel;
    scope.adopt(this);
  }

  write(): OutputStream {
    if (this.#written) throw undefined;
    this.#written = true;
    return new OutputStream(this.#scope, this.#channel);
  }

  /** Throws the WIT error code, `HTTP-…-body-size` when the announced length was not kept. */
  static finish(body: OutgoingBody, trailers: Fields | undefined): void {
    body.#scope.release(body);
    const map = trailers === undefined ? undefined : Fields.take(trailers);
    // A length in the trailers would contradict the framing.
    const list = map?.entries().filter(([name]) => name !== 'content-length');
    map?.release();
    body.#channel.finish(list !== undefined && list.length > 0 ? list : undefined);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#channel.abort({ tag: 'connection-terminated' });
  }
}
