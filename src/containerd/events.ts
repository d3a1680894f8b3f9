import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../telemetry/log.ts';
import { TtrpcClient } from '../ttrpc/client.ts';
import { type AnyMessage, type Empty, type Timestamp, toTimestamp } from './messages.ts';
import { ProtoFile } from './proto-file.ts';

/** Events that may wait for containerd; newer ones are dropped. */
const maxQueuedEvents = 2048;

/** Longest wait for one Forward, milliseconds. */
const forwardTimeoutMs = 5_000;

/** How often one event is tried, and the pause that grows by as much after each failure, milliseconds. */
const maxAttempts = 5;
const retryPauseMs = 1_000;

/** An event on its way; what a stranger leaves out is `null`. */
export type EventEnvelope = {
  readonly timestamp: Timestamp | null;
  readonly namespace: string;
  readonly topic: string;
  readonly event: AnyMessage | null;
};

type QueuedEvent = { readonly envelope: EventEnvelope; readonly over: PromiseWithResolvers<void> };

type ForwardRequest = { readonly envelope: EventEnvelope | null };

export const eventsServiceName = 'containerd.services.events.ttrpc.v1.Events';
export const forwardCodec = new ProtoFile('events_ttrpc.proto').method<ForwardRequest, Empty>(
  eventsServiceName,
  'Forward',
);

export type EventPublisherOptions = {
  /** containerd's ttrpc socket. */
  readonly address: string;
  /** The containerd namespace the events are of. */
  readonly namespace: string;
  readonly log: Logger;
  readonly maxQueued?: number;
  readonly retryPauseMs?: number;
};

/**
 * Tells containerd what happens to tasks: one event after the other, in the order of the calls, over one connection
 * that is made anew when it breaks. While containerd restarts, events wait; one that fails five times is dropped, so
 * that it does not hold up the rest for ever.
 */
export class EventPublisher {
  readonly #address: string;
  readonly #namespace: string;
  readonly #log: Logger;
  readonly #maxQueued: number;
  readonly #retryPauseMs: number;
  readonly #queue: QueuedEvent[] = [];
  #client: TtrpcClient | undefined;
  #sending: Promise<void> | undefined;

  constructor(options: EventPublisherOptions) {
    this.#address = options.address.replace(/^unix:\/\//, '');
    this.#namespace = options.namespace;
    this.#log = options.log;
    this.#maxQueued = options.maxQueued ?? maxQueuedEvents;
    this.#retryPauseMs = options.retryPauseMs ?? retryPauseMs;
  }

  /** Queues an event. Never throws. Resolves, and never rejects, when containerd has it or it is dropped. */
  publish(topic: string, event: AnyMessage): Promise<void> {
    return this.forward({ timestamp: toTimestamp(new Date()), namespace: this.#namespace, topic, event });
  }

  /** Queues an event of another shim's, as `publish` does. */
  forward(envelope: EventEnvelope): Promise<void> {
    if (this.#queue.length >= this.#maxQueued) {
      this.#log.error({ topic: envelope.topic }, 'event dropped: too many wait for containerd');
      return Promise.resolve();
    }
    const over = Promise.withResolvers<void>();
    this.#queue.push({ envelope, over });
    this.#sending ??= this.#sendAll();
    return over.promise;
  }

  /** Resolves when the queue is empty. */
  async flushed(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending;
  }

  close(): void {
    for (const { over } of this.#queue.splice(0)) over.resolve();
    this.#client?.close();
  }

  async #sendAll(): Promise<void> {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      await this.#deliver(next.envelope);
      next.over.resolve();
      if (this.#queue[0] === next) this.#queue.shift();
    }
    this.#sending = undefined;
  }

  async #deliver(envelope: EventEnvelope): Promise<void> {
    const { topic } = envelope;
    for (let attempt = 1; attempt <= maxAttempts; attempt++) {
      try {
        await this.#send(envelope);
        return;
      } catch (error) {
        this.#log.warn({ topic, attempt, err: error }, 'event not delivered to containerd');
      }
      if (attempt < maxAttempts) await sleep(attempt * this.#retryPauseMs);
    }
    this.#log.error({ topic }, `event dropped after ${maxAttempts} attempts`);
  }

  /** One try; a connection that broke since the last event is replaced first, without counting as a failure. */
  async #send(envelope: EventEnvelope): Promise<void> {
    if (this.#client === undefined || this.#client.closed) {
      this.#client = await TtrpcClient.connect(this.#address, { connectTimeoutMs: forwardTimeoutMs });
    }
    await this.#client.call(
      eventsServiceName,
      'Forward',
      forwardCodec,
      { envelope },
      {
        timeoutMs: forwardTimeoutMs,
      },
    );
  }
}
