import { dirname, join } from 'node:path';
import { hasNoNewPrivileges, leaveFirstWorker, startFirstWorker } from '../engine/first-worker.ts';
import { installPrograms } from '../engine/program.ts';

/*
 * Runs the program of an engine. Its worker boots for longer than it takes to load all of this thread's own code, so that
 * comes second.
 */
const folder = dirname(__filename);
if (hasNoNewPrivileges()) leaveFirstWorker(startFirstWorker(join(folder, 'worker.cjs')));
installPrograms(folder, require, __filename).load('engine');
