import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import {
  appImage,
  assembleImage,
  digestOf,
  hostArch,
  indexOf,
  mediaTypes,
  type OciImage,
  pushImage,
} from '../support/images.ts';
import type { PrivateRegistry } from '../support/registry.ts';
import { staticProgram } from '../support/static-program.ts';
import { helloFiles, helloFolder, pushFolder } from './app-images.ts';

/** Users and groups that the suite's own images have. */
const passwd =
  'root:x:0:0:root:/root:/bin/sh\nwww-data:x:1003:1003::/:/bin/sh\ndefault-user:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n';
const group =
  'root:x:0:\nwww-data:x:1003:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n';

/** Debian's static busybox has no pgrep, which the suite calls. */
const pgrep = '#!/bin/sh\nexec pidof "$@"\n';

/** Nor bash, and a program that is setuid. */
const bash = '#!/bin/sh\nexec /bin/busybox sh "$@"\n';

/** Nor ipcs. */
const ipcs = '#!/bin/sh\nexec cat /proc/sysvipc/shm\n';

/**
 * A shell of its own only for `ls` by itself, which one spec has hidden from the container: Debian's busybox has ls within it
 * and would not look for the program, and it words the refusal in another way than the busybox of the suite.
 */
const shell = `#!/bin/busybox sh
[ "$*" = '-c ls' ] || exec /bin/busybox sh "$@"
refused=$(/bin/ls 2>&1) && exec echo "$refused"
echo "/bin/sh: ls: \${refused##*: }" >&2
exit 126
`;

type BusyboxOptions = {
  readonly user?: string;
  readonly env?: readonly string[];
  /** Makes images differ that are to have different ids. */
  readonly mark?: string;
  /** A static program, its path in the image, and whether whoever runs it becomes root. */
  readonly program?: { readonly path: string; readonly content: Buffer; readonly isSetuid?: boolean };
  /** In place of a shell. */
  readonly entrypoint?: readonly string[];
  /** Has `sh` be busybox itself. */
  readonly hasPlainShell?: boolean;
  /** Files that a layer has and the next one takes away. */
  readonly removed?: readonly string[];
};

/** An image around a static busybox: the program, a link for each of its applets, and two users. */
export async function busyboxImage(
  binary: string,
  { user, env, mark = '', program, entrypoint, hasPlainShell = false, removed = [] }: BusyboxOptions = {},
): Promise<OciImage> {
  const applets = execFileSync(binary, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  const archive = pack();
  const mtime = new Date(0);
  for (const [name, mode] of [
    ['bin', 0o755],
    ['etc', 0o755],
    ['root', 0o700],
    ['tmp', 0o1777],
    ...(['run', 'var', 'var/run', 'usr', 'usr/bin', 'proc', 'sys', 'dev'] as const).map(
      (name) => [name, 0o755] as const,
    ),
  ] as const) {
    archive.entry({ name: `${name}/`, type: 'directory', mode, mtime });
  }
  const busybox = await readFile(binary);
  archive.entry({ name: 'bin/busybox', mode: 0o755, mtime }, busybox);
  // A file of its own: one spec hides /bin/ls and goes on to run a shell.
  archive.entry({ name: 'bin/ls', mode: 0o755, mtime }, busybox);
  archive.entry({ name: 'bin/pgrep', mode: 0o755, mtime }, pgrep);
  archive.entry({ name: 'bin/bash', mode: 0o755, mtime }, bash);
  archive.entry({ name: 'usr/bin/passwd', mode: 0o4755, mtime }, bash);
  archive.entry({ name: 'bin/ipcs', mode: 0o755, mtime }, ipcs);
  if (!hasPlainShell) archive.entry({ name: 'bin/sh', mode: 0o755, mtime }, shell);
  if (program !== undefined) {
    const mode = program.isSetuid === true ? 0o4755 : 0o755;
    archive.entry({ name: program.path.slice(1), mode, mtime }, program.content);
  }
  for (const applet of applets) {
    if (['busybox', 'ls', 'pgrep', ...(hasPlainShell ? [] : ['sh'])].includes(applet)) continue;
    archive.entry({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox', mtime });
  }
  archive.entry({ name: 'etc/passwd', mtime }, passwd);
  archive.entry({ name: 'etc/group', mtime }, group);
  archive.entry({ name: 'etc/mark', mtime }, mark);
  for (const name of removed) archive.entry({ name, mtime }, 'to be removed');
  const tars = [await wholeOf(archive)];
  if (removed.length > 0) {
    const whiteouts = pack();
    for (const name of removed) whiteouts.entry({ name: name.replace(/[^/]*$/, '.wh.$&'), mtime }, '');
    tars.push(await wholeOf(whiteouts));
  }
  const config = {
    architecture: hostArch,
    os: 'linux',
    config: {
      ...(entrypoint === undefined ? { Cmd: ['sh'] } : { Entrypoint: entrypoint }),
      Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...(env ?? [])],
      ...(user !== undefined && { User: user }),
    },
    rootfs: { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) },
  };
  return assembleImage({
    configType: mediaTypes.config,
    config: Buffer.from(JSON.stringify(config)),
    layers: tars.map((tar) => ({ mediaType: mediaTypes.tarGzip, content: gzipSync(tar, { level: 1 }) })),
    platform: { os: 'linux', architecture: hostArch },
  });
}

/** nginx, as far as the suite looks at it: its pid in a file, and what it calls itself. */
const nginxStart = 'echo $$ > /var/run/nginx.pid; exec /nginx "master process"';

async function wholeOf(archive: ReturnType<typeof pack>): Promise<Buffer> {
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Where the suite looks for its image for host networking, and the port it expects there. */
const hostNetworkWeb = `k8s-staging-cri-tools/hostnet-nginx-${hostArch}`;
const hostNetworkPort = 12003;

/**
 * Fills a registry with images under the names critest asks for. With `workload` "apps" its default container and its
 * web server are the hello app, which answers on port 80 and minds no command; with "linux" they are busybox, the
 * second with a static server. The images its image specs pull are small busybox ones in both cases.
 */
export async function pushCritestImages(
  registry: PrivateRegistry,
  busybox: string,
  workload: 'apps' | 'linux',
): Promise<void> {
  const push = (image: OciImage, repository: string, tag = 'latest'): Promise<string> =>
    pushImage(registry, image, repository, tag);
  const [common, web] = ['e2e-test-images/busybox', 'e2e-test-images/nginx'] as const;
  if (workload === 'apps') {
    // One spec starts three of them in a pod, which has one port 80.
    const env = ['SPIN_HTTP_LISTEN_ADDR=0.0.0.0:0'];
    await push(await appImage(helloFolder, { paths: helloFiles, env }), common, '1.29-2');
    await pushFolder(registry, 'universal', undefined, `${web}:1.14-2`);
    await push(
      await appImage(helloFolder, {
        paths: helloFiles,
        env: [`SPIN_HTTP_LISTEN_ADDR=0.0.0.0:${hostNetworkPort}`],
      }),
      hostNetworkWeb,
    );
  } else {
    await push(await busyboxImage(busybox), common, '1.29-2');
    const content = await staticProgram('http');
    const nginx = { program: { path: '/nginx', content }, entrypoint: ['/bin/sh', '-c', nginxStart] };
    await push(await busyboxImage(busybox, nginx), web, '1.14-2');
    await push(await busyboxImage(busybox, { ...nginx, env: [`PORT=${hostNetworkPort}`] }), hostNetworkWeb);
    const entrypoint = ['/bin/sh', '-c', 'echo httpd starts; exec /httpd'];
    await push(
      await busyboxImage(busybox, { program: { path: '/httpd', content }, entrypoint }),
      'e2e-test-images/httpd',
      '2.4.39-4',
    );
    const uid = { path: '/effective-uid', content: await staticProgram('effective-uid'), isSetuid: true };
    await push(
      await busyboxImage(busybox, { program: uid, entrypoint: [uid.path] }),
      'e2e-test-images/nonewprivs',
      '1.3',
    );
  }
  await push(await busyboxImage(busybox, { mark: 'pause' }), 'pause', '3.9');
  const own = 'k8s-staging-cri-tools/test-image';
  for (const [name, user] of [
    ['user-uid', '1002'],
    ['user-username', 'www-data'],
    ['user-uid-group', '1003:1003'],
    ['user-username-group', 'www-data:www-data'],
    ['predefined-group', '1000'],
  ] as const) {
    await push(await busyboxImage(busybox, { user }), `${own}-${name}`);
  }
  for (const name of ['latest', '1', '2', '3']) {
    await push(indexOf([await busyboxImage(busybox, { mark: name })]), `${own}-${name}`);
  }
  for (const tag of ['test', 'all'])
    await push(await busyboxImage(busybox, { mark: tag }), `${own}-tag`, tag);
  for (const tag of ['1', '2', '3'])
    await push(await busyboxImage(busybox, { mark: 'tags' }), `${own}-tags`, tag);
}
