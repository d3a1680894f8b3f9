/** What one client may take of the server, and for how long. */
export type HttpServerLimits = {
  /** Time for a client to send a request's head, or the first bytes of a connection, milliseconds. */
  readonly headTimeoutMs: number;
  /** Time a connection without a request is kept, milliseconds. */
  readonly keepAliveTimeoutMs: number;
  /** Time in which connections without a request may still send one once the server is draining, milliseconds. */
  readonly drainIdleMs: number;
  /** Time in which connections that clients have begun are still accepted once the server is draining, milliseconds. */
  readonly drainAcceptMs: number;
  /** How often heads and idle connections are checked against their time, milliseconds. */
  readonly checkIntervalMs: number;
  /** Bytes of one request's head; more is answered with 431. */
  readonly maxHeaderBytes: number;
  /** Fields in one request's head; more is answered with 431. */
  readonly maxHeaderFields: number;
  /** Requests of one HTTP/2 connection at once. */
  readonly maxConcurrentStreams: number;
};

/** Time-outs long enough for slow clients and load balancers that keep connections for a minute. */
export const defaultHttpServerLimits: HttpServerLimits = {
  headTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  drainIdleMs: 500,
  drainAcceptMs: 100,
  checkIntervalMs: 5_000,
  maxHeaderBytes: 64 * 1024,
  maxHeaderFields: 200,
  maxConcurrentStreams: 250,
};
