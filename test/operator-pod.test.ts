import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { appFolder } from './support/apps.ts';
import type { ContainerInput, HostMount } from './support/cri.ts';
import type { Pod } from './support/pod.ts';
import { spinshim } from './support/shim.ts';
import { SpinNode } from './support/spin-node.ts';

const manifest = `spin_manifest_version = 2
[application]
name = "shop"
[variables]
greeting = { default = "hello" }
[[trigger.http]]
route = "/..."
component = "web"
[[trigger.http]]
route = "/variable/..."
component = "api"
[[trigger.http]]
route = "/kv/..."
component = "api"
[[trigger.http]]
route = "/unused"
component = "unused"
[component.web]
source = "rust-http.wasm"
allowed_outbound_hosts = ["https://*:*"]
[component.api]
source = "js-api.wasm"
key_value_stores = ["default"]
[component.api.variables]
greeting = "{{ greeting }}"
[component.unused]
source = "hello.wasm"
`;

/** What spin-operator generates for a SpinApp with a key-value store: its own provider, and every option as a string. */
const generatedConfig = `[[config_provider]]
type = "env"
prefix = "SPIN_VARIABLE_"

[key_value_store.default]
type = "spin"
path = "/.spin/kv.db"
`;

describe('a pod as spin-operator makes it', { timeout: 180_000 }, () => {
  let node: SpinNode;
  let folder: string;
  let image: string;

  before(async () => {
    node = await SpinNode.start([]);
    folder = await mkdtemp(join(tmpdir(), 'spinshim-operator-'));
    const app = join(folder, 'app');
    await mkdir(app);
    await writeFile(join(app, 'spin.toml'), manifest);
    for (const name of ['rust-http', 'js-api', 'hello'] as const)
      await copyFile(join(appFolder(name), `${name}.wasm`), join(app, `${name}.wasm`));
    image = `${node.registry.host}/samples/shop:1`;
    await spinshim(node.shim, ['push', image, '--from', app, '--shape', 'universal', '--insecure']);
    await node.containerd.allowRegistry(node.registry.host);
    await node.cri.pull(image);
  });
  after(async () => {
    await node.stop();
    await rm(folder, { recursive: true });
  });

  /** A Secret's key by subPath is a file; kubelet makes a folder of one that is optional and not there. */
  async function secretKey(name: string, content: string | undefined): Promise<string> {
    const path = join(await mkdtemp(join(folder, 'secret-')), name);
    if (content === undefined) await mkdir(path);
    else await writeFile(path, content, { mode: 0o644 });
    return path;
  }

  async function containerOf(
    config: string | undefined,
    certificates: string | undefined,
    envs: Readonly<Record<string, string>> = {},
    mounts: readonly HostMount[] = [],
  ): Promise<Partial<ContainerInput>> {
    return {
      command: ['/'],
      envs: { ...envs, SPIN_HTTP_LISTEN_ADDR: '0.0.0.0:80' },
      mounts: [
        {
          hostPath: await secretKey('runtime-config.toml', config),
          containerPath: '/runtime-config.toml',
          readonly: true,
        },
        ...mounts,
        {
          hostPath: await secretKey('ca-certificates.crt', certificates),
          containerPath: '/etc/ssl/certs/ca-certificates.crt',
          readonly: true,
        },
      ],
    };
  }

  /** An HTTPS server of this machine that only its own certificate vouches for. */
  async function httpsServer(): Promise<{ authority: string; certificate: string; close(): void }> {
    const host = node.containerd.subnet.replace(/\d+\/\d+$/, '1');
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const subject = ['-subj', '/CN=shop', '-addext', `subjectAltName=IP:${host}`, '-days', '1'];
    execFileSync('openssl', [...request, ...subject, '-keyout', key, '-out', certificate], { stdio: 'pipe' });
    const server = createServer(
      { key: await readFile(key), cert: await readFile(certificate) },
      (_, response) => response.end('trusted'),
    );
    await new Promise<void>((resolve) => server.listen(0, resolve));
    const { port } = server.address() as AddressInfo;
    const close = (): void => {
      server.closeAllConnections();
      server.close();
    };
    return { authority: `${host}:${port}`, certificate: await readFile(certificate, 'utf8'), close };
  }

  const callOut = async (pod: Pod, authority: string): Promise<string> =>
    (await pod.request('/outbound', { method: 'POST', body: `https ${authority} /` })).text;

  test('runs with everything that is generated: variables, configuration, certificates, kept components', async () => {
    const server = await httpsServer();
    try {
      const container = await containerOf(generatedConfig, server.certificate, {
        SPIN_VARIABLE_GREETING: 'from the SpinApp',
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318',
        SPIN_MAX_INSTANCE_MEMORY: String(64 * 1024 * 1024),
        SPIN_COMPONENTS_TO_RETAIN: 'web,api',
      });
      const pod = await node.run({ name: 'shop', image, container });
      const headers = { 'user-agent': 'kube-probe/1.31', 'x-probe': 'liveness' };
      assert.equal((await pod.request('/.well-known/spin/health', { headers })).status, 200);
      assert.equal((await pod.request('/hello', { headers })).status, 200);
      assert.equal((await pod.request('/variable/greeting')).text, 'from the SpinApp');
      assert.equal((await pod.request('/kv/colour', { method: 'PUT', body: 'green' })).status, 204);
      assert.equal((await pod.request('/kv/colour')).text, 'green');
      assert.doesNotMatch((await pod.request('/unused')).text, /Hello from Spin/);
      assert.match(await callOut(pod, server.authority), /^200 trusted/);
      await pod.stop(10);
      assert.equal((await pod.status()).exit_code, 0);
      await pod.remove();
    } finally {
      server.close();
    }
  });

  test('runs without the optional Secrets, and then trusts no server of its own', async () => {
    const server = await httpsServer();
    try {
      const container = await containerOf(undefined, undefined);
      const pod = await node.run({ name: 'plain-shop', image, container });
      assert.equal((await pod.request('/variable/greeting')).text, 'hello');
      assert.doesNotMatch(await callOut(pod, server.authority), /trusted/);
      await pod.remove();
    } finally {
      server.close();
    }
  });

  for (const [section, config] of [
    ['llm_compute', '[llm_compute]\ntype = "remote_http"\nurl = "http://llm"\nauth_token = "x"\n'],
    ['key_value_store.cache', '[key_value_store.cache]\ntype = "redis"\nurl = "redis://cache"\n'],
  ] as const) {
    test(`names ${section}, which is not supported, in the task's error and in the log`, async () => {
      const container = await containerOf(config, undefined);
      const pod = await node.create({ name: `not-yet-${section.split(/[._]/)[0]}`, image, container });
      await assert.rejects(pod.start(), new RegExp(`runtime-config\\.toml.*${section}.*not support`));
      await pod.waitForLog('stderr', new RegExp(section));
      await pod.remove();
    });
  }
});
