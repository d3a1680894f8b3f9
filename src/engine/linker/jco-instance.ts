import { transpileComponent } from '../transpile.ts';
import { CompiledPlan } from './compiled-plan.ts';
import { parseComponent } from './component-parser.ts';
import type { ImportObject } from './instance-state.ts';
import { LinkedComponent } from './linked-component.ts';

/** What jco's glue exports, for tests that compare the linker with it. */
export type JcoExports = Readonly<Record<string, Readonly<Record<string, (...args: unknown[]) => unknown>>>>;

export type JcoComponent = {
  readonly imports: readonly string[];
  instantiate(imports: ImportObject): Promise<JcoExports>;
};

type Glue = {
  readonly instantiate: (
    getCoreModule: (name: string) => WebAssembly.Module | undefined,
    imports: ImportObject,
    instantiateCore: (module: WebAssembly.Module, imports: WebAssembly.Imports) => WebAssembly.Instance,
  ) => Promise<JcoExports>;
};

/** A component as jco runs it. */
export async function jcoComponent(
  bytes: Uint8Array,
  asyncImports: readonly string[],
): Promise<JcoComponent> {
  const { glue, coreModules, imports } = await transpileComponent(bytes, asyncImports, 'the test component');
  const url = `data:text/javascript;base64,${Buffer.from(glue).toString('base64')}`;
  const { instantiate } = (await import(url)) as Glue;
  const modules = new Map(
    coreModules.map(([name, module]) => [name, new WebAssembly.Module(Uint8Array.from(module))]),
  );
  return {
    imports,
    instantiate: (objects) =>
      instantiate(
        (name) => modules.get(name),
        objects,
        (module, core) => new WebAssembly.Instance(module, core),
      ),
  };
}

/** A component as the linker runs it, its plan gone through JSON as it does in the cache. */
export function linkedComponent(
  bytes: Uint8Array,
  asyncImports: readonly string[],
  options: { readonly maxMemoryPages?: number; readonly onlyGeneric?: boolean } = {},
): LinkedComponent {
  const parsed = parseComponent(bytes, asyncImports, options);
  if (!parsed.linkable) throw new Error(`not linkable: ${parsed.reason}`);
  return new LinkedComponent(
    new CompiledPlan(JSON.parse(JSON.stringify(parsed.plan)), options.onlyGeneric),
    parsed.modules.map((module) => new WebAssembly.Module(Uint8Array.from(module.bytes))),
    parsed.start,
  );
}
