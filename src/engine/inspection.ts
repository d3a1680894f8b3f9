import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import type { MessagePort } from 'node:worker_threads';
import type { OldRequest, RequestDesk } from './request-desk.ts';
import type { Inspection } from './shell-messages.ts';

/** Requests that a status tells of, the oldest of them. */
const maxListedRequests = 100;

/** Characters of a path that are told. */
const maxPathLength = 300;

/** Lines of a trace that may be on their way; what comes on top is counted and left out. */
const maxTraceLinesAhead = 1_000;

/** Port message: what a worker is doing. */
export type WorkerStatus = {
  readonly components: readonly { readonly id: string; readonly idleInstances: number }[];
  readonly requests: number;
  /** The oldest first. */
  readonly oldest: readonly OldRequest[];
};

/** Port message: a request that is over. Whoever reads them answers each with anything. */
export type TraceLine = {
  /** When it began, milliseconds since 1970. */
  readonly at: number;
  readonly method: string;
  /** Without the query: it may hold secrets. */
  readonly path: string;
  /** Component, or undefined when the host answered. */
  readonly component: string | undefined;
  /** Undefined when the connection was gone before there was one. */
  readonly status: number | undefined;
  readonly milliseconds: number;
  /** Lines left out before this one. */
  readonly missed: number;
};

/** What there is to be looked at in a worker. */
export type Inspected = {
  readonly requests: Pick<RequestDesk, 'size' | 'oldest'>;
  readonly components: () => WorkerStatus['components'];
  /** The component that answers a path, if any does. */
  readonly componentFor: (path: string) => string | undefined;
};

/** Answers on `port`: a status once, a trace until the port is closed from the other side. */
export function inspectWorker(inspected: Inspected, inspection: Inspection, port: MessagePort): void {
  switch (inspection) {
    case 'status':
      port.postMessage(statusOf(inspected));
      port.close();
      return;
    case 'trace':
      trace(inspected, port);
      return;
    default:
      inspection satisfies never;
  }
}

function statusOf({ requests, components }: Inspected): WorkerStatus {
  return {
    components: components(),
    requests: requests.size,
    oldest: requests.oldest(maxListedRequests),
  };
}

/** Node tells of each request on a channel of its own; nobody listens there as long as nothing is traced. */
function trace({ componentFor }: Inspected, port: MessagePort): void {
  let ahead = 0;
  let missed = 0;
  const over = (
    method: string,
    target: string,
    begun: { readonly at: number; readonly ticks: number },
    status: number | undefined,
  ): void => {
    if (ahead >= maxTraceLinesAhead) {
      missed += 1;
      return;
    }
    const path = withoutQuery(target);
    const line: TraceLine = {
      at: begun.at,
      method,
      path: path.slice(0, maxPathLength),
      component: componentFor(path),
      status,
      milliseconds: performance.now() - begun.ticks,
      missed,
    };
    ahead += 1;
    missed = 0;
    port.postMessage(line);
  };
  const onRequest = (message: unknown): void => {
    const { request, response } = message as { request: IncomingMessage; response: ServerResponse };
    const begun = { at: Date.now(), ticks: performance.now() };
    response.once('close', () => {
      over(
        request.method ?? '',
        request.url ?? '',
        begun,
        response.headersSent ? response.statusCode : undefined,
      );
    });
  };
  const onStream = (message: unknown): void => {
    const { stream, headers } = message as {
      stream: ServerHttp2Stream;
      headers: Readonly<Record<string, unknown>>;
    };
    const begun = { at: Date.now(), ticks: performance.now() };
    stream.once('close', () => {
      const status = stream.sentHeaders?.[':status'];
      over(
        String(headers[':method'] ?? ''),
        String(headers[':path'] ?? ''),
        begun,
        typeof status === 'number' ? status : undefined,
      );
    });
  };
  subscribe('http.server.request.start', onRequest);
  subscribe('http2.server.stream.start', onStream);
  port.on('message', () => {
    ahead -= 1;
  });
  port.once('close', () => {
    unsubscribe('http.server.request.start', onRequest);
    unsubscribe('http2.server.stream.start', onStream);
  });
  // The one who listens goes on as soon as this has come.
  port.postMessage('listening');
  port.unref();
}

function withoutQuery(target: string): string {
  const query = target.indexOf('?');
  return query < 0 ? target : target.slice(0, query);
}
