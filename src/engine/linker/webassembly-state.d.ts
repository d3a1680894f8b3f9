/** What the linker uses of the WebAssembly JavaScript API besides what `../webassembly.d.ts` declares. */
declare namespace WebAssembly {
  class Global {
    value: number | bigint;
  }
  const SuspendError: (new () => Error) | undefined;
}
