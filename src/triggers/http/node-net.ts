import type { ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';

/** What Node's servers have and its types do not tell of. */
type ListeningServer = Server & {
  readonly _listen2?: (address: null, port: null, type: null, backlog: number, fd: number) => void;
};

/** Connections that may wait to be accepted, as Node has it. */
const backlog = 511;

/**
 * Has a server listen on a descriptor. `listen` would load Node's module for clusters of processes first, with that for child
 * processes and seven others, only to find that this thread is in none.
 */
export function listenOn(server: ListeningServer, fd: number): void {
  if (server._listen2 === undefined) server.listen({ fd, backlog });
  else server._listen2(null, null, null, backlog, fd);
}

/** The descriptor of a connection; undefined when it is over. */
export function descriptorOf(
  socket: Socket & { readonly _handle?: { readonly fd: number } | null },
): number | undefined {
  const fd = socket._handle?.fd ?? -1;
  return fd < 0 ? undefined : fd;
}

/** Whether an answer on an HTTP/1 connection has been ended, and not all of it been sent. A book of answers would cost each of them. */
export function isSendingLast(socket: Socket & { readonly _httpMessage?: ServerResponse | null }): boolean {
  return socket._httpMessage?.writableEnded === true;
}
