import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { createCli, GuestExit } from './cli.ts';
import type { ByteSink, InputStream, OutputStream } from './io.ts';

function sink(): ByteSink & { readonly written: string[]; closes: number } {
  const collected = {
    written: [] as string[],
    closes: 0,
    readiness: { isReady: () => true, subscribe: () => () => {} },
    capacity: () => 16,
    write: (bytes: Uint8Array) => void collected.written.push(Buffer.from(bytes).toString()),
    flush: () => {},
    isFlushed: () => true,
    close: () => {
      collected.closes++;
    },
  };
  return collected;
}

function create(scope = new InstanceScope()) {
  const [stdout, stderr] = [sink(), sink()];
  const environment: [string, string][] = [['__proto__', '1']];
  const cli = createCli({ environment, args: ['a'], stdout, stderr }, scope);
  const from = <T>(name: string): T => cli.get(name) as T;
  return { cli, from, scope, stdout, stderr };
}

describe('createCli', () => {
  it('gives the environment and arguments of the grant and no working directory', () => {
    const environment = create().from<{
      getEnvironment(): unknown;
      getArguments(): unknown;
      initialCwd(): unknown;
    }>('wasi:cli/environment');
    assert.deepEqual(environment.getEnvironment(), [['__proto__', '1']]);
    assert.deepEqual(environment.getArguments(), ['a']);
    assert.equal(environment.initialCwd(), undefined);
  });

  it('leaves through an error that carries the exit code', () => {
    const exit = create().from<{ exit(status: { tag: string }): void; exitWithCode(code: number): void }>(
      'wasi:cli/exit',
    );
    const code = (leave: () => void): number => {
      try {
        leave();
      } catch (error) {
        assert.ok(error instanceof GuestExit);
        return error.code;
      }
      return assert.fail('the guest went on');
    };
    assert.equal(
      code(() => exit.exit({ tag: 'ok' })),
      0,
    );
    assert.equal(
      code(() => exit.exit({ tag: 'err' })),
      1,
    );
    assert.equal(
      code(() => exit.exitWithCode(42)),
      42,
    );
  });

  it('has a closed standard input', () => {
    const { from } = create();
    const stream = from<{ getStdin(): InputStream }>('wasi:cli/stdin').getStdin();
    assert.throws(
      () => stream.read(1n),
      (error) => (error as { tag: string }).tag === 'closed',
    );
  });

  it('gives a new stream each time over one sink that stays open', async () => {
    const { from, stdout, stderr, scope } = create();
    const { getStdout } = from<{ getStdout(): OutputStream }>('wasi:cli/stdout');
    const [one, two] = [getStdout(), getStdout()];
    one.write(Buffer.from('1'));
    one[Symbol.dispose]();
    await two.blockingWriteAndFlush(Buffer.from('2'));
    from<{ getStderr(): OutputStream }>('wasi:cli/stderr').getStderr().write(Buffer.from('3'));
    scope.end(new Error('over'));
    assert.deepEqual([stdout.written, stderr.written], [['1', '2'], ['3']]);
    assert.deepEqual([stdout.closes, stderr.closes, scope.openHandles], [0, 0, 0]);
  });

  it('counts the streams a guest holds', () => {
    const { from } = create(new InstanceScope({ maxHandles: 2, maxHeldBytes: 0 }));
    const { getStdout } = from<{ getStdout(): OutputStream }>('wasi:cli/stdout');
    getStdout();
    getStdout();
    assert.throws(getStdout, /limit "maxHandles" is 2/);
  });

  it('has no terminals', () => {
    const { from } = create();
    assert.equal(
      from<{ getTerminalStdin(): unknown }>('wasi:cli/terminal-stdin').getTerminalStdin(),
      undefined,
    );
    assert.equal(
      from<{ getTerminalStdout(): unknown }>('wasi:cli/terminal-stdout').getTerminalStdout(),
      undefined,
    );
    assert.equal(
      from<{ getTerminalStderr(): unknown }>('wasi:cli/terminal-stderr').getTerminalStderr(),
      undefined,
    );
  });
});
