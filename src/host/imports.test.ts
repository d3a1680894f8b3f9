import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ComponentGrant, HostObjects } from './imports.ts';
import { InstanceScope, noRequest, perScope } from './scope.ts';

/** As much of a grant as the functions called here use. */
const grant = {
  componentId: 'c',
  cli: { environment: [], args: [], stdout: {}, stderr: {} },
  filesystem: { preopens: { list: [], close: () => {} } },
  http: { outbound: {}, warn: () => {} },
  variables: {},
  keyValue: { granted: [], stores: {} },
} as unknown as ComponentGrant;

type Made = Disposable;

/** Functions that make an object for the guest, by interface. */
const makers: readonly (readonly [name: string, make: (object: never) => Made])[] = [
  ['wasi:cli/stdin', (cli: { getStdin(): Made }) => cli.getStdin()],
  ['wasi:cli/stdout', (cli: { getStdout(): Made }) => cli.getStdout()],
  ['wasi:clocks/monotonic-clock', (c: { subscribeDuration(ns: bigint): Made }) => c.subscribeDuration(1n)],
  ['wasi:http/types', (types: { Fields: new () => Made }) => new types.Fields()],
  ['wasi:http/types', (types: { Fields: { fromList(list: unknown[]): Made } }) => types.Fields.fromList([])],
  ['wasi:http/types', (types: { RequestOptions: new () => Made }) => new types.RequestOptions()],
  ['wasi:sockets/instance-network', (sockets: { instanceNetwork(): Made }) => sockets.instanceNetwork()],
];

test('host objects count in the scope of the request they were made in, and are refused between two', () => {
  const hosts = new HostObjects(grant, []);
  const make = (): Made[] => makers.map(([name, maker]) => maker(hosts.imports[name] as never));
  const [first, second] = [new InstanceScope(), new InstanceScope()];
  hosts.enter(first);
  const left = make();
  assert.equal(first.openHandles, makers.length);
  first.end(new Error('the first request is over'));
  hosts.leave();
  for (const [name, maker] of makers) {
    assert.throws(() => maker(hosts.imports[name] as never), /serves no request/, name);
  }
  hosts.enter(second);
  make();
  assert.equal(second.openHandles, makers.length);
  for (const object of left) object[Symbol.dispose]();
  assert.equal(second.openHandles, makers.length, 'what the last request left does not touch this one');
  second.end(new Error('the second request is over'));
});

test('what an interface keeps per request is another for each', () => {
  const counter = perScope(() => ({ count: 0 }));
  const [first, second] = [new InstanceScope(), new InstanceScope()];
  counter(first).count += 1;
  assert.deepEqual([counter(first).count, counter(second).count, counter(noRequest).count], [1, 0, 0]);
});
