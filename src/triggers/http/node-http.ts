/**
 * Node's HTTP modules. An `import` of `node:http` evaluates everything the module can give, a whole second HTTP client
 * among it: 6.4 MB in each worker. Taken this way they cost what is used.
 */
export const { createServer, STATUS_CODES, validateHeaderName, validateHeaderValue } =
  process.getBuiltinModule('node:http');

/** `node:http2` takes 4 MB in a worker; loaded when the first client speaks it. */
export function loadHttp2(): typeof import('node:http2') {
  return process.getBuiltinModule('node:http2');
}
