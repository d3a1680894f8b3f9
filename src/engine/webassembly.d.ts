/** The part of the WebAssembly JavaScript API that this project uses; TypeScript has it only in its browser libraries. */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: BufferSource);
    static exports(module: Module): { name: string; kind: string }[];
    static imports(module: Module): { module: string; name: string; kind: string }[];
  }
  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Record<string, unknown>;
  }
  class Memory {
    constructor(limits: { readonly initial: number; readonly maximum?: number });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  class Table {
    readonly length: number;
    get(index: number): { readonly name: string } | null;
  }
  class RuntimeError extends Error {}
  class Suspending {
    constructor(fn: (...args: never[]) => unknown);
  }
  type Imports = Record<string, Record<string, unknown>>;
  function compile(bytes: BufferSource): Promise<Module>;
  function promising(fn: unknown): (...args: unknown[]) => Promise<unknown>;
}
