import type { ServerHttp2Session } from 'node:http2';

type Session = { streams: number; timer: NodeJS.Timeout | undefined };

/**
 * The open HTTP/2 connections of a server. Node has no time-out for one that is merely open, so each that carries no
 * stream for a while is told to go away; bytes that open no stream do not count as life.
 */
export class Http2Sessions {
  readonly #idleMs: number;
  readonly #open = new Map<ServerHttp2Session, Session>();

  /** `idleMs`: time a connection may be without a stream, milliseconds. */
  constructor(idleMs: number) {
    this.#idleMs = idleMs;
  }

  /** Watches a connection until it closes. */
  add(session: ServerHttp2Session): void {
    const state: Session = { streams: 0, timer: undefined };
    this.#open.set(session, state);
    const rest = (): void => {
      state.timer = setTimeout(() => session.close(), this.#idleMs);
      state.timer.unref();
    };
    session.on('stream', (stream) => {
      clearTimeout(state.timer);
      state.streams += 1;
      stream.once('close', () => {
        state.streams -= 1;
        if (state.streams === 0 && !session.closed) rest();
      });
    });
    session.once('close', () => {
      clearTimeout(state.timer);
      this.#open.delete(session);
    });
    rest();
  }

  /** Tells every peer to go away; each connection closes once its streams have ended. */
  close(): void {
    for (const session of this.#open.keys()) session.close();
  }

  /** Cuts every connection. */
  destroy(): void {
    for (const session of this.#open.keys()) session.destroy();
  }
}
