import { type Logger as PinoLogger, pino } from 'pino';
import { formatLogLine } from './log-line.ts';

/** Takes lines of log, newline included. Never blocks, never throws. */
export type LogSink = { write(line: string): void };

/**
 * A logger. Fields `instance` (container id) and `pod` (sandbox id) go through `child`. Environments, configuration
 * bodies and messages of guests are never handed to it.
 */
export type Logger = PinoLogger;

/** Levels, least severe first. */
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

/** The level a name stands for; undefined if it is none of the six. */
export function parseLogLevel(name: string | undefined): LogLevel | undefined {
  return logLevels.find((level) => level === name?.toLowerCase());
}

/** What a field of these names holds is never written, wherever it stands in a record. */
const secretPaths = ['env', 'environment', 'password', 'token', 'secret'].flatMap((name) => [
  name,
  `*.${name}`,
]);

/**
 * Writes every record to one sink, and those that name an `instance` to that task's own sink as well, for as long as
 * it is added.
 */
export class LogHub {
  readonly logger: Logger;
  readonly #sink: LogSink;
  /** Container id → the sink of its task. */
  readonly #tasks = new Map<string, LogSink>();

  constructor(level: LogLevel, sink: LogSink) {
    this.#sink = sink;
    this.logger = pino(
      {
        level,
        base: null,
        timestamp: () => `,"time":"${new Date().toISOString()}"`,
        formatters: { level: (label) => ({ level: label }) },
        redact: { paths: secretPaths, remove: true },
      },
      { write: (json) => this.#write(json) },
    );
  }

  addTask(instance: string, sink: LogSink): void {
    this.#tasks.set(instance, sink);
  }

  removeTask(instance: string): void {
    this.#tasks.delete(instance);
  }

  #write(json: string): void {
    const record = new Map(Object.entries(JSON.parse(json) as Record<string, unknown>));
    const line = formatLogLine(record);
    this.#sink.write(line);
    const instance = record.get('instance');
    if (typeof instance === 'string') this.#tasks.get(instance)?.write(line);
  }
}
