import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import type { WorkerFigures } from './shell-messages.ts';

/** How long a worker may take to tell of itself, milliseconds: one that computes without a pause does not answer. */
const answerTimeoutMs = 500;

/** Microseconds between two samples of a profile. */
const sampleIntervalUs = 500;

/** What can be measured of a worker from outside. */
export async function figuresOf(worker: Worker): Promise<WorkerFigures> {
  const late = sleep(answerTimeoutMs, undefined, { ref: false });
  const [heap, cpu] = await Promise.all([
    Promise.race([worker.getHeapStatistics().catch(() => undefined), late]),
    Promise.race([worker.cpuUsage().catch(() => undefined), late]),
  ]);
  return {
    thread: worker.threadId,
    cpuMs: cpu === undefined ? 0 : (cpu.user + cpu.system) / 1000,
    utilization: worker.performance.eventLoopUtilization().utilization,
    ...(heap === undefined
      ? {}
      : {
          heap: {
            used: heap.used_heap_size,
            total: heap.total_heap_size,
            limit: heap.heap_size_limit,
            external: heap.external_memory,
          },
        }),
  };
}

/** Samples a worker's stacks for a time; JSON of a .cpuprofile. */
export async function profileWorker(worker: Worker, milliseconds: number): Promise<string> {
  const profile = await worker.startCpuProfile({ sampleInterval: sampleIntervalUs });
  await sleep(milliseconds);
  return profile.stop();
}
