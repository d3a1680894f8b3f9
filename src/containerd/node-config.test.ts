import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNodeConfig, readNodeConfig } from './node-config.ts';

const where = '/etc/spinshim/config.toml';

test('without a file and without variables the defaults hold', () => {
  const defaults = { warmEngines: 1, hostIdleSeconds: 600, stateDir: '/var/lib/spinshim', learnCode: true };
  assert.deepEqual(parseNodeConfig(undefined, where, {}), defaults);
  assert.deepEqual(readNodeConfig({ SPINSHIM_CONFIG: '/nowhere/config.toml' }), defaults);
});

test('the file is over the defaults, and the environment over the file', () => {
  const text =
    'log_level = "debug"\nwarm_engines = 3\nhost_idle_seconds = 5\nstate_dir = "/data"\nmax_cache_bytes = 0\nlearn_code = false\n';
  assert.deepEqual(parseNodeConfig(text, where, {}), {
    logLevel: 'debug',
    maxCacheBytes: 0,
    warmEngines: 3,
    hostIdleSeconds: 5,
    stateDir: '/data',
    learnCode: false,
  });
  const environment = {
    SPINSHIM_LOG_LEVEL: 'warn',
    SPINSHIM_WARM_ENGINES: '0',
    SPINSHIM_STATE_DIR: '',
    SPINSHIM_MAX_CACHE_BYTES: '7',
    SPINSHIM_LEARN_CODE: 'true',
  };
  assert.deepEqual(parseNodeConfig(text, where, environment), {
    logLevel: 'warn',
    maxCacheBytes: 7,
    warmEngines: 0,
    hostIdleSeconds: 5,
    stateDir: '/data',
    learnCode: true,
  });
});

for (const [text, environment, reason] of [
  ['warm_engine = 1', {}, /warm_engines/],
  ['warm_engines = 65', {}, /warm_engines/],
  ['warm_engines = "1"', {}, /warm_engines/],
  ['log_level = "loud"', {}, /"loud"/],
  ['', { SPINSHIM_WARM_ENGINES: '65' }, /SPINSHIM_WARM_ENGINES is "65"/],
  ['', { SPINSHIM_HOST_IDLE_SECONDS: 'x' }, /SPINSHIM_HOST_IDLE_SECONDS is "x"/],
  ['max_cache_bytes = -1', {}, /max_cache_bytes/],
  ['', { SPINSHIM_MAX_CACHE_BYTES: '-1' }, /SPINSHIM_MAX_CACHE_BYTES is "-1"/],
  ['learn_code = 1', {}, /learn_code/],
  ['', { SPINSHIM_LEARN_CODE: 'yes' }, /SPINSHIM_LEARN_CODE is "yes"/],
  ['[', {}, /config\.toml/],
] as const) {
  test(`${text} ${JSON.stringify(environment)} is refused`, () => {
    assert.throws(() => parseNodeConfig(text, where, environment), {
      code: 'invalid-argument',
      message: reason,
    });
  });
}
