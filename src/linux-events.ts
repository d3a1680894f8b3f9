import { dlopen } from 'node:ffi';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { ShimError } from './error.ts';
import { socketPair } from './linux.ts';

/** An eventfd that is waited for. */
export type EventDescriptor = { readonly fd: number; close(): void };

/** Waits for eventfds, which Node cannot: a thread of `thread-calls.so` does. One for a process; it keeps no process alive. */
export class EventWaiter {
  readonly #add: (number: number) => number;
  readonly #listeners = new Map<number, () => void>();
  #last = 0;

  /** `library`: path of `thread-calls.so`. Throws `failed-precondition` when it cannot be loaded. */
  constructor(library: string) {
    const [near, far] = socketPair();
    try {
      const { functions } = dlopen(library, {
        events_start: { arguments: ['int32'], return: 'int32' },
        events_add: { arguments: ['uint32'], return: 'int32' },
      });
      const errno = functions.events_start(far);
      if (errno !== 0) throw new Error(`no thread: errno ${errno}`);
      this.#add = functions.events_add;
    } catch (cause) {
      closeSync(near);
      closeSync(far);
      throw new ShimError(
        'failed-precondition',
        `"${library}" cannot be used to wait for events: install this version whole`,
        { cause },
      );
    }
    let rest = Buffer.alloc(0);
    const socket = new Socket({ fd: near }).unref();
    socket.on('data', (chunk: Buffer) => {
      const bytes = Buffer.concat([rest, chunk]);
      const whole = bytes.length - (bytes.length % 4);
      rest = bytes.subarray(whole);
      for (let at = 0; at < whole; at += 4) this.#listeners.get(bytes.readUInt32LE(at))?.();
    });
  }

  /** A new eventfd (close-on-exec); `onEvent` is called after its signals until it is closed. Throws `internal`. */
  add(onEvent: () => void): EventDescriptor {
    this.#last += 1;
    const number = this.#last;
    const fd = this.#add(number);
    if (fd < 0) throw new ShimError('internal', `making an eventfd failed with errno ${-fd}`);
    this.#listeners.set(number, onEvent);
    return {
      fd,
      close: () => {
        if (this.#listeners.delete(number)) closeSync(fd);
      },
    };
  }
}
