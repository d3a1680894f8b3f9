import { dirname } from 'node:path';
import { installPrograms } from '../engine/program.ts';

/** The program that a copy of this file runs; the build says which. */
declare const programName: string;

installPrograms(dirname(__filename), require, __filename).load(programName);
