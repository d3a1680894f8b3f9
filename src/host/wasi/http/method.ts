import { isToken } from './fields.ts';

const plainMethods = [
  'get',
  'head',
  'post',
  'put',
  'delete',
  'connect',
  'options',
  'trace',
  'patch',
] as const;

/** Longest method name accepted, bytes. */
export const maxMethodLength = 64;

/** wasi:http/types `method`. */
export type Method =
  | { readonly tag: (typeof plainMethods)[number] }
  | { readonly tag: 'other'; readonly val: string };

/** wasi:http/types `scheme`. */
export type Scheme =
  | { readonly tag: 'HTTP' }
  | { readonly tag: 'HTTPS' }
  | { readonly tag: 'other'; readonly val: string };

const byText = new Map<string, Method>(plainMethods.map((tag) => [tag.toUpperCase(), { tag }]));

/** A method as it came over the wire. */
export function methodFromText(text: string): Method {
  return byText.get(text) ?? { tag: 'other', val: text };
}

/** A method as it goes over the wire. */
export function methodText(method: Method): string {
  return method.tag === 'other' ? method.val : method.tag.toUpperCase();
}

/** Whether the method may be sent: a token of at most `maxMethodLength` characters. */
export function isMethod(method: Method): boolean {
  return method.tag !== 'other' || (method.val.length <= maxMethodLength && isToken(method.val));
}
