import type { ScopeSource } from '../scope.ts';
import { type CliGrant, createCli, endOfInput } from '../wasi/cli.ts';
import type { ByteSink } from '../wasi/io.ts';
import {
  type GuestStream,
  guestReader,
  HostStream,
  pump,
  sourceReader,
  type WitResult,
} from './guest-stream.ts';

/** wasi:cli/types `error-code`. */
type CliErrorCode = 'io' | 'illegal-byte-sequence' | 'pipe';

type CliResult = WitResult<undefined, CliErrorCode>;

const ok: CliResult = { tag: 'ok', val: undefined };
const failed: CliResult = { tag: 'err', val: 'io' };

type Environment02 = {
  readonly getEnvironment: () => readonly (readonly [string, string])[];
  readonly getArguments: () => readonly string[];
};

/** Interfaces that are the same in 0.2 and 0.3. */
const unchanged = [
  'exit',
  'terminal-input',
  'terminal-output',
  'terminal-stdin',
  'terminal-stdout',
  'terminal-stderr',
];

/** wasi:cli 0.3 of one instance: what 0.2 grants, with standard streams as `stream<u8>`. */
export function createCli03(grant: CliGrant, source: ScopeSource): ReadonlyMap<string, object> {
  const of02 = createCli(grant, source);
  const { getEnvironment, getArguments } = of02.get('wasi:cli/environment') as Environment02;
  const output = (sink: ByteSink) => ({
    writeViaStream: async (data: GuestStream): Promise<CliResult> => {
      const { scope } = source;
      try {
        return (await pump(scope, guestReader(scope, data), sink)) === 'ended'
          ? ok
          : { tag: 'err', val: 'pipe' };
      } catch {
        return failed;
      }
    },
  });
  const readViaStream = (): readonly [HostStream, Promise<CliResult>] => {
    const { scope } = source;
    const { promise, resolve } = Promise.withResolvers<CliResult>();
    const input = grant.stdin ?? endOfInput;
    const shared = { ...sourceReader(scope, input), close: () => {} };
    const stream = new HostStream(scope, shared, (how) =>
      resolve(how === 'ended' || how === 'dropped' ? ok : failed),
    );
    return [stream, promise];
  };
  const interfaces = new Map<string, object>([
    ['wasi:cli/environment', { getEnvironment, getArguments, getInitialCwd: () => undefined }],
    ['wasi:cli/types', {}],
    ['wasi:cli/stdin', { readViaStream }],
    ['wasi:cli/stdout', output(grant.stdout)],
    ['wasi:cli/stderr', output(grant.stderr)],
  ]);
  for (const name of unchanged) interfaces.set(`wasi:cli/${name}`, of02.get(`wasi:cli/${name}`) ?? {});
  return interfaces;
}
