import { quoted } from './manifest-key.ts';
import type { Table } from './manifest-table.ts';
import type { HttpExecutor, HttpRoute, HttpTarget, HttpTrigger } from './types.ts';

/** Route patterns may be this long (UTF-16 units): what fits a request line. */
export const maxRouteLength = 8192;

const triggerKeys = ['route', 'component', 'static_response', 'executor'];
const maxHeaderCount = 100;

/** Reads the table of an HTTP trigger (spin.md 3.1); a wrong or unknown key is an error that names it. */
export function parseHttpTrigger(table: Table, id: string): HttpTrigger {
  table.rejectUnknown(triggerKeys);
  return {
    type: 'http',
    id,
    route: parseRoute(table),
    target: parseTarget(table),
    executor: parseExecutor(table),
  };
}

function parseRoute(table: Table): HttpRoute {
  const route = table.raw('route');
  if (route === undefined) {
    throw table.error('route', 'is missing: write a path such as "/..." or { private = true }');
  }
  if (typeof route === 'string') {
    if (route.length > maxRouteLength) {
      throw table.error('route', `has ${route.length} characters, more than the ${maxRouteLength} allowed`);
    }
    return { kind: 'path', path: route };
  }
  const options = table.optionalTable('route');
  options?.rejectUnknown(['private']);
  if (options?.optionalBoolean('private') !== true) {
    throw table.error('route', 'must be a path or { private = true }');
  }
  return { kind: 'private' };
}

function parseTarget(table: Table): HttpTarget {
  const component = table.optionalString('component');
  const fixed = table.optionalTable('static_response');
  if (component !== undefined && fixed !== undefined) {
    throw table.error(undefined, 'must have only one of "component" and "static_response"');
  }
  if (component !== undefined) return { kind: 'component', component };
  if (fixed === undefined) throw table.error(undefined, 'must have one of "component" and "static_response"');
  fixed.rejectUnknown(['status_code', 'headers', 'body']);
  return {
    kind: 'static',
    status: fixed.optionalInteger('status_code', 200, 999) ?? 200,
    headers: parseHeaders(fixed),
    body: fixed.optionalString('body') ?? '',
  };
}

function parseHeaders(fixed: Table): readonly (readonly [string, string])[] {
  const headers = fixed.stringEntries('headers');
  if (headers.length > maxHeaderCount) {
    throw fixed.error('headers', `has ${headers.length} entries, more than the ${maxHeaderCount} allowed`);
  }
  for (const [name, value] of headers) {
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) {
      throw fixed.error('headers', `has the key ${quoted(name)}, which is not a header name`);
    }
    // Field values of RFC 9110 5.5: visible characters, blanks, tabs; a line break would start a header of its own.
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) {
      throw fixed.error('headers', `has a value for ${quoted(name)} that no header can carry`);
    }
  }
  return headers;
}

function parseExecutor(table: Table): HttpExecutor {
  const executor = table.optionalTable('executor');
  if (executor === undefined) return { type: 'http' };
  const type = executor.string('type');
  switch (type) {
    case 'http':
    case 'spin':
    // What the component exports decides, so the opt-in of Spin 3.6 to WASI 0.3 says nothing new.
    case 'wasip3-unstable':
      executor.rejectUnknown(['type']);
      return { type: 'http' };
    case 'wagi': {
      executor.rejectUnknown(['type', 'argv', 'entrypoint']);
      const argv = executor.optionalString('argv');
      const entrypoint = executor.optionalString('entrypoint');
      return {
        type: 'wagi',
        ...(argv !== undefined && { argv }),
        ...(entrypoint !== undefined && { entrypoint }),
      };
    }
    default:
      throw executor.error('type', `must be "http" or "wagi", not ${quoted(type)}`);
  }
}
