import { leb, name, section } from './binary-writer.ts';
import { sectionIds } from './module-reader.ts';

type Callable = (...args: never[]) => void;

/**
 * Core types of host functions that guests may wait in, with the functions of each number of parameters that the linker
 * makes for them: `shaped-import.ts` has all with fixed ones, `compileImport` a rest.
 */
const kinds: readonly (readonly [params: string, ...callables: Callable[]])[] = [
  ['i', (_0) => {}, (_0, _1) => {}],
  ['ii', (_0, _1) => {}, (..._) => {}],
  ['iii', (_0, _1, _2) => {}, (..._) => {}],
  ['iiii', (_0, _1, _2, _3) => {}, (..._) => {}],
  ['iiiii', (..._) => {}],
  ['iiiiii', (_0, _1, _2, _3, _4, _5) => {}, (..._) => {}],
  ['ili', (_0, _1, _2) => {}],
  ['iili', (..._) => {}],
];

const valueTypes: Readonly<Record<string, number>> = { i: 0x7f, l: 0x7e };

/**
 * Has V8 compile what stands between guests and host functions that wait, for the types that almost all of them have: 0.2 to
 * 0.6 ms each, which otherwise the first instance of a component waits for. V8 shares them among all threads, for as long
 * as what this returns is there.
 */
export function compileImportWrappers(): WebAssembly.Instance {
  const types = kinds.map(([params]) => [
    0x60,
    ...leb(params.length),
    ...[...params].map((param) => valueTypes[param] ?? 0),
    0,
  ]);
  const functions = kinds.flatMap(([params, ...callables], type) =>
    callables.map((callable) => ({ params, type, callable })),
  );
  const imports = functions.map(({ type }, index) => [...name(''), ...name(`${index}`), 0, ...leb(type)]);
  const vector = (items: readonly (readonly number[])[]): Uint8Array =>
    Uint8Array.from([...leb(items.length), ...items.flat()]);
  const module = new WebAssembly.Module(
    Buffer.concat([
      Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0),
      section(sectionIds.type, vector(types)),
      section(sectionIds.import, vector(imports)),
    ]),
  );
  const hosts = functions.map(({ callable }, index) => [
    `${index}`,
    new WebAssembly.Suspending(callable as Callable),
  ]);
  return new WebAssembly.Instance(module, { '': Object.fromEntries(hosts) as Record<string, unknown> });
}
