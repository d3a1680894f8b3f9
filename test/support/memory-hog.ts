import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';

/** A process that, told a line, takes memory until the kernel ends it: before all others of its cgroup. */
export function memoryHog(): ChildProcess & { readonly pid: number } {
  const script = 'echo 1000 > /proc/self/oom_score_adj; read line; exec tail /dev/zero';
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'] });
  assert.ok(child.pid !== undefined);
  return child as ChildProcess & { readonly pid: number };
}
