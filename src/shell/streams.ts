import { closeSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { rawLines, visibleText } from './terminal-text.ts';

/** Bytes that are kept for a reader who is slow before a command has to wait. */
const highWaterBytes = 64 * 1024;

/** Where a command writes. */
export type Output = {
  /** Resolves when more may be written; a reader who takes nothing holds its writer up, not our memory. */
  write(content: string | Uint8Array): Promise<void>;
};

/** Where a command reads: chunks until the end. */
export type Input = AsyncIterable<Uint8Array>;

export const noInput: Input = {
  async *[Symbol.asyncIterator]() {},
};

export const nowhere: Output = { write: async () => {} };

/** One of a command's outputs that its client gave. */
export type DescriptorOutput = Output & {
  /** Resolves when the kernel has everything, and closes. */
  finish(): Promise<void>;
  /** What was not written yet is lost. */
  close(): void;
};

/** A regular file; its descriptor appends. */
export class FileOutput implements DescriptorOutput {
  readonly #fd: number;
  #isClosed = false;

  /** Takes the descriptor over. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Nobody reads it slowly: what is written is in the kernel's hands at once. A full disk fails the command. */
  async write(content: string | Uint8Array): Promise<void> {
    const bytes = Buffer.from(content);
    for (let at = 0; at < bytes.length && !this.#isClosed; ) at += writeSync(this.#fd, bytes, at);
  }

  async finish(): Promise<void> {
    this.close();
  }

  close(): void {
    if (!this.#isClosed) closeSync(this.#fd);
    this.#isClosed = true;
  }
}

/** A FIFO, through libuv. */
export class FifoOutput implements DescriptorOutput {
  readonly #socket: Socket;
  readonly #waiting = new Set<() => void>();
  #gone = false;

  /** Takes the descriptor over. */
  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: false, writable: true });
    this.#socket.on('error', () => this.close());
  }

  async write(content: string | Uint8Array): Promise<void> {
    if (this.#gone || content.length === 0) return;
    const written = this.#write(content);
    if (this.#socket.writableLength >= highWaterBytes) await written;
  }

  async finish(): Promise<void> {
    if (!this.#gone && this.#socket.writableLength > 0) await this.#write('');
    this.close();
  }

  close(): void {
    this.#gone = true;
    this.#socket.destroy();
    for (const resolve of [...this.#waiting]) resolve();
  }

  #write(content: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
      this.#socket.write(content, done);
    });
  }
}

/** An output as a raw terminal shows it. */
export class TerminalOutput implements Output {
  readonly #output: Output;
  readonly #decoder = new StringDecoder('utf8');

  constructor(output: Output) {
    this.#output = output;
  }

  write(content: string | Uint8Array): Promise<void> {
    const text = typeof content === 'string' ? content : this.#decoder.write(Buffer.from(content));
    return this.#output.write(rawLines(visibleText(text)));
  }
}

/** What one command of a pipe writes and the next one reads. */
export class Pipe implements Output, Input {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #changed = Promise.withResolvers<void>();

  async write(content: string | Uint8Array): Promise<void> {
    if (this.#ended || content.length === 0) return;
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    this.#chunks.push(bytes);
    this.#bytes += bytes.length;
    this.#notify();
    while (this.#bytes >= highWaterBytes && !this.#ended) await this.#changed.promise;
  }

  /** Nobody writes, or nobody reads, any more. */
  end(): void {
    this.#ended = true;
    this.#notify();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#bytes -= chunk.length;
        this.#notify();
        yield chunk;
      } else if (this.#ended) return;
      else await this.#changed.promise;
    }
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

/** Most bytes of a line; a longer one is cut into several. */
const maxLineBytes = 64 * 1024;

/** An input line by line, without the newlines; the last one need not have one. */
export async function* linesOf(input: Input): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let text = '';
  for await (const chunk of input) {
    text += decoder.write(Buffer.from(chunk));
    let start = 0;
    for (;;) {
      const end = text.indexOf('\n', start);
      if (end < 0) break;
      yield text.slice(start, end);
      start = end + 1;
    }
    text = text.slice(start);
    while (text.length >= maxLineBytes) {
      yield text.slice(0, maxLineBytes);
      text = text.slice(maxLineBytes);
    }
  }
  text += decoder.end();
  if (text !== '') yield text;
}
