import type { ScopeSource } from '../scope.ts';
import { type ByteSink, type ByteSource, InputStream, OutputStream } from './io.ts';

/** Thrown through the guest by wasi:cli/exit. Not a failure of the host: the engine turns it into the outcome. */
export class GuestExit extends Error {
  override readonly name = 'GuestExit';
  /** Exit code, 0 to 255. */
  readonly code: number;

  constructor(code: number) {
    super(`the guest exited with code ${code}`);
    this.code = code;
  }
}

/** What a guest sees of its command line. */
export type CliGrant = {
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly args: readonly string[];
  /** Without it stdin is at its end. */
  readonly stdin?: ByteSource;
  readonly stdout: ByteSink;
  readonly stderr: ByteSink;
};

class TerminalInput {
  [Symbol.dispose](): void {}
}

class TerminalOutput {
  [Symbol.dispose](): void {}
}

/** Standard input of a guest that has none. */
export const endOfInput: ByteSource = {
  readiness: { isReady: () => true, subscribe: () => () => {} },
  read: () => 'end',
  close: () => {},
};

/** The source for one of several streams over it: dropping that stream leaves it open. */
function sharedSource(source: ByteSource): ByteSource {
  return { readiness: source.readiness, read: (max) => source.read(max), close: () => {} };
}

/** The sink for one of several streams over it: dropping that stream leaves it open. */
function sharedSink(sink: ByteSink): ByteSink {
  return {
    readiness: sink.readiness,
    capacity: () => sink.capacity(),
    write: (bytes) => sink.write(bytes),
    flush: () => sink.flush(),
    isFlushed: () => sink.isFlushed(),
    close: () => {},
  };
}

function exitWithCode(code: number): never {
  throw new GuestExit(code);
}

const exitInterface = {
  exit: (status: { readonly tag: 'ok' | 'err' }) => exitWithCode(status.tag === 'ok' ? 0 : 1),
  exitWithCode,
};
const noTerminal = (): undefined => undefined;
const terminalInput = { TerminalInput };
const terminalOutput = { TerminalOutput };
const terminalStdin = { getTerminalStdin: noTerminal };
const terminalStdout = { getTerminalStdout: noTerminal };
const terminalStderr = { getTerminalStderr: noTerminal };

/**
 * wasi:cli 0.2 of one instance: the environment and arguments of the grant, no working directory, no terminals. Every
 * call of a `get-std*` function gives a new stream over the same source or sink.
 */
export function createCli(grant: CliGrant, source: ScopeSource): ReadonlyMap<string, object> {
  const stdin = grant.stdin ?? endOfInput;
  return new Map<string, object>([
    [
      'wasi:cli/environment',
      {
        getEnvironment: () => grant.environment,
        getArguments: () => grant.args,
        initialCwd: () => undefined,
      },
    ],
    ['wasi:cli/exit', exitInterface],
    ['wasi:cli/stdin', { getStdin: () => new InputStream(source.scope, sharedSource(stdin)) }],
    ['wasi:cli/stdout', { getStdout: () => new OutputStream(source.scope, sharedSink(grant.stdout)) }],
    ['wasi:cli/stderr', { getStderr: () => new OutputStream(source.scope, sharedSink(grant.stderr)) }],
    ['wasi:cli/terminal-input', terminalInput],
    ['wasi:cli/terminal-output', terminalOutput],
    ['wasi:cli/terminal-stdin', terminalStdin],
    ['wasi:cli/terminal-stdout', terminalStdout],
    ['wasi:cli/terminal-stderr', terminalStderr],
  ]);
}
