let loaded: typeof import('node:crypto') | undefined;

/** Node's cryptography, which takes 5 ms of a worker's boot: loaded when a guest first asks for something of it. */
export function nodeCrypto(): typeof import('node:crypto') {
  loaded ??= process.getBuiltinModule('node:crypto');
  return loaded;
}
