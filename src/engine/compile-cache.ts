import { flushCompileCache } from 'node:module';

/**
 * V8's compiled form of an engine's own code, which Node keeps in files: it is made when an installation is built, by an engine
 * that boots and rehearses, and lies in it. Where the processor is of another kind than there V8 does not take it; then the
 * first engine that rehearses makes it anew if it can write there.
 */

/** The variables by which Node finds it; by paths relative to the folder, so that an installation may be moved. */
export function compileCacheVariables(folder: string | undefined): NodeJS.ProcessEnv {
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: folder, NODE_COMPILE_CACHE_PORTABLE: '1' };
}

/** Those of this process, for a thread that gets no other variable. */
export function ownCompileCacheVariables(): NodeJS.ProcessEnv {
  return compileCacheVariables(process.env.NODE_COMPILE_CACHE);
}

/** Writes what this thread has compiled and was not there. Where it cannot be written nothing happens. */
export function keepCompiledCode(): void {
  flushCompileCache();
}
