/** What the benchmarks call of the engine's front; bundled beside the shipped parts by `loadEngineFront`. */
export { CheckedFiles } from '../src/engine/checked-files.ts';
export { learnCode } from '../src/engine/code-learner.ts';
export { EngineProcess } from '../src/engine/engine-process.ts';
export { prepare } from '../src/engine/prepare.ts';
