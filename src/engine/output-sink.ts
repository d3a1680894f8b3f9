import { fstatSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { isatty } from 'node:tty';
import { type ByteSink, Signal } from '../host/wasi/io.ts';

/** Bytes held for a reader that is slow before the guest has to wait. */
const highWaterBytes = 64 * 1024;

/**
 * A guest's standard output or error: one sink per worker and stream, shared by all its instances. A FIFO or socket is
 * written through libuv with back-pressure; files and terminals take each write at once.
 */
export class OutputSink implements ByteSink {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #pending: () => number;
  readonly #drained = new Signal();
  #gone = false;

  readonly readiness = {
    isReady: (): boolean => this.#gone || this.#pending() < highWaterBytes,
    subscribe: (callback: () => void): (() => void) => this.#drained.subscribe(callback),
  };

  /** Takes the descriptor over; `undefined` discards everything. */
  constructor(fd: number | undefined) {
    if (fd === undefined) {
      this.#write = () => {};
      this.#pending = () => 0;
    } else if (isStream(fd)) {
      const socket = new Socket({ fd, readable: false, writable: true });
      const wake = (): void => this.#drained.notify();
      socket.on('error', () => {
        this.#gone = true;
        wake();
      });
      this.#write = (bytes) => {
        socket.write(bytes, wake);
      };
      this.#pending = () => socket.writableLength;
    } else {
      this.#write = (bytes) => writeWhole(fd, bytes);
      this.#pending = () => 0;
    }
  }

  capacity(): number {
    return this.#gone ? highWaterBytes : Math.max(0, highWaterBytes - this.#pending());
  }

  /** A reader that is gone takes nothing any more; that is no failure of the guest's. */
  write(bytes: Uint8Array): void {
    if (!this.#gone) this.#write(bytes);
  }

  flush(): void {}

  isFlushed(): boolean {
    return this.#gone || this.#pending() === 0;
  }

  close(): void {}

  /** Writes a line of the host's own, `text` without its newline. */
  line(text: string): void {
    this.write(Buffer.from(`${text}\n`));
  }

  /** Resolves when everything has been handed to the kernel, or after `timeoutMs`. */
  flushed(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      const check = (): void => {
        if (this.isFlushed()) {
          clearTimeout(timer);
          resolve();
        } else this.#drained.subscribe(check);
      };
      check();
    });
  }
}

function isStream(fd: number): boolean {
  if (isatty(fd)) return false;
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket();
}

function writeWhole(fd: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; ) offset += writeSync(fd, bytes, offset);
}
