let loaded: typeof import('node:crypto') | undefined;

/** Node's cryptography, which takes 5 to 12 ms of a thread's boot: loaded when something of it is first needed. */
export function nodeCrypto(): typeof import('node:crypto') {
  loaded ??= process.getBuiltinModule('node:crypto');
  return loaded;
}
