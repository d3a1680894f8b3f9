import type { Component } from '../../app/types.ts';
import type { Route } from './router.ts';

/** What Spin prints when an app begins to serve (reference/spin.md 3.1.6), one element a line. */
export function routeLines(
  address: string,
  routes: readonly Route[],
  components: readonly Component[],
): readonly string[] {
  const base = `http://${address}`;
  return [
    '',
    `Serving ${base}`,
    'Available Routes:',
    ...routes.flatMap(({ trigger, pattern }) => {
      const id = trigger.target.kind === 'component' ? trigger.target.component : trigger.id;
      const path = pattern.isWildcard ? pattern.normalized.replace(/\/(\.\.\.|\*)$/, '') : pattern.normalized;
      const description = components.find((component) => component.id === id)?.description;
      const shown = path === '/' ? '' : path;
      return [
        `  ${id}: ${base}${shown}${pattern.isWildcard ? ' (wildcard)' : ''}`,
        ...(description === undefined || description === '' ? [] : [`    ${description}`]),
      ];
    }),
  ];
}
