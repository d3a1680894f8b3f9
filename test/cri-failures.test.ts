import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { appFolder } from './support/apps.ts';
import { memoryProcessFile } from './support/cgroups.ts';
import { CriError } from './support/cri.ts';
import type { CtrEvent } from './support/ctr.ts';
import { type Footprint, quietFootprint } from './support/footprint.ts';
import { buildImage, digestOf } from './support/images.ts';
import { memoryHog } from './support/memory-hog.ts';
import type { Pod } from './support/pod.ts';
import { spinshim } from './support/shim.ts';
import { SpinNode } from './support/spin-node.ts';
import { waitFor } from './support/wait.ts';

const hello = join(appFolder('hello'), 'hello.wasm');

/** A version 2 manifest with one component; `more` is appended to the component's table. */
function manifest(more = ''): string {
  return `spin_manifest_version = 2
[application]
name = "broken"
[[trigger.http]]
route = "/..."
component = "web"
[component.web]
source = "web.wasm"
${more}`;
}

/** What is refused at the start, and the words that tell why. */
const cases: readonly {
  readonly what: string;
  readonly toml: string;
  readonly wasm: 'whole' | 'truncated' | 'text' | 'absent';
  readonly reason: RegExp;
}[] = [
  {
    what: 'a manifest that is not TOML',
    toml: 'spin_manifest_version = = 2',
    wasm: 'whole',
    reason: /spin\.toml.*line 1/,
  },
  {
    what: 'a manifest of an unknown version',
    toml: 'spin_manifest_version = 9',
    wasm: 'whole',
    reason: /spin_manifest_version.*9/,
  },
  {
    what: 'a key that nothing knows',
    toml: manifest('enviroment = { A = "b" }'),
    wasm: 'whole',
    reason: /enviroment.*environment/,
  },
  {
    what: 'a trigger for a component that is not there',
    toml: manifest().replace('component = "web"', 'component = "wab"'),
    wasm: 'whole',
    reason: /"wab"/,
  },
  { what: 'a component whose file is missing', toml: manifest(), wasm: 'absent', reason: /web\.wasm/ },
  { what: 'a truncated component', toml: manifest(), wasm: 'truncated', reason: /component "web"/ },
  {
    what: 'a component that is not WebAssembly',
    toml: manifest(),
    wasm: 'text',
    reason: /component "web".*WebAssembly/,
  },
  {
    what: 'a variable without a value',
    toml: `${manifest('variables = { key = "{{ key }}" }')}\n[variables]\nkey = { required = true }`,
    wasm: 'whole',
    reason: /key; set SPIN_VARIABLE_KEY/,
  },
  {
    what: 'a store that is defined nowhere',
    toml: manifest('key_value_stores = ["shop"]'),
    wasm: 'whole',
    reason: /key-value store "shop"/,
  },
  {
    what: 'a trigger of another kind',
    toml: manifest().replace(
      '[[trigger.http]]\nroute = "/..."',
      '[[trigger.redis]]\naddress = "redis://x"\nchannel = "c"',
    ),
    wasm: 'whole',
    reason: /redis.*only "http"/,
  },
  {
    what: 'files that lead out of the image',
    toml: manifest('files = [{ source = "../../etc", destination = "/etc" }]'),
    wasm: 'whole',
    reason: /\.\.\/\.\.\/etc|outside/,
  },
];

describe('a start that fails', { timeout: 120_000 }, () => {
  let node: SpinNode;
  let healthy: Pod;
  let atRest: Footprint;

  before(async () => {
    node = await SpinNode.start(['hello', 'rust-http']);
    // A pod of the same host that must not notice anything.
    healthy = await node.run({ name: 'healthy', image: node.image('hello') });
    atRest = await quietFootprint(node.containerd, 1);
  });
  after(() => node.stop());

  /** Starts a container that must not start; its reason has to be in the CRI error and in the container's log. */
  async function assertRefused(pod: Pod, reason: RegExp): Promise<void> {
    await assert.rejects(pod.start(), (error) => {
      assert.ok(error instanceof CriError);
      assert.match(error.details, reason);
      assert.doesNotMatch(error.details, /\n\s+at /, 'no stack');
      return true;
    });
    await pod.waitForLog('stderr', reason);
    const { state, exit_code } = await pod.status();
    assert.equal(state, 'CONTAINER_EXITED');
    assert.notEqual(exit_code, 0);
  }

  const wasmOf = async (kind: (typeof cases)[number]['wasm']): Promise<Buffer | undefined> => {
    const whole = await readFile(hello);
    switch (kind) {
      case 'whole':
        return whole;
      case 'truncated':
        return whole.subarray(0, whole.length >> 1);
      case 'text':
        return Buffer.from('hello, this is a text\n');
      case 'absent':
        return undefined;
    }
  };

  for (const [index, { what, toml, wasm, reason }] of cases.entries()) {
    test(`${what} is told`, async () => {
      const content = await wasmOf(wasm);
      const files = new Map([
        ['spin.toml', { content: toml }],
        ...(content === undefined ? [] : [['web.wasm', { content }] as const]),
      ]);
      const image = await buildImage({ files, entrypoint: ['/spin.toml'] });
      const name = await node.import(image, `spinshim.test/broken:${index}`);
      const pod = await node.create({ name: `broken-${index}`, image: name });
      await assertRefused(pod, reason);
      await pod.remove();
    });
  }

  test('a blob that is not what its digest says is told', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spinshim-app-'));
    try {
      // A component of its own, so that no other test has it in the store already.
      const wasm = Buffer.concat([await readFile(hello), Buffer.from([0, 5, 4, 116, 101, 115, 116])]);
      await writeFile(join(folder, 'web.wasm'), wasm);
      await writeFile(join(folder, 'spin.toml'), manifest());
      const reference = `${node.registry.host}/tampered/app:1`;
      const from = ['--from', folder, '--shape', 'universal', '--insecure'];
      await spinshim(node.shim, ['push', reference, ...from]);
      await node.cri.pull(reference);
      const content = join(node.containerd.root, 'io.containerd.content.v1.content', 'blobs', 'sha256');
      const blob = join(content, digestOf(wasm).replace('sha256:', ''));
      const changed = Buffer.from(wasm);
      changed.writeUInt8((changed.at(-1) ?? 0) ^ 1, changed.length - 1);
      await writeFile(blob, changed);
      const pod = await node.create({ name: 'tampered', image: reference });
      await assertRefused(pod, /digest/);
      await writeFile(blob, wasm);
      await pod.restart();
      assert.equal((await pod.request('/')).status, 200, 'nothing of the wrong blob was kept');
      await pod.remove();
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('a listen address that is none is told', async () => {
    const envs = { SPIN_HTTP_LISTEN_ADDR: 'everywhere' };
    const pod = await node.create({ name: 'nowhere', image: node.image('hello'), container: { envs } });
    await assertRefused(pod, /SPIN_HTTP_LISTEN_ADDR is "everywhere"/);
    await pod.remove();
  });

  test('a port in use is told, and its owner goes on', async () => {
    const pod = await node.run({ name: 'port', image: node.image('hello') });
    const second = await node.cri.createContainer(pod.id, { name: 'second', image: node.image('hello') });
    await assert.rejects(node.cri.start(second), /0\.0\.0\.0:80.*in use/);
    await waitFor('the reason in the log', () =>
      /in use/.test(node.containerd.containerLog('port', 'second')),
    );
    assert.equal((await pod.request('/')).status, 200);
    await node.cri.remove(second);
    const elsewhere = { SPIN_HTTP_LISTEN_ADDR: '0.0.0.0:8080' };
    const third = await node.cri.createContainer(pod.id, {
      name: 'third',
      image: node.image('hello'),
      envs: elsewhere,
    });
    await node.cri.start(third);
    await pod.remove();
  });

  test('a kill for want of memory is told at once, while the container lives on', async (t) => {
    const resources = { memoryLimit: 128 * 1024 * 1024 };
    const pod = await node.run({ name: 'hog', image: node.image('hello'), container: { resources } });
    const pid = await pod.pid();
    const hog = memoryHog();
    t.after(() => hog.kill('SIGKILL'));
    const events = await node.containerd.ctr().events();
    t.after(() => events.stop());
    await writeFile(memoryProcessFile(pid), String(hog.pid));
    hog.stdin?.write('go\n');
    const status = await waitFor('containerd to hear of it', async () => {
      const now = await pod.status();
      return now.reason === 'OOMKilled' && now;
    });
    assert.equal(status.state, 'CONTAINER_RUNNING');
    assert.equal((await pod.request('/')).status, 200);
    assert.equal(await pod.pid(), pid);
    await pod.remove();
    const isOf = ({ payload }: CtrEvent): boolean => payload.container_id === pod.containerId;
    await events.waitFor((event) => event.topic === '/tasks/delete' && isOf(event));
    const topics = events.all.filter(isOf).map(({ topic }) => topic);
    assert.deepEqual(topics, ['/tasks/oom', '/tasks/exit', '/tasks/delete']);
  });

  test('a container that outgrows its memory limit is ended, and CRI tells why', async () => {
    const resources = { memoryLimit: 96 * 1024 * 1024 };
    const pod = await node.run({ name: 'memory', image: node.image('rust-http'), container: { resources } });
    // Each guest may have as much as the container. Nobody reads their answers, so they all keep what they took.
    const unread = [1, 2, 3].map(() => {
      const socket = connect(pod.port, pod.ip).on('error', () => {
        // The engine's end resets it, which is told by the container's status below.
      });
      socket.write('GET /large/60000000 HTTP/1.1\r\nHost: memory\r\n\r\n');
      return socket;
    });
    try {
      const { exit_code, reason } = await pod.ended();
      assert.deepEqual([exit_code, reason], [137, 'OOMKilled']);
    } finally {
      for (const socket of unread) socket.destroy();
    }
    await pod.remove();
  });

  test('a terminal is refused', async () => {
    const pod = await node.create({ name: 'terminal', image: node.image('hello'), container: { tty: true } });
    await assert.rejects(pod.start(), /terminal/);
    await pod.remove();
  });

  test('none of it was noticed by others, and nothing of it is left', async () => {
    assert.equal((await healthy.request('/')).status, 200);
    assert.equal((await healthy.status()).state, 'CONTAINER_RUNNING');
    await node.removePods([healthy]);
    const settled = async (): Promise<boolean> => {
      assert.deepEqual(await quietFootprint(node.containerd, 1), atRest);
      return true;
    };
    await waitFor('the footprint of before', settled);
    assert.equal(node.containerd.hostPids().length, 1);
    await healthy.remove();
  });
});
