import { CommandFailure } from '../command.ts';

/** Exit codes as curl has them. */
export const curlExitCodes = {
  usage: 2,
  badUrl: 3,
  unresolved: 6,
  unreachable: 7,
  denied: 7,
  httpError: 22,
  timeout: 28,
  tls: 35,
  empty: 52,
  cut: 56,
} as const;

/** A request that `curl` is to make. */
export type CurlRequest = {
  readonly url: URL;
  readonly method: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
};

export type CurlResponse = {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: AsyncIterable<Uint8Array>;
};

/** The request failed; the message is for people, the exit code is curl's. */
export class CurlFailure extends CommandFailure {
  override readonly name: string = 'CurlFailure';
}
