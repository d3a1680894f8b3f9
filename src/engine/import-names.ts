/**
 * How the imports of a component are named in the object that its glue takes. jco drops versions, which is right among
 * the patch releases of WASI 0.2 and wrong everywhere else: generations that differ in shape keep theirs
 * (reference/engine.md 6.3).
 */

/** Versions under which Spin publishes its packages (reference/spin.md 4.1). */
const spinVersions: readonly (readonly [pattern: string, versions: readonly string[]])[] = [
  ['fermyon:spin/*', ['2.0.0']],
  ['spin:key-value/*', ['3.0.0']],
  ['spin:mqtt/*', ['3.0.0']],
  ['spin:mysql/*', ['3.0.0']],
  ['spin:redis/*', ['3.0.0']],
  ['spin:variables/*', ['3.0.0']],
  ['spin:postgres/*', ['3.0.0', '4.0.0', '4.1.0', '4.2.0']],
  ['spin:sqlite/*', ['3.0.0', '3.1.0']],
];

const wasiPackages = ['cli', 'clocks', 'filesystem', 'http', 'io', 'random', 'sockets'];

/** WASI versions whose interfaces are not those of 0.2. */
const otherWasiVersions = [
  '0.2.0-rc-2023-10-18',
  '0.2.0-rc-2023-11-10',
  '0.3.0-rc-2026-01-06',
  '0.3.0-rc-2026-03-15',
  '0.3.0',
];

/** The highest patch release of WASI 0.3 that is taken for 0.3.0, whose interfaces it may only add to. */
const lastWasi03Patch = 9;

/** jco's `map` option. */
export const importMap: [string, string][] = [
  ...spinVersions.flatMap(([pattern, versions]) => versions.map((version) => keepVersion(pattern, version))),
  ...wasiPackages.flatMap((name) => [
    ...otherWasiVersions.map((version) => keepVersion(`wasi:${name}/*`, version)),
    ...Array.from({ length: lastWasi03Patch }, (_, index): [string, string] => [
      `wasi:${name}/*@0.3.${index + 1}`,
      `wasi:${name}/*@0.3.0`,
    ]),
  ]),
];

function keepVersion(pattern: string, version: string): [string, string] {
  return [`${pattern}@${version}`, `${pattern}@${version}`];
}

/** Packages that Spin provides: an import of theirs without a host object is a gap of ours, not a mistake of the app's. */
const spinProvided = ['fermyon:spin/', 'spin:', 'wasi:keyvalue/', 'wasi:config/', 'wasi:otel/'];

/** Whether Spin itself would provide this import. */
export function isProvidedBySpin(importName: string): boolean {
  return spinProvided.some((prefix) => importName.startsWith(prefix));
}
