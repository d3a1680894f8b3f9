import { ShimError } from '../error.ts';

const handler02 = /^wasi:http\/incoming-handler@0\.2\.\d+$/;

/** 0.3 as released, and the release candidate that Spin 4 takes. */
const handler03 = /^wasi:http\/handler@0\.3\.(?:\d+|0-rc-2026-03-15)$/;

/** Exports that Spin's HTTP trigger knows and this version does not call yet (reference/spin.md 3.1.4). */
const laterExports: readonly (readonly [pattern: RegExp, what: string])[] = [
  [/^wasi:http\/incoming-handler@0\.2\.0-rc/, 'a release candidate of wasi:http 0.2'],
  [/^wasi:http\/handler@0\.3/, 'another release candidate of wasi:http 0.3'],
  [/^fermyon:spin\/inbound-http$/, "Spin's own inbound-http interface"],
  [/^wasi:cli\/run@/, 'the wagi executor'],
];

/**
 * The export by which a component answers HTTP requests. Throws `invalid-component` when there is none or more than
 * one, `unsupported` for those of other generations.
 */
export function findHttpHandler(exports: readonly string[], componentId: string): string {
  const handlers = exports.filter((name) => handler02.test(name) || handler03.test(name));
  const [handler] = handlers;
  if (handler !== undefined && handlers.length === 1) return handler;
  const found = exports.filter((name) => name.includes(':')).map((name) => `"${name}"`);
  const list = found.length === 0 ? 'no interface' : found.join(', ');
  for (const [pattern, what] of laterExports) {
    const name = exports.find((candidate) => pattern.test(candidate));
    if (name !== undefined && handler === undefined) {
      throw new ShimError(
        'unsupported',
        `component "${componentId}" exports "${name}" (${what}), which this version does not run: build it for "wasi:http/incoming-handler@0.2" or "wasi:http/handler@0.3.0"`,
      );
    }
  }
  throw new ShimError(
    'invalid-component',
    `component "${componentId}" is used by an HTTP trigger and must export "wasi:http/incoming-handler@0.2" or "wasi:http/handler@0.3" once, and not both; it exports ${list}`,
  );
}

/** Whether a handler is one of 0.3, whose function is asynchronous and returns the response. */
export function isAsynchronous(handler: string): boolean {
  return handler03.test(handler);
}
