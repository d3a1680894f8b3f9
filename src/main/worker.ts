import { runWorker } from '../engine/worker-thread.ts';

runWorker();
