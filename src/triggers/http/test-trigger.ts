import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { App, HttpTarget, HttpTrigger } from '../../app/types.ts';
import type { HttpExchange } from '../../host/http-exchange.ts';
import { listenTcp, refuseNewConnections } from '../../linux.ts';
import { AnswerGroup } from './answer-group.ts';
import { HttpTriggerServer, type Invoke } from './http-trigger.ts';
import type { HttpServerLimits } from './server-limits.ts';

/** An HTTP trigger on a real loopback socket, its guests replaced by a function. */
export type TestTrigger = {
  readonly port: number;
  readonly server: HttpTriggerServer;
  readonly answers: AnswerGroup;
  /** As the engine does it: the door is closed first. */
  readonly drain: () => Promise<void>;
};

export function appWith(routes: readonly (readonly [path: string, target?: HttpTarget])[]): App {
  const triggers = routes.map(
    ([path, target]): HttpTrigger => ({
      type: 'http',
      id: path,
      route: { kind: 'path', path },
      target: target ?? { kind: 'component', component: 'c' },
      executor: { type: 'http' },
    }),
  );
  return { name: 'sample', version: '1.2.3', variables: [], triggers, components: [] };
}

/** Serves until the test ends. */
export async function serve(
  t: TestContext,
  invoke: Invoke,
  app: App = appWith([['/...']]),
  limits: Partial<HttpServerLimits> = {},
): Promise<TestTrigger> {
  const answers = new AnswerGroup();
  const server = new HttpTriggerServer(app, invoke, { ...limits }, answers);
  const { fd, port } = listenTcp({ host: '127.0.0.1', port: 0 });
  await server.listen(fd);
  t.after(() => server.destroy());
  const drain = (): Promise<void> => {
    refuseNewConnections(fd);
    return server.drain();
  };
  return { port, server, answers, drain };
}

/** Answers at once with a status, fields and a body. */
export function answer(
  exchange: HttpExchange,
  status: number,
  body = '',
  fields: readonly (readonly [string, string])[] = [],
): void {
  exchange.response.start(
    status,
    fields.map(([name, value]) => [name, Buffer.from(value, 'latin1')]),
  );
  if (body !== '') exchange.response.write(Buffer.from(body));
  exchange.response.end();
}

/** The fields a guest would see, as text. */
export function fieldsOf(exchange: HttpExchange): [string, string][] {
  return exchange.headers.map(([name, value]) => [name, Buffer.from(value).toString('latin1')]);
}

/** A raw connection that collects what it gets. */
export class RawClient {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  received = '';

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.received += text;
      this.#notify();
    });
    socket.on('error', () => {});
    this.closed = new Promise((resolve) =>
      socket.once('close', () => {
        resolve();
        this.#notify();
      }),
    );
  }

  static open(port: number): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => resolve(new RawClient(socket)));
    });
  }

  #waiters = new Set<() => void>();

  #notify(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, 'latin1'));
  }

  /** Resolves when the text received so far satisfies the condition; rejects when the connection closes first. */
  until(condition: (received: string) => boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (condition(this.received)) resolve(this.received);
        else if (this.socket.closed)
          reject(new Error(`the connection closed after "${this.received.slice(-200)}"`));
        else return;
        this.#waiters.delete(check);
      };
      this.#waiters.add(check);
      check();
    });
  }
}

/** Sends one text on a connection of its own and returns everything that comes until the server closes it. */
export async function rawExchange(port: number, text: string): Promise<string> {
  const client = await RawClient.open(port);
  client.send(text);
  client.socket.once('end', () => client.socket.end());
  await client.closed;
  return client.received;
}

/** One HTTP/2 request with prior knowledge. */
export async function http2Request(
  port: number,
  headers: Record<string, string | string[]>,
  body?: Uint8Array,
): Promise<{ status: number; headers: Record<string, unknown>; body: string; trailers: object }> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  try {
    return await new Promise((resolve, reject) => {
      session.on('error', reject);
      const stream = session.request(headers, { endStream: body === undefined });
      const answered = { status: 0, headers: {} as Record<string, unknown>, body: '', trailers: {} };
      stream.on('response', (fields) => {
        answered.status = Number(fields[':status']);
        answered.headers = { ...fields };
      });
      stream.on('trailers', (fields) => {
        answered.trailers = { ...fields };
      });
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => (answered.body += text));
      stream.on('error', reject);
      stream.on('end', () => resolve(answered));
      if (body !== undefined) stream.end(body);
    });
  } finally {
    session.destroy();
  }
}
