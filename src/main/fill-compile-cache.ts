import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { EngineProcess } from '../engine/engine-process.ts';
import { findInstallation } from '../engine/installation.ts';
import { rehearsalClaim } from '../engine/rehearsal.ts';
import type { ShellInput, ShellRequest } from '../engine/shell-messages.ts';

/*
 * Boots an engine and has it rehearse, and runs a command in a debug shell. Whoever runs this gives it the flags and
 * variables of an engine: each thread keeps what V8 has compiled of it.
 */
const engine = await EngineProcess.spawn();
await engine.rehearse();
engine.signal('SIGTERM');
const { exitCode, reason = '' } = await engine.exited;
if (exitCode !== 0) throw new Error(`the engine ended with exit code ${exitCode}: ${reason}`);

const workerData: ShellInput = { claim: rehearsalClaim, address: '127.0.0.1:0' };
const shell = new Worker(findInstallation().shell, { workerData });
const exec = { id: 'true', args: ['true'], environment: [], terminal: false, streams: [] };
shell.postMessage({ type: 'exec', exec, fds: [] } satisfies ShellRequest);
await once(shell, 'message');
await shell.terminate();
