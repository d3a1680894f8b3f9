import type { InstanceScope, ScopeSource } from '../scope.ts';

/** wasi:sockets 0.2 as a guest without a network grant sees it: complete, and every way in is refused. */

function accessDenied(): never {
  throw 'access-denied';
}

function neverResolves(): never {
  // What wasmtime answers when name lookup is off, and Spin never turns it on (reference/spin.md section 4.5).
  throw 'permanent-resolver-failure';
}

/** wasi:sockets/network `network`: a capability that opens nothing. */
class Network {
  readonly #scope: InstanceScope;

  constructor(scope: InstanceScope) {
    this.#scope = scope;
    scope.adopt(this);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
  }
}

/** A resource class nobody can get an instance of; its methods exist because bindings look them up at instantiation. */
function unreachableResource(methods: readonly string[]): object {
  class Unreachable {
    [Symbol.dispose](): void {}
  }
  for (const method of methods) Object.defineProperty(Unreachable.prototype, method, { value: accessDenied });
  return Unreachable;
}

const TcpSocket = unreachableResource([
  'startBind',
  'finishBind',
  'startConnect',
  'finishConnect',
  'startListen',
  'finishListen',
  'accept',
  'localAddress',
  'remoteAddress',
  'isListening',
  'addressFamily',
  'setListenBacklogSize',
  'keepAliveEnabled',
  'setKeepAliveEnabled',
  'keepAliveIdleTime',
  'setKeepAliveIdleTime',
  'keepAliveInterval',
  'setKeepAliveInterval',
  'keepAliveCount',
  'setKeepAliveCount',
  'hopLimit',
  'setHopLimit',
  'receiveBufferSize',
  'setReceiveBufferSize',
  'sendBufferSize',
  'setSendBufferSize',
  'subscribe',
  'shutdown',
]);

const UdpSocket = unreachableResource([
  'startBind',
  'finishBind',
  'stream',
  'localAddress',
  'remoteAddress',
  'addressFamily',
  'unicastHopLimit',
  'setUnicastHopLimit',
  'receiveBufferSize',
  'setReceiveBufferSize',
  'sendBufferSize',
  'setSendBufferSize',
  'subscribe',
]);

const IncomingDatagramStream = unreachableResource(['receive', 'subscribe']);
const OutgoingDatagramStream = unreachableResource(['checkSend', 'send', 'subscribe']);
const ResolveAddressStream = unreachableResource(['resolveNextAddress', 'subscribe']);

const network = { Network, networkErrorCode: () => undefined };
const ipNameLookup = { ResolveAddressStream, resolveAddresses: neverResolves };
const tcp = { TcpSocket };
const tcpCreateSocket = { createTcpSocket: accessDenied };
const udp = { UdpSocket, IncomingDatagramStream, OutgoingDatagramStream };
const udpCreateSocket = { createUdpSocket: accessDenied };

/** The seven interfaces of wasi:sockets for one instance: no socket can be made (`access-denied`), no name resolves. */
export function createDeniedSockets(source: ScopeSource): ReadonlyMap<string, object> {
  return new Map<string, object>([
    ['wasi:sockets/instance-network', { instanceNetwork: () => new Network(source.scope) }],
    ['wasi:sockets/network', network],
    ['wasi:sockets/ip-name-lookup', ipNameLookup],
    ['wasi:sockets/tcp', tcp],
    ['wasi:sockets/tcp-create-socket', tcpCreateSocket],
    ['wasi:sockets/udp', udp],
    ['wasi:sockets/udp-create-socket', udpCreateSocket],
  ]);
}
