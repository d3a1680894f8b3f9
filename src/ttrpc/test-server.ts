/** The server most tests talk to, and what they ask of it. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { TtrpcClient } from './client.ts';
import { TtrpcServer, type TtrpcServerOptions } from './server.ts';
import { type BoundMethod, type CallContext, type Handler, method } from './service.ts';
import { TtrpcError } from './status.ts';
import { socketPath, textCodec } from './test-peer.ts';

export const echo = 'test.v1.Echo';

/** A call of `Hold` that waits for the test to settle it. */
export type Held = {
  readonly text: string;
  readonly context: CallContext;
  readonly resolve: (text: string) => void;
  readonly reject: (error: unknown) => void;
};

/** A server with `Say` (gives its text back), `Hold` (the test settles it by `held`) and what the test adds. */
export async function serve(
  t: TestContext,
  options: TtrpcServerOptions = {},
  more: Readonly<Record<string, Handler<string, string>>> = {},
): Promise<{ server: TtrpcServer; path: string; nextHeld: () => Promise<Held> }> {
  const queue: Held[] = [];
  let wake = (): void => {};
  const server = new TtrpcServer({ closeGraceMs: 0, ...options });
  const methods = new Map<string, BoundMethod>([
    ['Say', method(textCodec, async (text) => text)],
    [
      'Hold',
      method(
        textCodec,
        (text, context) =>
          new Promise((resolve, reject) => {
            queue.push({ text, context, resolve, reject });
            wake();
          }),
      ),
    ],
  ]);
  for (const [name, handler] of Object.entries(more)) methods.set(name, method(textCodec, handler));
  server.register(echo, methods);
  server.register('test.v2.Echo', methods);
  const path = socketPath(t);
  await server.listen(path);
  t.after(() => server.close());
  const nextHeld = async (): Promise<Held> => {
    for (;;) {
      const held = queue.shift();
      if (held !== undefined) return held;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { server, path, nextHeld };
}

/** A client that closes with the test. */
export async function connect(t: TestContext, path: string): Promise<TtrpcClient> {
  const client = await TtrpcClient.connect(path);
  t.after(() => client.close());
  return client;
}

/** For `assert.rejects`: a TtrpcError with that code, its message like that. */
export function failsWith(code: number, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof TtrpcError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
}
