/** Columns and rows of a terminal. */
export type TerminalSize = { readonly columns: number; readonly rows: number };

/** The streams of a command that have a descriptor, in this order in the message that hands them over. */
export const execStreams = ['stdin', 'stdout', 'stderr'] as const;

export type ExecStream = (typeof execStreams)[number];

/** A command for the debug shell of an engine. */
export type ExecStart = {
  /** Unique in the container while the command runs. */
  readonly id: string;
  readonly args: readonly string[];
  readonly environment: readonly (readonly [name: string, value: string])[];
  /** The client's terminal is in raw mode and shows what comes on stdout. */
  readonly terminal: boolean;
  readonly streams: readonly ExecStream[];
};

/** What the parent tells an engine about commands; the descriptors of `exec` wait in the handover socket before it. */
export type ExecRequest =
  | { readonly type: 'exec'; readonly exec: ExecStart }
  | { readonly type: 'exec-signal'; readonly id: string; readonly signal: number }
  | { readonly type: 'exec-resize'; readonly id: string; readonly size: TerminalSize };

/** What an engine tells of a command, once for each. */
export type ExecReply = { readonly type: 'exec-exited'; readonly id: string; readonly exitCode: number };

/** A command that runs, seen from outside of the engine. */
export type RunningExec = {
  /** Of the process that it runs in. */
  readonly pid: number;
  /** Exit code; 137 when its engine has gone. */
  readonly exited: Promise<number>;
  signal(signal: number): void;
  resize(size: TerminalSize): void;
};
