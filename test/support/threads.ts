import { readdirSync, readFileSync } from 'node:fs';

/** Distinct values that the threads of a process have in a field of /proc/…/status; one that ends meanwhile has none. */
export function fieldOfThreads(pid: number, field: string): readonly string[] {
  const values = new Set<string>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    let status: string;
    try {
      status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    } catch {
      continue;
    }
    const line = status.split('\n').find((candidate) => candidate.startsWith(`${field}:`));
    if (line !== undefined)
      values.add(
        line
          .slice(field.length + 1)
          .trim()
          .replaceAll('\t', ' '),
      );
  }
  return [...values].sort();
}
