import { runPreparer } from '../engine/preparer.ts';
import { openContent } from './prepare-source.ts';

runPreparer(openContent);
