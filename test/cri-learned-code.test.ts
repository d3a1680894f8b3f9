import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SpinNode } from './support/spin-node.ts';
import { suiteTimeoutMs, waitFor } from './support/wait.ts';

describe('a component that has run on the node', { timeout: suiteTimeoutMs }, () => {
  let node: SpinNode;

  before(async () => {
    const env = { SPINSHIM_LEARN_CODE: 'true', SPINSHIM_LOG_LEVEL: 'debug' };
    node = await SpinNode.start(['rust-http'], { env });
  });
  after(() => node.stop());

  /** How many components came without or with code, by the lines of their creation. */
  const hasCode = (value: 'true' | 'false'): number => node.hostLog().split(`hasCode\\":${value}`).length - 1;

  test('starts with the code that was learned of it', async () => {
    const folder = join(node.containerd.shimStateDir, 'code');
    const first = await node.run({ name: 'first', image: node.image('rust-http') });
    assert.equal((await first.request('/')).status, 200);
    assert.equal(hasCode('false'), 2);
    assert.equal(existsSync(folder), false, 'it does not come between a start and its requests');
    const kept = (): boolean => node.hostLog().split('compiled code of a component is kept').length === 3;
    await waitFor('the code of both components', kept, { timeoutMs: 90_000, explain: () => node.hostLog() });
    assert.equal(readdirSync(folder).length, 2);
    const second = await node.run({ name: 'second', image: node.image('rust-http') });
    assert.equal((await second.request('/hello/you')).text, 'Hello, you, from Rust\n');
    assert.equal(hasCode('true'), 2);
    await node.removePods();
  });
});
