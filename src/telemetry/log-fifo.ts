import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';

/** A task's `log` FIFO, which containerd copies to its own log. Writing never blocks and never fails. */
export class LogFifo {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens it; undefined if there is none. */
  static open(path: string): LogFifo | undefined {
    try {
      // O_RDWR: a containerd that restarts, and so has no reader for a while, is no error.
      const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
      if (fstatSync(fd).isFIFO()) return new LogFifo(fd);
      closeSync(fd);
      return undefined;
    } catch {
      return undefined;
    }
  }

  /** Writes a line, or drops it when the pipe is full. */
  write(line: string): void {
    try {
      writeSync(this.#fd, line);
    } catch {
      // EAGAIN: nobody reads, and the log file has the line.
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}
