import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RestorePoint } from './linked-runtime.ts';
import { Canary } from './test-canaries.ts';
import { fixtures } from './test-engine.ts';

/** A text that occurs nowhere by itself, as the guests take it. */
const planted = `v=${Buffer.from('Kanarienvogel-4711').toString('hex')}`;

type Guest = {
  readonly language: string;
  /** Below the sample apps. */
  readonly path: string;
  readonly restorePoint: RestorePoint;
  /** Before each path. */
  readonly prefix: string;
  /** Requests of the random sequence. */
  readonly steps: number;
  /** Whether it answers `/seed` with what it is seeded with. */
  readonly seeds: boolean;
};

const guests: readonly Guest[] = [
  {
    language: 'AssemblyScript',
    path: 'canary/canary-assemblyscript.wasm',
    restorePoint: 'after-start',
    prefix: '',
    steps: 14,
    seeds: false,
  },
  {
    language: 'C',
    path: 'canary/canary-c.wasm',
    restorePoint: 'before-start',
    prefix: '',
    steps: 14,
    seeds: false,
  },
  {
    language: 'Rust',
    path: 'canary/canary-rust.wasm',
    restorePoint: 'before-start',
    prefix: '',
    steps: 14,
    seeds: true,
  },
  {
    language: 'Go',
    path: 'build/canary/canary-go.wasm',
    restorePoint: 'before-start',
    prefix: '',
    steps: 8,
    seeds: true,
  },
  {
    language: 'JavaScript',
    path: 'build/js-api/js-api.wasm',
    restorePoint: 'after-start',
    prefix: '/canary',
    steps: 8,
    seeds: true,
  },
  {
    language: 'Python',
    path: 'build/canary/canary-python.wasm',
    restorePoint: 'after-start',
    prefix: '',
    steps: 4,
    seeds: true,
  },
];

/** Numbers below `limit`, the same in every run. */
function randomNumbers(): (limit: number) => number {
  let seed = 4711;
  return (limit) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (seed >> 8) % limit;
  };
}

for (const { language, path, restorePoint, prefix, steps, seeds } of guests) {
  test(`what a request leaves in a ${language} guest, no later one finds`, async (t) => {
    if (!existsSync(join(fixtures, path))) {
      t.skip(`"${path}" was not built: "make samples" says what it needs`);
      return;
    }
    const canary = await Canary.load(t, path);
    const [state, hunt, plant] = [
      `${prefix}/state`,
      `${prefix}/hunt?${planted}`,
      `${prefix}/plant?${planted}`,
    ];
    const newState = await canary.ask(state, { fresh: true });
    const nothing = await canary.ask(hunt, { fresh: true });
    assert.deepEqual([newState.status, nothing.status], [200, 200]);
    const [, found] = await canary.askUnrestored([plant, hunt]);
    assert.notEqual(found?.body, nothing.body, 'the canary is blind');
    for (let round = 0; round < 2; round++) {
      assert.equal((await canary.ask(plant)).body, 'planted\n');
      await canary.assertWaitingAsNew();
      assert.deepEqual(await canary.ask(hunt), nothing);
      assert.deepEqual(await canary.ask(state), newState);
    }
    assert.deepEqual([canary.pooled.restorePoint, canary.pooled.idle], [restorePoint, 1]);
    if (seeds) {
      const [first, second] = [await canary.ask(`${prefix}/seed`), await canary.ask(`${prefix}/seed`)];
      assert.equal(first.status, 200);
      assert.notEqual(first.body, second.body, 'two requests have the same seed');
    }
    const random = randomNumbers();
    const disturbances: readonly (() => Promise<unknown>)[] = [
      () => canary.ask(plant),
      () => canary.ask(`${prefix}/trap`),
      () => canary.ask(`${prefix}/exit`),
      () => canary.ask(`${prefix}/leak`),
      () => canary.abandon(plant),
      () => canary.ask(hunt),
      () => Promise.all([canary.ask(plant), canary.ask(plant)]),
    ];
    for (let step = 0; step < steps; step++) {
      await disturbances[random(disturbances.length)]?.();
      await canary.assertWaitingAsNew();
      assert.deepEqual(await canary.ask(state), newState, `after step ${step}`);
      assert.ok(canary.pooled.idle >= 1 && canary.pooled.idle <= 2);
    }
    assert.deepEqual(await canary.ask(hunt), nothing);
  });
}
