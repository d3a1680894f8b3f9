import { spawn } from 'node:child_process';
import { ShimError } from '../error.ts';
import type { SpecHook } from './spec.ts';

/** Time for a hook that names none, milliseconds. */
export const defaultHookTimeoutMs = 60_000;

/** Bytes of a hook's output that are kept for the reason of its failure. */
const maxComplaintBytes = 2_048;

/** A container's state as hooks read it from their standard input (OCI runtime specification, "state"). */
export type HookState = {
  readonly id: string;
  readonly status: 'creating' | 'running' | 'stopped';
  /** 0 for a process that is gone. */
  readonly pid: number;
  readonly bundle: string;
  readonly annotations: ReadonlyMap<string, string>;
};

/** The version of the specification whose state this is. */
const ociVersion = '1.0.2';

/**
 * Runs hooks one after the other on the node, each with the container's state on its standard input. Throws
 * `failed-precondition` at the first that fails or takes longer than it may, with what it said.
 */
export async function runHooks(hooks: readonly SpecHook[], kind: string, state: HookState): Promise<void> {
  if (hooks.length === 0) return;
  const { id, status, pid, bundle, annotations } = state;
  const input = JSON.stringify({
    ociVersion,
    id,
    status,
    ...(pid === 0 ? {} : { pid }),
    bundle,
    annotations: Object.fromEntries(annotations),
  });
  for (const hook of hooks) await runHook(hook, kind, bundle, input);
}

function runHook(hook: SpecHook, kind: string, bundle: string, input: string): Promise<void> {
  const { path, args, env, timeoutSeconds } = hook;
  const timeoutMs = timeoutSeconds === undefined ? defaultHookTimeoutMs : timeoutSeconds * 1000;
  // The specification's args begin with the program's own name, as execv(3) takes them.
  const child = spawn(path, args.slice(1), {
    argv0: args[0] ?? path,
    cwd: bundle,
    env: Object.fromEntries(env),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return new Promise((resolve, reject) => {
    let complaint = '';
    const refuse = (why: string): void => {
      const more = complaint.trim() === '' ? '' : `: ${complaint.trim()}`;
      reject(new ShimError('failed-precondition', `the ${kind} hook "${path}" ${why}${more}`));
    };
    const timer = setTimeout(() => {
      refuse(`did not end within ${timeoutMs} ms`);
      child.kill('SIGKILL');
    }, timeoutMs);
    for (const output of [child.stdout, child.stderr]) {
      output.setEncoding('utf8').on('data', (chunk: string) => {
        complaint = (complaint + chunk).slice(-maxComplaintBytes);
      });
    }
    child.once('error', (error) => {
      clearTimeout(timer);
      refuse(`cannot be started: ${error.message}`);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve();
      else refuse(`ended with ${signal ?? `exit code ${code}`}`);
    });
    // A hook need not read its input.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
