import { type BoundMethod, method } from '../ttrpc/service.ts';
import { type EventEnvelope, forwardCodec } from './events.ts';
import { toTimestamp } from './messages.ts';
import { ProtoFile } from './proto-file.ts';
import { encodeTaskEvent, type TaskEvents } from './task-events.ts';

const file = new ProtoFile('events.proto');
const deletionCodec = file.message<TaskEvents['TaskDelete']>('containerd.events.TaskDelete');
const outOfMemoryCodec = file.message<TaskEvents['TaskOOM']>('containerd.events.TaskOOM');

/** What was told of a container. */
type Told = {
  readonly deletion: PromiseWithResolvers<void>;
  /** That it has wanted for memory: who told it first, and when containerd has heard of it. */
  outOfMemory?: { readonly by: 'its shim' | 'us'; readonly heard: Promise<void> };
};

/**
 * The events of Linux containers, which their shims send to us as they would to containerd. They go on to containerd
 * in one row with our own; and we know when a shim has told of a deletion, before which it must not be ended: it does
 * not wait for that itself. Nor does it tell of want of memory before it answers those who wait for the end; of a container that
 * wants for memory as soon as it runs it does not tell at all.
 */
export class LinuxEvents {
  readonly #forward: (envelope: EventEnvelope) => Promise<void>;
  /** By container; those alone that are waited for. */
  readonly #told = new Map<string, Told>();

  /** `forward` must keep the order of the calls; it resolves when containerd has the event. */
  constructor(forward: (envelope: EventEnvelope) => Promise<void>) {
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
    const told = this.#told.get(id) ?? { deletion: Promise.withResolvers() };
    this.#told.set(id, told);
    return told.deletion.promise;
  }

  /**
   * Tells that a container whose deletion is waited for has wanted for memory, unless that was told. Resolves when containerd has
   * heard it. What its shim tells later of the same goes no further.
   */
  async outOfMemory(containerId: string, namespace: string): Promise<void> {
    const told = this.#told.get(containerId);
    if (told === undefined) return;
    const event = encodeTaskEvent('TaskOOM', { containerId });
    told.outOfMemory ??= {
      by: 'us',
      heard: this.#forward({ timestamp: toTimestamp(new Date()), namespace, ...event }),
    };
    await told.outOfMemory.heard;
  }

  /** Nobody waits for the events of that container any more. */
  forget(id: string): void {
    this.#told.delete(id);
  }

  #take(envelope: EventEnvelope): void {
    const bytes = Buffer.from(envelope.event?.value ?? []);
    switch (envelope.topic) {
      case '/tasks/oom': {
        const told = this.#told.get(outOfMemoryCodec.deserialize(bytes).containerId);
        if (told === undefined) break;
        if (told.outOfMemory?.by === 'us') return;
        const heard = this.#forward(envelope);
        told.outOfMemory ??= { by: 'its shim', heard };
        return;
      }
      case '/tasks/delete':
        this.#told.get(deletionCodec.deserialize(bytes).containerId)?.deletion.resolve();
        break;
    }
    void this.#forward(envelope);
  }
}
