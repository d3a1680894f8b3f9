import type { IncomingMessage } from 'node:http';
import { loopbackOf } from '../app-access.ts';
import { CurlFailure, type CurlRequest, type CurlResponse, curlExitCodes } from './curl-request.ts';

/** Asks the app through its listener, over the loopback of the network it listens in. */
export function sendInbound(
  address: string,
  { url, method, headers, body, timeoutMs, signal }: CurlRequest,
): Promise<CurlResponse> {
  const colon = address.lastIndexOf(':');
  const host = loopbackOf(address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'));
  return new Promise((resolve, reject) => {
    // Not by `import`, which evaluates all that the module can give: 10 MB and 70 ms for a shell that asks nobody.
    const request = process.getBuiltinModule('node:http').request({
      agent: false,
      host: host.replace(/^\[(.*)\]$/, '$1'),
      port: Number(address.slice(colon + 1)),
      method,
      path: `${url.pathname}${url.search}`,
      headers: [
        ...(headers.some(([name]) => name.toLowerCase() === 'host') ? [] : [['host', url.host] as const]),
        ...headers,
        ...(body === undefined ? [] : [['content-length', String(body.length)] as const]),
      ].flat(),
      signal,
    });
    const giveUp = setTimeout(
      () => request.destroy(new CurlFailure(`no whole answer within ${timeoutMs} ms`, curlExitCodes.timeout)),
      timeoutMs,
    );
    request.once('close', () => clearTimeout(giveUp));
    request.once('error', (error) => reject(failureOf(error, signal)));
    request.once('response', (response) => {
      resolve({
        status: response.statusCode ?? 0,
        headers: pairs(response.rawHeaders),
        body: bodyOf(response, signal),
      });
    });
    request.end(body);
  });
}

async function* bodyOf(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of response) yield chunk as Buffer;
  } catch (error) {
    throw failureOf(error, signal);
  }
}

function failureOf(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof CurlFailure) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  if (code === 'ECONNREFUSED') {
    return new CurlFailure('the app does not listen (connection refused)', curlExitCodes.unreachable);
  }
  if (code === 'ECONNRESET') return new CurlFailure('the app closed the connection', curlExitCodes.empty);
  return new CurlFailure(`the app could not be asked: ${code}`, curlExitCodes.cut);
}

function pairs(flat: readonly string[]): readonly (readonly [string, string])[] {
  return flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? ''] as const] : []));
}
