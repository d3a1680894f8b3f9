import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { timeScale } from './wait.ts';

/** A whole HTTP answer. */
export type HttpAnswer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
};

export type HttpOptions = {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array;
  /** Whole request, in milliseconds. Default 15 000. */
  readonly timeoutMs?: number;
};

/** One request on its own connection (no keep-alive, no pool); rejects on any transport error and on timeout. */
export function httpRequest(
  url: string,
  { method = 'GET', headers = {}, body, timeoutMs = 15_000 }: HttpOptions = {},
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      { method, headers, agent: false, signal: AbortSignal.timeout(timeoutMs * timeScale) },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const whole = Buffer.concat(chunks);
          resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            body: whole,
            text: whole.toString('utf8'),
          });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** `httpRequest` with method GET. */
export function httpGet(
  url: string,
  options: Omit<HttpOptions, 'method' | 'body'> = {},
): Promise<HttpAnswer> {
  return httpRequest(url, options);
}
