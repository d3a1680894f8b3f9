/** wasi:sockets 0.3 as a guest without a network grant sees it: complete, and every way in is refused. */

function accessDenied(): never {
  throw { tag: 'access-denied' };
}

/** A resource class nobody can get an instance of; its methods exist because bindings look them up at instantiation. */
function unreachableSocket(methods: readonly string[]): object {
  class Unreachable {
    static readonly create = accessDenied;
    [Symbol.dispose](): void {}
  }
  for (const method of methods) Object.defineProperty(Unreachable.prototype, method, { value: accessDenied });
  return Unreachable;
}

const ofBoth = [
  'bind',
  'connect',
  'send',
  'receive',
  'getLocalAddress',
  'getRemoteAddress',
  'getAddressFamily',
  'getReceiveBufferSize',
  'setReceiveBufferSize',
  'getSendBufferSize',
  'setSendBufferSize',
];

const TcpSocket = unreachableSocket([
  ...ofBoth,
  'listen',
  'getIsListening',
  'setListenBacklogSize',
  'getKeepAliveEnabled',
  'setKeepAliveEnabled',
  'getKeepAliveIdleTime',
  'setKeepAliveIdleTime',
  'getKeepAliveInterval',
  'setKeepAliveInterval',
  'getKeepAliveCount',
  'setKeepAliveCount',
  'getHopLimit',
  'setHopLimit',
]);

const UdpSocket = unreachableSocket([...ofBoth, 'disconnect', 'getUnicastHopLimit', 'setUnicastHopLimit']);

const interfaces: ReadonlyMap<string, object> = new Map<string, object>([
  ['wasi:sockets/types', { TcpSocket, UdpSocket }],
  [
    'wasi:sockets/ip-name-lookup',
    {
      // What wasmtime answers when name lookup is off, and Spin never turns it on (reference/spin.md section 4.5).
      resolveAddresses: async () => {
        throw { tag: 'permanent-resolver-failure' };
      },
    },
  ],
]);

/** The two interfaces of wasi:sockets 0.3: no socket can be made, no name resolves. */
export function createDeniedSockets03(): ReadonlyMap<string, object> {
  return interfaces;
}
