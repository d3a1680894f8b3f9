import { type BoundMethod, method } from '../ttrpc/service.ts';
import { type EventEnvelope, forwardCodec } from './events.ts';
import { ProtoFile } from './proto-file.ts';
import type { TaskEvents } from './task-events.ts';

const deletionTopic = '/tasks/delete';
const deletionCodec = new ProtoFile('events.proto').message<TaskEvents['TaskDelete']>(
  'containerd.events.TaskDelete',
);

/**
 * The events of Linux containers, which their shims send to us as they would to containerd. They go on to containerd
 * in one row with our own; and we know when a shim has told of a deletion, before which it must not be ended: it does
 * not wait for that itself.
 */
export class LinuxEvents {
  readonly #forward: (envelope: EventEnvelope) => void;
  /** Container → told of its deletion. */
  readonly #deletions = new Map<string, PromiseWithResolvers<void>>();

  /** `forward` must keep the order of the calls. */
  constructor(forward: (envelope: EventEnvelope) => void) {
    this.#forward = forward;
  }

  /** The service that shims send their events to. */
  readonly methods: ReadonlyMap<string, BoundMethod> = new Map([
    [
      'Forward',
      method(forwardCodec, async ({ envelope }) => {
        if (envelope !== null) this.#take(envelope);
        return {};
      }),
    ],
  ]);

  /** Resolves when the deletion of a container is told of. To be asked before it can be. */
  deletion(id: string): Promise<void> {
    const pending = this.#deletions.get(id) ?? Promise.withResolvers<void>();
    this.#deletions.set(id, pending);
    return pending.promise;
  }

  /** Nobody waits for the deletion of that container any more. */
  forget(id: string): void {
    this.#deletions.delete(id);
  }

  #take(envelope: EventEnvelope): void {
    this.#forward(envelope);
    if (envelope.topic !== deletionTopic || envelope.event === null) return;
    const { containerId } = deletionCodec.deserialize(Buffer.from(envelope.event.value));
    this.#deletions.get(containerId)?.resolve();
  }
}
