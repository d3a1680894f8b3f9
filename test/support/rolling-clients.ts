import { connect } from 'node:net';
import { answerLength } from './http-answer.ts';

/** What came of the requests of some clients. */
export type RollingCounts = {
  readonly answered: number;
  /** Requests that were sent and not answered with a whole 200; each with what was seen of it. */
  readonly lost: readonly string[];
  /** Connections that were not made, after which a client went to the next address. */
  readonly refused: number;
};

/** Time for a connection to be made, milliseconds: longer than the second after which TCP asks again. */
const connectTimeoutMs = 3_000;

/**
 * Clients of a service whose servers come and go, as those behind a proxy that learns of it late: each keeps its connection
 * for as long as the server does, with one request at a time, and goes to the next address when it is over or not to be
 * had. None of them is told that a server is about to stop.
 */
export class RollingClients {
  readonly addresses = new Set<string>();
  readonly #head: Buffer;
  #wanted: number;
  readonly #lost: string[] = [];
  #answered = 0;
  #refused = 0;
  #next = 0;

  /** They ask for `path` on port 80 of each address until `wanted` requests are answered, or `end`. */
  constructor(path: string, wanted = Number.POSITIVE_INFINITY) {
    this.#head = Buffer.from(`GET ${path} HTTP/1.1\r\nhost: rolling\r\n\r\n`);
    this.#wanted = wanted;
  }

  get isOver(): boolean {
    return this.#answered >= this.#wanted;
  }

  get counts(): RollingCounts {
    return { answered: this.#answered, lost: this.#lost, refused: this.#refused };
  }

  /** Keeps that many connections busy; resolves when all requests are answered. */
  async run(connections: number): Promise<void> {
    const client = async (): Promise<void> => {
      while (!this.isOver) {
        const addresses = [...this.addresses];
        const address = addresses[this.#next++ % addresses.length];
        if (address === undefined) throw new Error('no server is left');
        await this.#useConnection(address);
      }
    };
    await Promise.all(Array.from({ length: connections }, client));
  }

  /** Asks for nothing more; what is under way still counts. */
  end(): void {
    this.#wanted = 0;
  }

  #useConnection(address: string): Promise<void> {
    const socket = connect({ port: 80, host: address, noDelay: true });
    let received: Buffer = Buffer.alloc(0);
    let isMade = false;
    let isWaiting = false;
    let why = 'the connection was closed';
    let requests = 0;
    let sent = 0;
    const send = (): void => {
      isWaiting = !this.isOver;
      if (!isWaiting) {
        socket.end();
        return;
      }
      requests += 1;
      sent = performance.now();
      socket.write(this.#head);
    };
    socket.setTimeout(connectTimeoutMs, () => {
      if (!isMade) socket.destroy();
    });
    let from = 0;
    socket.once('connect', () => {
      isMade = true;
      from = socket.localPort ?? 0;
      send();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      why = error.code ?? error.message;
    });
    socket.on('data', (chunk: Buffer) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      try {
        const length = answerLength(received);
        if (length === undefined) return;
        const isLast = /^connection: close\r$/im.test(received.toString('latin1', 0, length));
        received = received.subarray(length);
        isWaiting = false;
        this.#answered += 1;
        if (!isLast) send();
      } catch (error) {
        why = String(error);
        socket.destroy();
      }
    });
    return new Promise((resolve) => {
      socket.once('close', () => {
        if (!isMade) this.#refused += 1;
        else if (isWaiting) {
          const waited = `${(performance.now() - sent).toFixed(0)} ms after it was sent`;
          this.#lost.push(
            `request ${requests} of a connection from port ${from} to ${address}: ${why} ${waited}, with ${received.length} bytes of an answer`,
          );
        }
        resolve();
      });
    });
  }
}
