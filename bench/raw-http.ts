import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/**
 * One request on a connection of its own, with as little work on this side as can be: bodies are counted, not read.
 * Used where the client's own cost would show.
 */
export type RawAnswer = {
  readonly status: number;
  /** Bytes after the head, framing of chunks included. */
  readonly bodyBytes: number;
  /** The first bytes of the body, for small answers. */
  readonly text: string;
};

export type RawRequest = {
  readonly port: number;
  readonly path: string;
  /** Bytes of a body to send; none when undefined. */
  readonly bodyBytes?: number;
  /** Time for all of it, milliseconds; default a minute. */
  readonly timeoutMs?: number;
};

const defaultTimeoutMs = 60_000;
/** Bytes of a body handed to the socket at once. */
const chunk = Buffer.alloc(262_144, 'x');
/** How much of an answer's body is kept as text. */
const textBytes = 512;

/** Sends a request and resolves when the server has closed the connection. Throws when there was no status line. */
export async function rawHttp(request: RawRequest): Promise<RawAnswer> {
  const { port, path, bodyBytes, timeoutMs = defaultTimeoutMs } = request;
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  const timer = setTimeout(
    () => socket.destroy(new Error(`no whole answer to "${path}" within ${timeoutMs} ms`)),
    timeoutMs,
  );
  socket.once('close', () => clearTimeout(timer));
  const ended = collect(socket);
  await Promise.race([once(socket, 'connect'), ended]);
  const length = bodyBytes === undefined ? '' : `content-length: ${bodyBytes}\r\n`;
  const method = bodyBytes === undefined ? 'GET' : 'POST';
  socket.write(`${method} ${path} HTTP/1.1\r\nhost: bench\r\n${length}connection: close\r\n\r\n`);
  for (let left = bodyBytes ?? 0; left > 0; left -= chunk.length) {
    if (!socket.write(chunk.subarray(0, Math.min(left, chunk.length)))) {
      await Promise.race([once(socket, 'drain'), ended]);
    }
  }
  return ended;
}

function collect(socket: Socket): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    let head = '';
    let total = 0;
    let bodyStart: number | undefined;
    socket.on('data', (bytes: Buffer) => {
      total += bytes.length;
      if (bodyStart === undefined || head.length < bodyStart + textBytes)
        head += bytes.toString('latin1', 0, 4096);
      if (bodyStart === undefined) {
        const end = head.indexOf('\r\n\r\n');
        if (end >= 0) bodyStart = end + 4;
      }
    });
    socket.on('error', reject);
    socket.on('close', () => {
      const status = /^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1];
      if (status === undefined || bodyStart === undefined)
        reject(new Error('the connection closed without an answer'));
      else resolve({ status: Number(status), bodyBytes: total - bodyStart, text: head.slice(bodyStart) });
    });
  });
}

/** The text of a small answer, whether its body came in chunks or whole. */
export function textOf({ text }: RawAnswer): string {
  if (!text.endsWith('0\r\n\r\n')) return text.trim();
  let whole = '';
  for (let rest = text; ; ) {
    const end = rest.indexOf('\r\n');
    const length = Number.parseInt(rest.slice(0, end), 16);
    if (!(length > 0)) return whole.trim();
    whole += rest.slice(end + 2, end + 2 + length);
    rest = rest.slice(end + 2 + length + 2);
  }
}
