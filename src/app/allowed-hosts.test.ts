import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShimError } from '../error.ts';
import {
  checkAllowedHosts,
  hintFor,
  parseAllowedHosts,
  refusalLines,
  renderAllowedHosts,
} from './allowed-hosts.ts';
import { canonicalHost, internalServiceOf, maxAllowedHostLength } from './allowed-hosts-entry.ts';
import { convertAllowedHttpHosts } from './allowed-hosts-http.ts';

const components = ['front', 'back-end'];

// Entry, URLs it allows, URLs it does not.
const cases: readonly (readonly [entry: string, allowed: readonly string[], denied: readonly string[]])[] = [
  [
    'https://example.com',
    [
      'https://example.com',
      'https://example.com/',
      'https://example.com:443/x?y#z',
      'HTTPS://EXAMPLE.COM/',
      'https://user:secret@example.com/',
      'https://ex%61mple.com/',
      'https:\\\\example.com\\path',
      'https:example.com',
    ],
    [
      'http://example.com',
      'https://example.com:444',
      'https://example.com./',
      'https://www.example.com',
      'https://example.com.evil.com',
      'https://example.com@evil.com/',
      'https://evil.com/@example.com',
      'https://evil.com#@example.com',
      'https://evil.com?@example.com',
      'https://evil.com\\@example.com',
      'https://example.comevil.com',
      'wss://example.com',
    ],
  ],
  ['http://example.com/', ['http://example.com'], ['http://example.com:8080']],
  ['http://EXAMPLE.com', ['http://example.com'], []],
  ['HTTP://example.com:80', [], ['http://example.com']],
  ['http://example.com:8080', ['http://example.com:8080/a'], ['http://example.com', 'http://example.com:80']],
  ['http://example.com:*', ['http://example.com', 'http://example.com:1', 'http://example.com:65535'], []],
  [
    'http://example.com:8000..8010',
    ['http://example.com:8000', 'http://example.com:8009'],
    ['http://example.com:7999', 'http://example.com:8010'],
  ],
  ['http://example.com:65535..65536', ['http://example.com:65535'], ['http://example.com:65534']],
  ['*://example.com:443', ['https://example.com', 'redis://example.com:443'], ['http://example.com']],
  [
    '*://*:*',
    ['http://a', 'tcp://1.2.3.4:5', 'https://[::1]/', 'http://front.spin.internal', 'redis://h'],
    ['tcp://1.2.3.4', 'not a url', '', '/relative', 'http://', 'http://a:99999', 'http://a b/', 'mailto:x@y'],
  ],
  ['https://*:443', ['https://front.spin.internal', 'https://1.2.3.4'], ['http://a:443', 'https://a:444']],
  [
    'https://*.example.com',
    ['https://a.example.com', 'https://a.b.EXAMPLE.com', 'https://x-example.a.example.com'],
    [
      'https://example.com',
      'https://aexample.com',
      'https://a.example.com.',
      'https://.example.com.evil.org',
    ],
  ],
  [
    'http://127.0.0.1',
    [
      'http://127.0.0.1',
      'http://2130706433/',
      'http://0x7f.1/',
      'http://0177.0.0.1/',
      'http://127.1/',
      'http://127.0.0.1./',
      'http://[::ffff:127.0.0.1]/',
      'http://[::ffff:7f00:1]/',
      'http://①②⑦.0.0.1/',
    ],
    ['http://127.0.0.2', 'http://localhost', 'http://[::1]/', 'http://127.0.0.1.evil.com/', 'http://0/'],
  ],
  ['http://0x7f000001', ['http://127.0.0.1'], []],
  ['redis://127.0.0.1:*', ['redis://0x7f.1:6379', 'redis://127.0.0.1'], ['redis://127.0.0.1.nip.io:6379']],
  [
    'tcp://10.1.2.3/8:5432',
    ['tcp://10.0.0.0:5432', 'tcp://10.255.255.255:5432'],
    ['tcp://11.0.0.0:5432', 'tcp://10.example:5432', 'tcp://10.0.0.1:5433'],
  ],
  ['http://10.0.0.0/8', ['http://10.1.1.1'], ['http://10.1.1.1:81']],
  [
    'tcp://0.0.0.0/0:*',
    ['tcp://8.8.8.8:53', 'tcp://[::ffff:1.2.3.4]:1'],
    ['tcp://[2001:db8::1]:1', 'tcp://dns:53'],
  ],
  ['tcp://[::]/0:*', ['tcp://[2001:db8::1]:1'], ['tcp://[::ffff:10.0.0.1]:1', 'tcp://10.0.0.1:1']],
  ['http://[::1]', ['http://[::1]/', 'http://[0:0:0:0:0:0:0:1]:80'], ['http://[::2]/', 'http://127.0.0.1']],
  ['http://[::1]:8080', ['http://[::1]:8080'], ['http://[::1]']],
  ['http://[fe80::/10]:80', ['http://[fe80::1]/', 'http://[febf::1]/'], ['http://[fec0::1]/']],
  ['http://fe80::/10:80', ['http://[fe80::1]/'], []],
  ['http://[::ffff:10.0.0.0/104]:80', ['http://10.9.9.9'], ['http://11.0.0.0']],
  [
    'https://bücher.example',
    ['https://xn--bcher-kva.example', 'https://BÜCHER.example'],
    ['https://bucher.example'],
  ],
  ['https://xn--bcher-kva.example', ['https://bücher.example'], []],
  ['https://example.com.', ['https://example.com./'], ['https://example.com/']],
  ['http://self', [], ['http://self', 'http://self.alt', 'http://localhost']],
  [
    'http://front.spin.internal',
    ['http://front.spin.internal/x', 'http://FRONT.spin.internal'],
    ['http://back-end.spin.internal'],
  ],
  [
    'http://*.spin.internal',
    ['http://front.spin.internal', 'http://back-end.spin.internal'],
    ['http://other.spin.internal', 'http://a.front.spin.internal', 'http://spin.internal'],
  ],
  [
    'postgres://db',
    ['postgres://db', 'postgres://db:5432/x'],
    ['postgres://db:5433', 'postgresql://db:5432'],
  ],
  ['mysql://db', ['mysql://db:3306'], []],
  ['mqtt://db', ['mqtt://db:1883', 'mqtt://db'], ['mqtts://db:1883']],
  ['redis://my_db', ['redis://my_db:6379'], []],
];

for (const [entry, allowed, denied] of cases) {
  test(`allowed host ${entry}`, () => {
    const hosts = parseAllowedHosts([entry], components);
    for (const url of allowed) assert.equal(hosts.allowsUrl(url), true, `${url} must be allowed`);
    for (const url of denied) assert.equal(hosts.allowsUrl(url), false, `${url} must be denied`);
  });
}

const malformed: readonly (readonly [entry: string, message: RegExp])[] = [
  ['', /to allow everything use "\*:\/\/\*:\*"/],
  ['*', /to allow everything/],
  [':', /to allow everything/],
  ['?', /to allow everything/],
  ['insecure:allow-all', /to allow everything/],
  ['example.com', /has no scheme; write "https:\/\/example.com"/],
  ['h2c+x://example.com', /scheme of letters/],
  ['://example.com', /scheme of letters/],
  ['*://example.com', /needs a port/],
  ['tcp://1.2.3.4', /needs a port/],
  ['https://example.com/path', /must not have a path/],
  ['https://example.com:443/path', /must not have a path/],
  ['https://user@example.com', /user information/],
  ['https://example.com?x', /no valid host/],
  ['https://example.com#x', /no valid host/],
  ['https://exa mple.com', /no valid host/],
  ['https://', /no valid host/],
  ['https://[::1', /no valid host/],
  ['https://::1', /no valid host/],
  ['https://a.*.com', /only as the whole host or as its first label/],
  ['https://*.*.com', /only as the whole host/],
  ['https://*com', /only as the whole host/],
  ['https://*.1.2.3.4', /wildcard before an address/],
  ['https://{a,b}.com', /not yet supported/],
  ['https://10.0.0.0/33', /must not have a path/],
  ['https://example.com:', /must have a port number/],
  ['https://example.com:x', /must have a port number/],
  ['https://example.com:65536', /must have a port number/],
  ['https://example.com:1..65537', /must have a port number/],
  ['https://example.com:1..2..3', /must have a port number/],
  ['https://example.com:80..80', /empty port range/],
  ['https://example.com:90..80', /empty port range/],
  [`https://${'a'.repeat(maxAllowedHostLength)}`, /characters, more than/],
];

for (const [entry, message] of malformed) {
  test(`malformed entry ${entry.slice(0, 40)}`, () => {
    assert.throws(
      () => parseAllowedHosts([entry], components),
      (error) =>
        error instanceof ShimError && error.code === 'invalid-manifest' && message.test(error.message),
    );
  });
}

test('an empty list allows nothing, not even self', () => {
  const hosts = parseAllowedHosts([], components);
  assert.equal(hosts.allowsUrl('http://example.com'), false);
  assert.equal(hosts.allowsSelf(), false);
});

test('self requests need an entry for self or any host in a web scheme', () => {
  const allowsSelf = (entry: string): boolean => parseAllowedHosts([entry], components).allowsSelf();
  for (const entry of [
    'http://self',
    'https://self',
    '*://self:*',
    'http://self.alt',
    'http://*',
    '*://*:*',
  ]) {
    assert.equal(allowsSelf(entry), true, entry);
  }
  for (const entry of ['redis://self', 'tcp://*:*', 'http://localhost', 'http://*.spin.internal']) {
    assert.equal(allowsSelf(entry), false, entry);
  }
  assert.equal(parseAllowedHosts(['http://self'], []).allowsSelf(['https']), false);
});

test('the deprecated list of HTTP hosts is converted', () => {
  assert.deepEqual(convertAllowedHttpHosts(['insecure:allow-all']), [
    'http://*:*',
    'https://*:*',
    'http://self',
  ]);
  assert.deepEqual(convertAllowedHttpHosts(['self', 'a.com:8080', 'https://b.com']), [
    'http://self',
    'http://a.com:8080',
    'https://a.com:8080',
    'https://b.com',
  ]);
});

test('templates are rendered, and those that leave nothing grant nothing', () => {
  const values = new Map([
    ['host', 'db.example'],
    ['none', ''],
  ]);
  const render = (entries: readonly string[]): readonly string[] =>
    renderAllowedHosts(entries, (name) => values.get(name) ?? '');
  assert.deepEqual(render(['http://{{ host }}:81', '{{ none }}', 'https://{{none}}', 'http://x']), [
    'http://db.example:81',
    'http://x',
  ]);
});

test('at load, templates are checked only when all their variables have defaults', () => {
  const defaults = new Map([
    ['good', 'a.com'],
    ['bad', 'a b'],
  ]);
  checkAllowedHosts(['https://{{ good }}', 'https://{{ unknown }}/path'], defaults);
  assert.throws(() => checkAllowedHosts(['https://{{ bad }}'], defaults), /no valid host/);
  assert.throws(() => checkAllowedHosts(['https://{{ bad'], defaults), /"\{\{" without "\}\}"/);
});

test('a refusal names the destination and the entry to add', () => {
  const destination = { scheme: 'https', host: 'example.com', port: 8443 };
  assert.deepEqual(refusalLines('web', destination), [
    'component "web" tried to reach "https://example.com:8443", which its manifest does not allow',
    'to allow it, add "https://example.com:8443" to "allowed_outbound_hosts" of the component',
  ]);
  assert.match(hintFor({ ...destination, port: 443 }), /add "https:\/\/example.com" to/);
});

test('internal services are recognised in literal entries only', () => {
  assert.equal(internalServiceOf('http://front.spin.internal'), 'front');
  assert.equal(internalServiceOf('http://*.spin.internal'), '*');
  assert.equal(internalServiceOf('http://{{ x }}.spin.internal'), undefined);
  assert.equal(internalServiceOf('http://spin.internal'), undefined);
});

test('hosts that are not one host have no canonical form', () => {
  for (const host of [
    '',
    'a/b',
    'a@b',
    'a?b',
    'a#b',
    'a\\b',
    'a:80',
    'a:81',
    '[::1]:80',
    '[::1',
    'a b',
    '256.1.1.1',
  ]) {
    assert.equal(canonicalHost(host), undefined, host);
  }
});
