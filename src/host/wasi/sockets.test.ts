import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { createDeniedSockets } from './sockets.ts';

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return 'nothing was thrown';
}

describe('createDeniedSockets', () => {
  it('makes no socket and resolves no name', () => {
    const sockets = createDeniedSockets(new InstanceScope());
    const { createTcpSocket } = sockets.get('wasi:sockets/tcp-create-socket') as {
      createTcpSocket(f: string): void;
    };
    const { createUdpSocket } = sockets.get('wasi:sockets/udp-create-socket') as {
      createUdpSocket(f: string): void;
    };
    const lookup = sockets.get('wasi:sockets/ip-name-lookup') as {
      resolveAddresses(n: object, h: string): void;
    };
    assert.equal(
      thrownBy(() => createTcpSocket('ipv4')),
      'access-denied',
    );
    assert.equal(
      thrownBy(() => createUdpSocket('ipv6')),
      'access-denied',
    );
    assert.equal(
      thrownBy(() => lookup.resolveAddresses({}, 'localhost')),
      'permanent-resolver-failure',
    );
  });

  it('counts the networks a guest holds', () => {
    const scope = new InstanceScope({ maxHandles: 1, maxHeldBytes: 0 });
    const sockets = createDeniedSockets(scope);
    const { instanceNetwork } = sockets.get('wasi:sockets/instance-network') as {
      instanceNetwork(): Disposable;
    };
    const network = instanceNetwork();
    const { Network } = sockets.get('wasi:sockets/network') as { Network: new () => object };
    assert.ok(network instanceof Network);
    assert.throws(instanceNetwork, /maxHandles/);
    network[Symbol.dispose]();
    assert.equal(scope.openHandles, 0);
  });
});
