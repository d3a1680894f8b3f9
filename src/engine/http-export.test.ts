import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findHttpHandler } from './http-export.ts';

const good: readonly (readonly [exports: readonly string[], handler: string])[] = [
  [['wasi:http/incoming-handler@0.2.0'], 'wasi:http/incoming-handler@0.2.0'],
  [['incomingHandler', 'wasi:http/incoming-handler@0.2.12'], 'wasi:http/incoming-handler@0.2.12'],
  [
    ['wasi:http/incoming-handler@0.2.3', 'wasi:cli/run@0.2.0', 'other:x/y'],
    'wasi:http/incoming-handler@0.2.3',
  ],
  [['handler', 'wasi:http/handler@0.3.0'], 'wasi:http/handler@0.3.0'],
  [['wasi:http/handler@0.3.2', 'wasi:cli/run@0.3.2'], 'wasi:http/handler@0.3.2'],
  [['wasi:http/handler@0.3.0-rc-2026-03-15'], 'wasi:http/handler@0.3.0-rc-2026-03-15'],
];

test('finds the handler of every patch release of 0.2 and 0.3, and of the release candidate', () => {
  for (const [exports, handler] of good) assert.equal(findHttpHandler(exports, 'c'), handler);
});

const bad: readonly (readonly [exports: readonly string[], code: string, message: RegExp])[] = [
  [[], 'invalid-component', /exports no interface/],
  [['run'], 'invalid-component', /exports no interface/],
  [['a:b/c'], 'invalid-component', /exports "a:b\/c"/],
  [['__proto__', 'constructor'], 'invalid-component', /exports no interface/],
  [['wasi:http/incoming-handler@0.2.0', 'wasi:http/incoming-handler@0.2.3'], 'invalid-component', /once/],
  [['wasi:http/incoming-handler@0.2.0-rc-2023-11-10'], 'unsupported', /release candidate/],
  [['wasi:http/incoming-handler@0.2.0-rc-2023-10-18'], 'unsupported', /release candidate/],
  [['wasi:http/handler@0.3.0-rc-2026-01-06'], 'unsupported', /release candidate of wasi:http 0\.3/],
  [['wasi:http/handler@0.3.0', 'wasi:http/incoming-handler@0.2.0'], 'invalid-component', /not both/],
  [['fermyon:spin/inbound-http'], 'unsupported', /inbound-http/],
  [['wasi:cli/run@0.2.0'], 'unsupported', /wagi/],
];

test('everything else is refused with what it exports and what is expected', () => {
  for (const [exports, code, message] of bad) {
    assert.throws(
      () => findHttpHandler(exports, 'my-component'),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, code, JSON.stringify(exports));
        assert.match(error.message, message);
        assert.match(error.message, /component "my-component"/);
        assert.match(error.message, /wasi:http\/incoming-handler@0\.2/);
        return true;
      },
    );
  }
});
