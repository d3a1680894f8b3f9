import { closeSync, constants, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

/** Bytes after which a log file is set aside; two are kept. */
const defaultMaxLogBytes = 8 * 1024 * 1024;

/** Appends lines to a file that never grows beyond a bound: when it is full it becomes `<path>.1`. */
export class LogFile {
  readonly #path: string;
  readonly #maxBytes: number;
  #fd: number;
  #size: number;

  /** Opens or makes the file, mode 0600. Throws the system's error. */
  constructor(path: string, maxBytes = defaultMaxLogBytes) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#fd = open(path);
    this.#size = fstatSync(this.#fd).size;
  }

  /** Writes a line. A disk that is full loses it: a log must not stop what it is about. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    try {
      if (this.#size + bytes.length > this.#maxBytes) this.#turnOver();
      this.#size += writeSync(this.#fd, bytes);
    } catch {
      // See above.
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #turnOver(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const next = open(this.#path);
    closeSync(this.#fd);
    this.#fd = next;
    this.#size = 0;
  }
}

function open(path: string): number {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  return openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
}
