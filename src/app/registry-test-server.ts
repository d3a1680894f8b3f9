import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestParts } from './blob-verify.ts';

/** Servers for the tests of this folder: Debian's registry, and small HTTP servers that misbehave on purpose. */

/** A running registry on a port of this machine. */
export type RunningRegistry = {
  /** `127.0.0.1:<port>`. */
  readonly host: string;
  /** The file in which it keeps a blob. */
  blobFile(digest: string): string;
  stop(): Promise<void>;
};

/** Starts the registry program with an empty storage; `htpasswd` lines turn basic authentication on. */
export async function startRegistry(htpasswd?: string): Promise<RunningRegistry> {
  const folder = await mkdtemp(join(tmpdir(), 'registry-'));
  const port = await freePort();
  const lines = [
    'version: 0.1',
    'log: { level: error }',
    `storage: { filesystem: { rootdirectory: ${JSON.stringify(join(folder, 'data'))} } }`,
    `http: { addr: "127.0.0.1:${port}" }`,
  ];
  if (htpasswd !== undefined) {
    await writeFile(join(folder, 'htpasswd'), htpasswd);
    lines.push(`auth: { htpasswd: { realm: tests, path: ${JSON.stringify(join(folder, 'htpasswd'))} } }`);
  }
  await writeFile(join(folder, 'config.yml'), lines.join('\n'));
  const child = spawn('docker-registry', ['serve', join(folder, 'config.yml')], { stdio: 'ignore' });
  await untilAnswers(child, `http://127.0.0.1:${port}/v2/`);
  return {
    host: `127.0.0.1:${port}`,
    blobFile: (digest) => {
      const { algorithm, hex } = digestParts(digest);
      return join(folder, 'data/docker/registry/v2/blobs', algorithm, hex.slice(0, 2), hex, 'data');
    },
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill();
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function untilAnswers(child: ChildProcess, url: string): Promise<void> {
  const failed = once(child, 'error').then(([error]) => Promise.reject(error));
  const ended = once(child, 'exit').then(([code]) =>
    Promise.reject(new Error(`registry ended with ${code}`)),
  );
  const answered = (async () => {
    for (;;) {
      const response = await fetch(url).catch(() => undefined);
      if (response === undefined) continue;
      await response.arrayBuffer();
      return;
    }
  })();
  await Promise.race([answered, failed, ended]);
  failed.catch(() => {});
  ended.catch(() => {});
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

function portOf(server: { address(): unknown }): number {
  const address = server.address();
  if (typeof address !== 'object' || address === null || !('port' in address))
    throw new Error('server has no port');
  return Number(address.port);
}

/** A small HTTP server on a free port of this machine. */
export async function serve(
  listener: RequestListener,
): Promise<{ readonly server: Server; readonly host: string; stop(): Promise<void> }> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    server,
    host: `127.0.0.1:${portOf(server)}`,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
