import { ShimError } from '../error.ts';
import { dropDebugLines, patchAsyncGlue } from './glue-async-patches.ts';

/**
 * What has to be changed in the text that jco 1.35 makes of a component. Every patch names the defect; one whose place
 * is not found where it must be stops the preparation, so that a new jco cannot undo it unseen.
 */
export function patchGlue(glue: string, where: string): string {
  return dropDebugLines(patchAsyncGlue(letStartWait(passRejectionsOn(glue), where), where));
}

/**
 * A rejected wait of a function without a `result` (`poll`, `pollable.block`) is answered with a promise that never
 * settles, so that the guest of an abandoned request would stay suspended for ever. The rejection is passed on instead.
 */
function passRejectionsOn(glue: string): string {
  return glue.replaceAll('return task.completionPromise();', 'throw err;');
}

/**
 * A host function that may wait is refused when no export is being called. That is wrong where `ComponentRuntime` calls
 * `_initialize`: there the wait suspends that call like any other. Where nothing may wait (a start function, a call
 * without a `promising` frame) V8 itself refuses it before the glue is asked.
 */
function letStartWait(glue: string, where: string): string {
  if (!glue.includes('function _suspendingImport(')) return glue;
  const refusal =
    /if \(!saved && !mayBlock\) \{\s*throw new WebAssemblyRuntimeError\('cannot block a synchronous task before returning'\);\s*\}\s*if \(syncOnly \|\| !mayBlock\) \{/;
  if (!refusal.test(glue)) {
    throw new ShimError(
      'internal',
      `the transpiler's output for ${where} is not of the version this installation knows: reinstall it whole`,
    );
  }
  return glue.replace(refusal, 'if (syncOnly) {');
}
