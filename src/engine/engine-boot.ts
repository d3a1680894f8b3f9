import { type FirstWorker, hasNoNewPrivileges, startFirstWorker, takeFirstWorker } from './first-worker.ts';
import { findInstallation } from './installation.ts';
import { refuseCodeFromStrings } from './v8-calls.ts';

/**
 * Boots an engine: the worker first, since it takes longest, then the main thread's own code while the worker boots on
 * another core (docs/decisions/0021): Node takes 27 ms, a worker 35 and the main thread's code 15. An engine's loader has
 * made the worker already, where it could.
 */
export async function bootEngine(): Promise<void> {
  const first = takeFirstWorker() ?? (await startWithoutRights());
  refuseCodeFromStrings();
  const { EngineServer } = await import('./engine-server.ts');
  new EngineServer(first).run();
}

/** Before the worker is made, so that it holds for all its threads; an engine executes nothing. The launcher has done so. */
async function startWithoutRights(): Promise<FirstWorker> {
  if (!hasNoNewPrivileges()) (await import('../linux-rights.ts')).setNoNewPrivileges();
  return startFirstWorker(findInstallation().worker);
}
