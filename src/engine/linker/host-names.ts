import { importMap } from '../import-names.ts';

/** `pkg/*@version` patterns of the imports that keep a version: prefix, suffix, and the suffix they are found under. */
const versioned: readonly (readonly [prefix: string, suffix: string, kept: string])[] = importMap.map(
  ([pattern, name]) => {
    const star = pattern.indexOf('*');
    return [pattern.slice(0, star), pattern.slice(star + 1), name.slice(star + 1)];
  },
);

/** The name under which an import is found in the imports object: jco's rule together with our `importMap`. */
export function importKeyOf(name: string): string {
  const at = name.indexOf('@');
  if (at === -1) return name;
  const found = versioned.find(
    ([prefix, suffix]) => name.startsWith(prefix) && name.slice(at) === suffix && at >= prefix.length,
  );
  return name.slice(0, at) + (found?.[2] ?? '');
}

/** `get-keys` → `getKeys`, `HTTP-x` → `httpX`: functions, fields and flags as JavaScript names them. */
export function lowerCamel(label: string): string {
  return label
    .split('-')
    .map((word, index) => (index === 0 ? word.toLowerCase() : capital(word)))
    .join('');
}

/** `output-stream` → `OutputStream`: resources as JavaScript names their classes. */
export function upperCamel(label: string): string {
  return label.split('-').map(capital).join('');
}

function capital(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase();
}

/** What a function of an interface is on the host's side. */
export type HostMember =
  | { readonly kind: 'function'; readonly name: string }
  | { readonly kind: 'method'; readonly resource: string; readonly name: string }
  | { readonly kind: 'static'; readonly resource: string; readonly name: string }
  | { readonly kind: 'constructor'; readonly resource: string };

const label = /^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/i;
const annotated = /^\[(method|static|constructor)\]([^.]+)(?:\.(.+))?$/;

/** Whether a name is made of words of letters and digits joined by hyphens. */
export function isLabel(name: string): boolean {
  return label.test(name);
}

/** Reads a function's name (`[method]output-stream.write`); undefined for forms that 0.2 does not have. */
export function hostMemberOf(name: string): HostMember | undefined {
  if (label.test(name)) return { kind: 'function', name: lowerCamel(name) };
  const [, kind, resource = '', member] = annotated.exec(name) ?? [];
  if (!label.test(resource)) return undefined;
  if (kind === 'constructor') {
    return member === undefined ? { kind, resource: upperCamel(resource) } : undefined;
  }
  if ((kind !== 'method' && kind !== 'static') || member === undefined || !label.test(member))
    return undefined;
  return { kind, resource: upperCamel(resource), name: lowerCamel(member) };
}

/** Whether a function may wait: `asyncImports` names it with or without the version of its interface. */
export function isAsyncImport(
  asyncImports: ReadonlySet<string>,
  interfaceName: string,
  functionName: string,
): boolean {
  return (
    asyncImports.has(`${interfaceName}#${functionName}`) ||
    asyncImports.has(`${importKeyOf(interfaceName)}#${functionName}`)
  );
}
