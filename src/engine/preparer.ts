import { mkdir } from 'node:fs/promises';
import { trimBlobs } from '../app/blob-trim.ts';
import type { App } from '../app/types.ts';
import { ShimError } from '../error.ts';
import { defaultMaxCacheBytes } from './component-cache.ts';
import { findInstallation } from './installation.ts';
import type { PrepareJob, PrepareReply } from './prepare.ts';
import { prepareApp } from './prepare-app.ts';
import type { CheckedFile } from './sealed-file.ts';

/** Turns a job's source into an `App` on this node. Given by the process entry, which knows all rooms. */
export type OpenContent = (job: PrepareJob) => Promise<App>;

/** The preparer's whole life: one job from the parent, one answer, end. */
export function runPreparer(openContent: OpenContent): void {
  const answer = (reply: PrepareReply): void => {
    process.send?.(reply, () => process.exit(0));
  };
  process.once('disconnect', () => process.exit(1));
  process.once('message', (job) => {
    handle(job as PrepareJob, openContent).then(answer, (thrown: unknown) => {
      const { code, message } = ShimError.from(thrown);
      answer({ type: 'failed', code, message });
    });
  });
}

async function handle(job: PrepareJob, openContent: OpenContent): Promise<PrepareReply> {
  const { adapters, transpilerVersion } = findInstallation();
  await mkdir(job.storeDir, { recursive: true, mode: 0o700 });
  const app = await openContent(job);
  const warnings: string[] = [];
  const checked: CheckedFile[] = [];
  const prepared = await prepareApp(app, job.storeDir, adapters, transpilerVersion, {
    ...(job.alwaysJco === undefined ? {} : { alwaysJco: job.alwaysJco }),
    ...(job.maxCacheBytes === undefined ? {} : { maxBytes: job.maxCacheBytes }),
    warn: (line) => warnings.push(line),
    checked: (file) => checked.push(file),
  });
  await trimBlobs(job.storeDir, job.maxCacheBytes ?? defaultMaxCacheBytes).catch((error: unknown) => {
    warnings.push(`blobs below "${job.storeDir}" could not be removed: ${String(error)}`);
  });
  return { type: 'prepared', prepared, warnings, checked };
}
