/** What the benchmarks call of the engine's front; bundled beside the shipped parts by `loadEngineFront`. */
export { learnCode } from '../src/engine/code-learner.ts';
export { EngineProcess } from '../src/engine/engine-process.ts';
export { prepare } from '../src/engine/prepare.ts';
