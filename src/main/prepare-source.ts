import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { loadImage } from '../app/image-load.ts';
import { Layout } from '../app/layout.ts';
import { loadFromFolder } from '../app/load-folder.ts';
import { parseImageName } from '../app/oci-name.ts';
import { Registry } from '../app/registry.ts';
import type { App } from '../app/types.ts';
import { ContainerdBlobs } from '../containerd/content-store.ts';
import type { PrepareJob } from '../engine/prepare.ts';
import { ShimError } from '../error.ts';

/** A job's source → the app on this node. The ways an app arrives meet here. */
export async function openContent(job: PrepareJob): Promise<App> {
  const { source } = job;
  switch (source.kind) {
    case 'folder':
      return fromFolder(source.manifest, source.mode, job);
    case 'layout': {
      const image = await loadImage(new Layout(source.path), source.reference ?? '', loadOptions(job));
      if (image.kind !== 'none') return image.app;
      throw notAnApp(`the OCI layout "${source.path}"`, image.reason);
    }
    case 'registry': {
      const registry = new Registry(parseImageName(source.reference), { insecure: source.insecure });
      try {
        const image = await loadImage(registry, source.reference, loadOptions(job));
        if (image.kind !== 'none') return image.app;
        throw notAnApp(`the image "${source.reference}"`, image.reason);
      } finally {
        registry.close();
      }
    }
    case 'containerd': {
      const blobs = new ContainerdBlobs(source.address, source.namespace);
      try {
        const image = await loadImage(blobs, source.image, loadOptions(job));
        if (image.kind !== 'none') return image.app;
        return await fromRootfs(source.rootfs, `the image "${source.image}"`, image.reason, job);
      } finally {
        blobs.close();
      }
    }
    case 'rootfs': {
      const reason = 'containerd has no image of it (with docker: turn on its containerd image store)';
      return fromRootfs(source.rootfs, 'the container', reason, job);
    }
    default:
      return source satisfies never;
  }
}

function loadOptions(job: PrepareJob): { readonly storeDir: string; readonly retain?: readonly string[] } {
  return { storeDir: job.storeDir, ...(job.retain === undefined ? {} : { retain: job.retain }) };
}

async function fromFolder(manifest: string, mode: 'copy' | 'direct', job: PrepareJob): Promise<App> {
  await mkdir(job.workDir, { recursive: true, mode: 0o700 });
  return loadFromFolder(manifest, {
    workDir: job.workDir,
    mode,
    ...(job.retain === undefined ? {} : { retain: job.retain }),
  });
}

/** A docker-built image: the app is `/spin.toml` in its root filesystem, whatever the entrypoint says. */
async function fromRootfs(rootfs: string, what: string, reason: string, job: PrepareJob): Promise<App> {
  const manifest = join(rootfs, 'spin.toml');
  const present = await stat(rootfs)
    .then(
      () => fromFolder(manifest, 'direct', job),
      () => undefined,
    )
    .catch((error: unknown) => {
      if (error instanceof ShimError && error.code === 'not-found' && error.message.includes(manifest))
        return undefined;
      throw error;
    });
  if (present !== undefined) return present;
  throw notAnApp(what, `${reason}, and its root filesystem has no "/spin.toml"`);
}

function notAnApp(what: string, reason: string): ShimError {
  return new ShimError(
    'invalid-image',
    `${what} is not a Spin app: ${reason}; push one with "spin registry push", "spinshim push" or "wkg oci push"`,
  );
}
