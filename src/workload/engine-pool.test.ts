import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LogHub } from '../telemetry/log.ts';
import { EnginePool } from './engine-pool.ts';

const { logger } = new LogHub('fatal', { write: () => {} });

test('a warm engine is given out once, and the rest end with the pool', async () => {
  const pool = new EnginePool(1, logger);
  const first = await pool.take();
  const second = await pool.take();
  assert.notEqual(first.pid, second.pid);
  for (const engine of [first, second]) {
    engine.signal('SIGKILL');
    assert.equal((await engine.exited).exitCode, 137);
  }
  await pool.close();
});

test('without warm engines one is booted on demand', async () => {
  const pool = new EnginePool(0, logger);
  const engine = await pool.take();
  assert.ok(engine.pid > 0);
  engine.signal('SIGKILL');
  await engine.exited;
  await pool.close();
});
