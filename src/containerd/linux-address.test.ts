import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseShimAddress } from './linux-address.ts';
import { ProtoFile } from './proto-file.ts';

const codec = new ProtoFile('bootstrap_result.proto').message<object>(
  'containerd.runtime.bootstrap.v1.BootstrapResult',
);
const v2 = 'containerd.task.v2.Task';
const v3 = 'containerd.task.v3.Task';
const result = (fields: object) => Buffer.from(codec.serialize(fields));
const json = (fields: object) => Buffer.from(JSON.stringify(fields));

test('the three answers of the lines of containerd', () => {
  const fields = { version: 3, address: 'unix:///run/s/a', protocol: 'ttrpc' };
  assert.deepEqual(parseShimAddress(Buffer.from('unix:///run/s/a\n')), { path: '/run/s/a', service: v2 });
  assert.deepEqual(parseShimAddress(json(fields)), { path: '/run/s/a', service: v3 });
  assert.deepEqual(parseShimAddress(json({ ...fields, version: 2 })), { path: '/run/s/a', service: v2 });
  assert.deepEqual(parseShimAddress(result(fields)), { path: '/run/s/a', service: v3 });
});

test('what cannot be served is refused with what was said', () => {
  const fields = { version: 3, address: 'unix:///run/s/a', protocol: 'ttrpc' };
  for (const wrong of [
    { ...fields, version: 4 },
    { ...fields, version: 0 },
    { ...fields, protocol: 'grpc' },
    { ...fields, address: 'vsock://1:2' },
    {},
  ]) {
    for (const answer of [json(wrong), result(wrong)]) {
      assert.throws(() => parseShimAddress(answer), { code: 'unsupported', message: /version \d, address/ });
    }
  }
  for (const text of ['{', 'level=warn msg="x"', '{"version":"3"}', '', '\xff\xff']) {
    assert.throws(() => parseShimAddress(Buffer.from(text, 'latin1')), { code: 'unsupported' }, text);
  }
});
