import { ShimError } from '../error.ts';
import { patchGlue } from './glue-patches.ts';
import { importMap } from './import-names.ts';
import { firstLine } from './lift.ts';

/** What jco makes of a component: ES module text, core modules, and the names at both ends. */
export type Transpiled = {
  readonly glue: string;
  /** Why our linker left the component to jco. */
  readonly reason: string;
  /** Core modules by the name under which the glue asks for them. */
  readonly coreModules: readonly (readonly [name: string, bytes: Uint8Array])[];
  /** Import names as the glue looks them up (`wasi:http/types`, `fermyon:spin/key-value@2.0.0`). */
  readonly imports: readonly string[];
  /** Export names; interfaces with their version (`wasi:http/incoming-handler@0.2.4`). */
  readonly exports: readonly string[];
};

/** Version of the way components are transpiled; part of the cache key, raised with every change that matters. */
export const transpileRevision = 7;

/**
 * Transpiles a component for JSPI. `asyncImports` are the host functions that may wait, in jco's notation
 * (`wasi:io/poll#poll`); every export may suspend. `reason` is kept with the outcome. Throws `invalid-component`.
 *
 * After one failure jco refuses every later call in the same process, so a process transpiles one app and ends.
 */
export async function transpileComponent(
  component: Uint8Array,
  asyncImports: readonly string[],
  where: string,
  reason = '',
): Promise<Transpiled> {
  const { generate, $init } = await import('@bytecodealliance/jco-transpile/component');
  await $init;
  let output: ReturnType<typeof generate>;
  try {
    output = generate(component, {
      name: 'component',
      noTypescript: true,
      instantiation: { tag: 'async' },
      // `hybrid` is not used anywhere and panics on resources in the payload of a future (jco 1.35).
      importBindings: { tag: 'js' },
      multiMemory: true,
      noNodejsCompat: true,
      map: importMap,
      asyncMode: { tag: 'jspi', val: { imports: [...asyncImports], exports: ['*'] } },
    });
  } catch (error) {
    throw new ShimError('invalid-component', `${where} cannot be transpiled: ${firstLine(error)}`, {
      cause: error,
    });
  }
  const glue = output.files.find(([name]) => name === 'component.js')?.[1];
  if (glue === undefined) throw new ShimError('internal', `jco gave no "component.js" for ${where}`);
  return {
    glue: patchGlue(Buffer.from(glue).toString('utf8'), where),
    reason,
    coreModules: output.files.filter(([name]) => name.endsWith('.wasm')),
    imports: output.imports,
    exports: output.exports.map(([name]) => name),
  };
}
