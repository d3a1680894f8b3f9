import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { LogSink } from './log.ts';

/** Where systemd's journal takes streams of lines. */
export const journalSocket = '/run/systemd/journal/stdout';

/** Bytes held for a journal that is slow; more is lost there and stays in the host's own file. */
const maxHeldBytes = 1024 * 1024;

/** Pause before a journal that went away is looked for again, milliseconds. */
const retryMs = 10_000;

/** syslog's number for each level of a line. */
const priorities = new Map([
  ['fatal', 2],
  ['error', 3],
  ['warn', 4],
  ['info', 6],
  ['debug', 7],
  ['trace', 7],
]);

/**
 * Writes lines to systemd's journal through its stream socket, each with its level as priority. On a machine without
 * one, and while it is away, lines are dropped: the host's own file has them.
 */
export class LogJournal implements LogSink {
  readonly #path: string;
  readonly #identifier: string;
  #socket: Socket | undefined;
  #lookAgainAt = 0;

  /** `identifier`: what the journal calls us, `SYSLOG_IDENTIFIER`. */
  constructor(identifier: string, path = journalSocket) {
    this.#identifier = identifier;
    this.#path = path;
  }

  write(line: string): void {
    const socket = this.#socket ?? this.#open();
    if (socket === undefined || socket.writableLength > maxHeldBytes) return;
    socket.write(`<${priorityOf(line)}>${line}`);
  }

  close(): void {
    this.#socket?.end();
    this.#socket = undefined;
  }

  #open(): Socket | undefined {
    const now = performance.now();
    if (now < this.#lookAgainAt) return undefined;
    this.#lookAgainAt = now + retryMs;
    if (!existsSync(this.#path)) return undefined;
    const socket = connect(this.#path);
    const gone = (): void => {
      if (this.#socket === socket) this.#socket = undefined;
    };
    socket.on('error', gone).on('close', gone);
    socket.unref();
    // Identifier, unit, priority of lines without one, whether lines carry one, and three places not to forward to.
    socket.write(`${this.#identifier}\n\n6\n1\n0\n0\n0\n`);
    this.#socket = socket;
    return socket;
  }
}

/** The priority that `level=…` near the line's beginning asks for. */
function priorityOf(line: string): number {
  const start = line.indexOf('level=');
  const end = line.indexOf(' ', start);
  return priorities.get(line.slice(start + 'level='.length, end)) ?? 6;
}
