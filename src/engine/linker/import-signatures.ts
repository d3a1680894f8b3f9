import { importKeyOf } from './host-names.ts';
import type { LinkPlan } from './plan.ts';
import type { FunctionType } from './value-type.ts';

/**
 * The type a component declares for each host function, as text that is the same for the same type: `interface#function`
 * → `(borrow<wasi:io/poll/pollable>) -> bool`, the interface as in the imports object. A component declares its imports'
 * types itself; host functions rely on theirs, so a component whose declarations differ from the interface's must not
 * be given the interface.
 */
export function importSignatures(plan: LinkPlan): ReadonlyMap<string, string> {
  const texts: string[] = [];
  for (const [index] of plan.types.entries()) texts.push(textOf(plan, index, texts));
  const signatures = new Map<string, string>();
  for (const core of plan.coreFunctions) {
    if (core.kind !== 'lower') continue;
    const { key, name, type } = core.function;
    signatures.set(`${key}#${name}`, functionText(type, texts));
  }
  return signatures;
}

function functionText({ params, result }: FunctionType, texts: readonly string[]): string {
  const part = (index: number): string => texts[index] ?? '';
  const list = params.map(([, type]) => part(type)).join(', ');
  return result === null ? `(${list})` : `(${list}) -> ${part(result)}`;
}

/** Characters of one type's text; a longer one is cut and marked, and so equals that of no interface of the host. */
const maxTextLength = 100_000;

function textOf(plan: LinkPlan, index: number, before: readonly string[]): string {
  const type = plan.types[index];
  const part = (inner: number | null): string => (inner === null ? '_' : (before[inner] ?? ''));
  const named = (parts: readonly (readonly [string, number | null])[]): string =>
    parts.map(([name, inner]) => `${name}: ${part(inner)}`).join(', ');
  switch (type?.kind) {
    case 'record':
      return capped(`record{${named(type.fields)}}`);
    case 'variant':
      return capped(`variant{${named(type.cases)}}`);
    case 'tuple':
      return capped(`tuple<${type.types.map(part).join(', ')}>`);
    case 'list':
      return capped(`list<${part(type.element)}>`);
    case 'enum':
    case 'flags':
      return capped(`${type.kind}{${type.names.join(', ')}}`);
    case 'option':
      return capped(`option<${part(type.some)}>`);
    case 'result':
      return capped(`result<${part(type.ok)}, ${part(type.err)}>`);
    case 'own':
    case 'borrow': {
      const resource = plan.resources[type.resource];
      const name =
        resource?.kind === 'imported' ? `${importKeyOf(resource.interfaceName)}/${resource.name}` : 'its own';
      return `${type.kind}<${name}>`;
    }
    default:
      return type?.kind ?? '';
  }
}

function capped(text: string): string {
  return text.length > maxTextLength ? `${text.slice(0, maxTextLength)}…` : text;
}
