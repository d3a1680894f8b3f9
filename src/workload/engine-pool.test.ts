import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { waitFor } from '../../test/support/wait.ts';
import { LogHub } from '../telemetry/log.ts';
import { EnginePool } from './engine-pool.ts';

/** Processes that this one has started and that still run. */
function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}

const { logger } = new LogHub('fatal', { write: () => {} });

test('a warm engine is given out once, and the rest end with the pool', async () => {
  const pool = new EnginePool(1, logger);
  const placed: number[] = [];
  const place = async (pid: number): Promise<void> => void placed.push(pid);
  const first = await pool.take(place);
  const second = await pool.take(place);
  assert.deepEqual(placed, [first.pid, second.pid]);
  assert.notEqual(first.pid, second.pid);
  for (const engine of [first, second]) {
    engine.signal('SIGKILL');
    assert.equal((await engine.exited).exitCode, 137);
  }
  await pool.close();
});

test('the place of an engine that was taken is filled once its container serves', async () => {
  const pool = new EnginePool(1, logger);
  const first = await pool.take(async () => {});
  pool.settled();
  // Without it the next one would boot only when this asks for it.
  await waitFor('another engine', () => childrenOf(process.pid).some((pid) => pid !== first.pid));
  const [waiting] = childrenOf(process.pid).filter((pid) => pid !== first.pid);
  const second = await pool.take(async () => {});
  assert.equal(second.pid, waiting);
  for (const engine of [first, second]) {
    engine.signal('SIGKILL');
    await engine.exited;
  }
  await pool.close();
});

test('without warm engines one is booted on demand', async () => {
  const pool = new EnginePool(0, logger);
  let placed = 0;
  const engine = await pool.take(async (pid) => {
    placed = pid;
  });
  assert.equal(engine.pid, placed);
  engine.signal('SIGKILL');
  await engine.exited;
  await pool.close();
});

test('an engine with a label of its own is none that waits', async () => {
  const pool = new EnginePool(1, logger);
  const birth = { label: 'system_u:system_r:pods_t:s0', networkPath: undefined };
  await assert.rejects(
    pool.take(async () => {}, birth),
    { code: 'unsupported', message: /no launcher .* "system_u:system_r:pods_t:s0"/ },
  );
  const engine = await pool.take(async () => {});
  engine.signal('SIGKILL');
  await engine.exited;
  await pool.close();
});

for (const size of [0, 1]) {
  test(`an engine that cannot be placed is ended, of ${size} that wait`, async () => {
    const pool = new EnginePool(size, logger);
    let pid = 0;
    const failing = async (given: number): Promise<void> => {
      pid = given;
      throw new Error('no such cgroup');
    };
    await assert.rejects(pool.take(failing), /no such cgroup/);
    await waitFor(`the end of process ${pid}`, () => !existsSync(`/proc/${pid}`));
    await pool.close();
  });
}
