import type { SampleApp } from '../support/apps.ts';
import type { SpinNode } from '../support/spin-node.ts';
import { waitFor } from '../support/wait.ts';

/**
 * Runs each app once, so that what it is prepared to is there. Preparing takes long on an emulated machine, and V8 ends a
 * preparer there now and then (SIGTRAP, SIGSEGV): kubelet would start such a container anew, as this does. Fails after ten
 * minutes.
 */
export async function prepareApps(node: SpinNode, apps: readonly SampleApp[]): Promise<void> {
  for (const app of apps)
    await waitFor(
      `${app} to be prepared`,
      async () => {
        try {
          await node.run({ name: 'first', image: node.image(app) });
          return true;
        } finally {
          await node.removePods();
        }
      },
      { timeoutMs: 60_000 },
    );
}
