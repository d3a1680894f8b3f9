import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ContainerdOptions } from './containerd.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..', '..');

/** Milliseconds one `spinshim` command may take. */
const commandTimeoutMs = 120_000;

/** Our shim as a private containerd takes it, and the command line that belongs to it. */
export type Shim = {
  /** `bundle`: what `make build` put into dist. `source`: the launcher of dist with the checkout's own files. */
  readonly kind: 'bundle' | 'source';
  /** Folder of the launcher and environment of containerd. */
  readonly containerd: Pick<ContainerdOptions, 'shimDir' | 'env'>;
  /** Path of the `spinshim` command. */
  readonly command: string;
};

/**
 * The shim to test. The bundle where it is built, which is what `make test` and users run, else the sources; the
 * variable `SPINSHIM_TEST_SHIM` (`bundle` or `source`) chooses. The launcher has to be built for both.
 */
export function shimUnderTest(choice = process.env.SPINSHIM_TEST_SHIM ?? ''): Shim {
  const shimDir = join(root, 'dist', 'bin');
  const launcher = join(shimDir, 'containerd-shim-spin-v2');
  if (!existsSync(launcher)) throw new Error(`no launcher at "${launcher}": run "make build" first`);
  const bundle = join(root, 'dist', 'lib', 'spinshim', 'host.mjs');
  switch (choice) {
    case 'bundle':
      if (!existsSync(bundle)) throw new Error(`no bundle at "${bundle}": run "make build" first`);
      return { kind: 'bundle', containerd: { shimDir }, command: join(shimDir, 'spinshim') };
    case 'source': {
      const env = { SPINSHIM_NODE: process.execPath, SPINSHIM_HOST: join(root, 'src', 'main', 'host.ts') };
      return { kind: 'source', containerd: { shimDir, env }, command: join(root, 'bin', 'spinshim') };
    }
    case '':
      return shimUnderTest(existsSync(bundle) ? 'bundle' : 'source');
    default:
      throw new Error(`SPINSHIM_TEST_SHIM is "${choice}": give "bundle" or "source"`);
  }
}

/** Runs `spinshim ARGS`; rejects with what it printed unless it exits with 0. */
export async function spinshim(shim: Shim, args: readonly string[]): Promise<string> {
  const { stdout } = await run(shim.command, [...args], { timeout: commandTimeoutMs });
  return stdout;
}
