import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../../../error.ts';
import { InstanceScope } from '../../scope.ts';
import { maxFieldCount } from '../../wasi/http/fields.ts';
import type { HttpServices } from '../../wasi/http/http.ts';
import type { GuestStream } from '../guest-stream.ts';
import { send } from './client.ts';
import { Fields } from './fields.ts';
import type { TrailersResult } from './message-body.ts';
import { Request } from './request.ts';
import { RequestOptions } from './request-options.ts';
import { Response } from './response.ts';

const noTrailers: Promise<TrailersResult> = Promise.resolve({ tag: 'ok', val: undefined });

function streamOf(...texts: readonly string[]): GuestStream {
  const rest = [...texts];
  return {
    read: () => {
      const text = rest.shift();
      return Promise.resolve({
        value: text === undefined ? undefined : Buffer.from(text),
        done: text === undefined,
      });
    },
    [Symbol.dispose]() {},
  };
}

function thrown(operation: () => unknown): unknown {
  try {
    operation();
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}

test('fields are checked, and those of a message do not change', () => {
  const scope = new InstanceScope();
  const fields = Fields.fromList(scope, [['A-b', Buffer.from('1')]]);
  fields.append('a-B', Buffer.from('2'));
  assert.deepEqual(fields.getAndDelete('A-B').map(String), ['1', '2']);
  assert.deepEqual(fields.copyAll(), []);
  assert.deepEqual(
    thrown(() => fields.append('bad name', Buffer.from(''))),
    { tag: 'invalid-syntax' },
  );
  assert.deepEqual(
    thrown(() => fields.set('x', [Buffer.from('a\nb')])),
    { tag: 'invalid-syntax' },
  );
  assert.deepEqual(
    thrown(() => fields.set('transfer-encoding', [])),
    { tag: 'forbidden' },
  );
  const [response] = Response.create(scope, fields, undefined, noTrailers);
  const view = response.getHeaders();
  for (const change of [
    () => view.set('x', []),
    () => view.append('x', Buffer.from('')),
    () => view.delete('x'),
    () => view.getAndDelete('x'),
  ])
    assert.deepEqual(thrown(change), { tag: 'immutable' });
  view.clone().append('x', Buffer.from(''));
});

test('more fields than a message may have are an error of their own', () => {
  const fields = Fields.create(new InstanceScope());
  for (let count = 0; count < maxFieldCount; count++) fields.append('x', Buffer.from('1'));
  assert.deepEqual(
    thrown(() => fields.append('x', Buffer.from('1'))),
    { tag: 'size-exceeded' },
  );
});

test('what a guest drops is charged no more', () => {
  const scope = new InstanceScope({ maxHandles: 10, maxHeldBytes: 100 });
  for (let round = 0; round < 20; round++) {
    const headers = Fields.fromList(scope, [['name', Buffer.alloc(50, 0x61)]]);
    const [request] = Request.create(scope, headers, undefined, noTrailers, undefined);
    request.getHeaders()[Symbol.dispose]();
    request[Symbol.dispose]();
  }
  assert.equal(scope.openHandles, 0);
});

test('options are those of the request once they are given to it', () => {
  const scope = new InstanceScope();
  const options = RequestOptions.create(scope);
  options.setConnectTimeout(5n);
  const [request] = Request.create(scope, Fields.create(scope), undefined, noTrailers, options);
  const view = request.getOptions();
  assert.equal(view?.getConnectTimeout(), 5n);
  assert.deepEqual(
    thrown(() => view?.setConnectTimeout(6n)),
    { tag: 'immutable' },
  );
  const copy = view?.clone();
  copy?.setFirstByteTimeout(7n);
  assert.deepEqual([copy?.getConnectTimeout(), copy?.getFirstByteTimeout()], [5n, 7n]);
});

test('parts of a request line that could not be sent are refused', () => {
  const scope = new InstanceScope();
  const [request] = Request.create(scope, Fields.create(scope), undefined, noTrailers, undefined);
  for (const change of [
    () => request.setMethod({ tag: 'other', val: 'G T' }),
    () => request.setPathWithQuery('/a b'),
    () => request.setAuthority('a/b'),
    () => request.setScheme({ tag: 'other', val: '1' }),
  ])
    assert.equal(thrown(change), undefined);
  request.setPathWithQuery('');
  assert.equal(request.getPathWithQuery(), '/');
});

test('a message made by the guest gives its bytes and trailers to whoever consumes it', async () => {
  const scope = new InstanceScope();
  const trailers = Fields.fromList(scope, [['t', Buffer.from('1')]]);
  const [response, transferred] = Response.create(
    scope,
    Fields.create(scope),
    streamOf('one', 'two'),
    Promise.resolve({ tag: 'ok', val: trailers }),
  );
  const [body, after] = Response.consumeBody(response, Promise.resolve({ tag: 'ok', val: undefined }));
  let text = '';
  for await (const bytes of body) text += String(bytes);
  assert.equal(text, 'onetwo');
  assert.deepEqual(await after, { tag: 'ok', val: trailers });
  assert.deepEqual(await transferred, { tag: 'ok', val: undefined });
});

test('a message that is dropped tells its maker', async () => {
  const scope = new InstanceScope();
  const [request, transferred] = Request.create(
    scope,
    Fields.create(scope),
    streamOf('x'),
    noTrailers,
    undefined,
  );
  scope.end(new Error('over'));
  assert.deepEqual(await transferred, { tag: 'err', val: { tag: 'connection-terminated' } });
  assert.throws(() => request.getHeaders(), /over/);
});

test('a request that policy refuses is refused with its code, to the sender and to the body', async () => {
  const scope = new InstanceScope();
  const lines: string[] = [];
  const services = {
    outbound: {
      policy: {
        parse: () => ({ scheme: 'http', host: 'h', port: 80 }),
        allows: () => false,
        allowsSelf: () => false,
        namesAddress: () => false,
        blocks: () => false,
        refusal: () => ['not allowed'],
      },
      send: () => {
        throw new ShimError('internal', 'a refused request was sent');
      },
    },
    warn: (line: string) => void lines.push(line),
  } as unknown as HttpServices;
  const [request, transferred] = Request.create(
    scope,
    Fields.create(scope),
    streamOf('x'),
    noTrailers,
    undefined,
  );
  request.setAuthority('h');
  await assert.rejects(send(services, scope, request), { tag: 'HTTP-request-denied' });
  assert.equal((await transferred).tag, 'err');
  assert.deepEqual(lines, ['not allowed']);
  assert.equal(scope.openHandles, 0);
});

test('a GET goes out with a body only when its stream has bytes', async () => {
  const bodies: unknown[] = [];
  const services = {
    outbound: {
      policy: {
        parse: () => ({ scheme: 'http', host: 'h', port: 80 }),
        allows: () => true,
        allowsSelf: () => false,
        namesAddress: () => false,
        blocks: () => false,
        refusal: () => [],
      },
      send: (_scope: unknown, { body }: { readonly body: { readonly pendingBytes: number } | undefined }) => {
        bodies.push(body?.pendingBytes);
        return { tag: 'connection-refused' };
      },
    },
    warn: () => {},
  } as unknown as HttpServices;
  const scope = new InstanceScope();
  for (const [tag, contents] of [
    ['get', streamOf()],
    ['get', streamOf('four')],
    ['get', undefined],
    ['post', streamOf()],
  ] as const) {
    const [request] = Request.create(scope, Fields.create(scope), contents, noTrailers, undefined);
    request.setMethod({ tag });
    request.setAuthority('h');
    await assert.rejects(send(services, scope, request), { tag: 'connection-refused' });
  }
  assert.deepEqual(bodies, [undefined, 4, undefined, 0]);
});

test('an authority is a host and at most a port there is', () => {
  const scope = new InstanceScope();
  const [request] = Request.create(scope, Fields.create(scope), undefined, noTrailers, undefined);
  for (const good of ['h', 'h:80', 'h:65535', '[::1]:80']) request.setAuthority(good);
  for (const bad of ['', ':80', 'h:65536', 'h:x', '::', 'h:80:80', 'user@h'])
    assert.equal(
      thrown(() => request.setAuthority(bad)),
      undefined,
      bad,
    );
});
