import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { PrivateContainerd } from './containerd.ts';
import type { PrivateRegistry } from './registry.ts';
import { type Shim, spinshim } from './shim.ts';

const fixtures = join(import.meta.dirname, '..', '..', 'fixtures');

/** The sample apps that an HTTP test can run. */
export type SampleApp = 'hello' | 'rust-http' | 'js-api' | 'bench-guest';

/** Folder of a sample app with its built components. */
export function appFolder(app: SampleApp): string {
  return app === 'js-api' ? join(fixtures, 'build', app) : join(fixtures, app);
}

/** Whether a sample app that is not committed was built (`make samples`). */
export function isBuilt(app: SampleApp): boolean {
  return existsSync(join(appFolder(app), `${app}.wasm`));
}

/** Pushes an app with `spinshim push`, in the shape that every containerd pulls; gives the reference. */
export async function pushSampleApp(shim: Shim, registry: PrivateRegistry, app: SampleApp): Promise<string> {
  if (!isBuilt(app)) throw new Error(`sample app "${app}" is not built: run "make samples"`);
  const reference = `${registry.host}/samples/${app}:1`;
  await spinshim(shim, ['push', reference, '--from', appFolder(app), '--shape', 'universal', '--insecure']);
  return reference;
}

/** Pushes an app and has containerd pull it as kubelet does; gives the reference. */
export async function pullSampleApp(
  shim: Shim,
  registry: PrivateRegistry,
  containerd: PrivateContainerd,
  app: SampleApp,
): Promise<string> {
  const reference = await pushSampleApp(shim, registry, app);
  await containerd.allowRegistry(registry.host);
  await containerd.cri.pull(reference);
  return reference;
}
