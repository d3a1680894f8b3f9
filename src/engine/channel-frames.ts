import { ShimError } from '../error.ts';

/**
 * Messages between an engine and its parent: length as four bytes, little-endian, then JSON in UTF-8. JSON and not V8's own
 * form, since who has taken an engine over may write anything here, and the parent is root.
 */

/** Bytes of one message at most: the code of a component, and half as much for its text form. */
const maxMessageBytes = 128 * 1024 ** 2;

const lengthBytes = 4;

/** First character of a string that stands for something else; one that really begins so is marked as a string. */
const mark = '\0';

/** One message as it goes over the channel: plain data, numbers without a limit and bytes. Throws `resource-exhausted`. */
export function encodeFrame(message: unknown): Buffer {
  const text = JSON.stringify(message, function (this: Record<string, unknown>, key, value: unknown) {
    // Not `value`: a Buffer has become an object of numbers in that.
    const raw = this[key];
    if (typeof raw === 'string') return raw.startsWith(mark) ? `${mark}s${raw}` : raw;
    if (typeof raw === 'bigint') return `${mark}n${raw}`;
    if (raw instanceof Uint8Array)
      return `${mark}b${Buffer.from(raw.buffer, raw.byteOffset, raw.length).toString('base64')}`;
    return value;
  });
  const length = Buffer.byteLength(text);
  if (length > maxMessageBytes) throw tooLong(length);
  const frame = Buffer.allocUnsafe(lengthBytes + length);
  frame.writeUInt32LE(length);
  frame.write(text, lengthBytes);
  return frame;
}

/** Takes a channel's bytes as they come and gives its messages. */
export class FrameReader {
  readonly #head = Buffer.alloc(lengthBytes);
  #body: Buffer | undefined;
  /** Bytes that are there of the head, or of the body once that has begun. */
  #filled = 0;

  /**
   * The messages that are complete with these bytes, which are copied: a message takes as much memory as it has bytes,
   * however it comes. Throws `resource-exhausted` for one that announces too much, `invalid-argument` for one that is not in this
   * form; nothing can be read after that.
   */
  *push(chunk: Buffer): Generator<unknown, void, undefined> {
    for (let at = 0; at < chunk.length; ) {
      const part = this.#body ?? this.#head;
      const copied = chunk.copy(part, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled < part.length) return;
      this.#filled = 0;
      if (this.#body === undefined) {
        const length = this.#head.readUInt32LE();
        if (length > maxMessageBytes) throw tooLong(length);
        if (length === 0) throw notJson();
        this.#body = Buffer.allocUnsafe(length);
      } else {
        this.#body = undefined;
        yield parse(part.toString());
      }
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text, (_, value: unknown) => (typeof value === 'string' ? revive(value) : value));
  } catch (cause) {
    throw notJson({ cause });
  }
}

function revive(text: string): unknown {
  if (!text.startsWith(mark)) return text;
  const rest = text.slice(2);
  switch (text[1]) {
    case 's':
      return rest;
    case 'b':
      return Buffer.from(rest, 'base64');
    case 'n':
      if (/^-?\d{1,20}$/.test(rest)) return BigInt(rest);
  }
  throw new ShimError(
    'invalid-argument',
    `a message between engine and parent has the unknown mark ${JSON.stringify(text.slice(0, 2))}`,
  );
}

function notJson(options?: ErrorOptions): ShimError {
  return new ShimError('invalid-argument', 'a message between engine and parent is not JSON', options);
}

function tooLong(length: number): ShimError {
  return new ShimError(
    'resource-exhausted',
    `a message between engine and parent has ${length} bytes, the limit is ${maxMessageBytes}`,
  );
}
