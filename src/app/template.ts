import { ShimError } from '../error.ts';
import { quoted } from './manifest-key.ts';

/** A text with `{{ name }}` references to application variables (spin.md 1.8), as its parts in order. */
export type Template = readonly TemplatePart[];
export type TemplatePart =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'variable'; readonly name: string };

/** Longest variable name (UTF-16 units). */
export const maxVariableNameLength = 256;

/**
 * Why a text cannot be the name of a variable; undefined if it can: lower-case words of letters and digits, joined by
 * single `_`, starting with a letter.
 */
export function variableNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.length > maxVariableNameLength) return `has more than ${maxVariableNameLength} characters`;
  if (!/^[a-z]/.test(name)) return 'must start with a lower-case letter';
  if (!/^[a-z0-9_]*$/.test(name)) return 'must consist of lower-case letters, digits and "_"';
  if (name.endsWith('_')) return 'must not end in "_"';
  if (name.includes('__')) return 'must not contain "__"';
  return undefined;
}

/** Parses a template in linear time; `{{` without `}}` and bad names are `invalid-manifest`. */
export function parseTemplate(text: string): Template {
  const parts: TemplatePart[] = [];
  let position = 0;
  for (;;) {
    const open = text.indexOf('{{', position);
    if (open === -1) break;
    if (open > position) parts.push({ kind: 'text', text: text.slice(position, open) });
    const close = text.indexOf('}}', open + 2);
    if (close === -1) {
      throw new ShimError('invalid-manifest', `template ${quoted(text)} has "{{" without "}}"`);
    }
    const name = text.slice(open + 2, close).trim();
    const problem = variableNameProblem(name);
    if (problem !== undefined) {
      const message = `template ${quoted(text)} refers to variable ${quoted(name)}, whose name ${problem}`;
      throw new ShimError('invalid-manifest', message);
    }
    parts.push({ kind: 'variable', name });
    position = close + 2;
  }
  if (position < text.length) parts.push({ kind: 'text', text: text.slice(position) });
  return parts;
}

/** The variables a template refers to, each once. */
export function templateVariables(template: Template): readonly string[] {
  return [...new Set(template.flatMap((part) => (part.kind === 'variable' ? [part.name] : [])))];
}

/** The text with every reference replaced by `lookup` its variable; values are not templates themselves. */
export function renderTemplate(template: Template, lookup: (variable: string) => string): string {
  return template.map((part) => (part.kind === 'text' ? part.text : lookup(part.name))).join('');
}
