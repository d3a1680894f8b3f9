import { closeSync } from 'node:fs';
import { fail } from './filesystem-error.ts';

/** Files and directories that one instance may have open at once; one more is answered with `quota`. */
export const defaultMaxOpenFiles = 256;

/** Counts the descriptors of the process that one instance holds. */
export class OpenFileQuota {
  readonly #limit: number;
  #open = 0;

  constructor(limit: number = defaultMaxOpenFiles) {
    this.#limit = limit;
  }

  /** Takes room for one descriptor; the result gives it back. Throws `quota` when there is none. */
  reserve(): () => void {
    if (this.#open >= this.#limit) fail('quota');
    this.#open++;
    return () => {
      this.#open--;
    };
  }

  /** Takes room, then opens. Throws `quota` before anything is opened, and what `open` throws. */
  open<T extends { readonly fd: number }>(open: () => T): { readonly file: OpenFile; readonly opened: T } {
    const release = this.reserve();
    try {
      const opened = open();
      return { file: new OpenFile(opened.fd, release), opened };
    } catch (error) {
      release();
      throw error;
    }
  }
}

/**
 * An open descriptor with several holders (a WASI descriptor, the streams over it), closed when the last lets go.
 * Numbers of closed descriptors are given out again by the kernel, so a closed one is never handed out.
 */
export class OpenFile {
  readonly #fd: number;
  readonly #onClose: (() => void) | undefined;
  #holders = 0;
  #closed = false;

  constructor(fd: number, onClose?: () => void) {
    this.#fd = fd;
    this.#onClose = onClose;
  }

  /** The descriptor's number. Throws (the guest traps) once the file is closed. */
  get fd(): number {
    if (this.#closed) throw new Error('a file was used after it was closed');
    return this.#fd;
  }

  /** Adds a holder; the result lets go, however often it is called. Throws once the file is closed. */
  hold(): () => void {
    if (this.#closed) throw new Error('a file was used after it was closed');
    let held = true;
    this.#holders++;
    return () => {
      if (!held) return;
      held = false;
      this.#holders--;
      if (this.#holders > 0) return;
      this.#closed = true;
      closeSync(this.#fd);
      this.#onClose?.();
    };
  }
}
