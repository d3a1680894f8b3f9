import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { STATUS_CODES } from './node-http.ts';

/** What Node answers to bytes that are no request, or come too late, by the code of its error; all others are 400. */
const statuses: ReadonlyMap<string | undefined, number> = new Map([
  ['ERR_HTTP_REQUEST_TIMEOUT', 408],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 413],
  ['HPE_HEADER_OVERFLOW', 431],
]);

/**
 * Ends an HTTP/1 connection whose client sent what cannot be read as a request, or nothing in time: as Node does when
 * nobody listens for `clientError`. The status is told unless an answer is on its way, which the client would take it
 * for a part of.
 */
export function refuseClient(error: NodeJS.ErrnoException, socket: Socket): void {
  const { _httpMessage: current } = socket as Socket & { readonly _httpMessage?: ServerResponse | null };
  if (socket.writable && current?.headersSent !== true) {
    const status = statuses.get(error.code) ?? 400;
    socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`, 'latin1');
  }
  socket.destroy(error);
}
