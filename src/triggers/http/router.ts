import type { HttpTrigger } from '../../app/types.ts';
import type { HeaderList } from '../../host/http-exchange.ts';
import {
  compareRoutes,
  matchRoute,
  parseRoute,
  type RouteMatch,
  type RoutePattern,
} from './route-pattern.ts';
import { routeHeaders } from './spin-headers.ts';

/** A trigger with its parsed route. */
export type Route = {
  readonly trigger: HttpTrigger;
  readonly pattern: RoutePattern;
  /** Injected headers that all its requests get. */
  readonly headers: HeaderList;
};

/** What the router found for a path. */
export type RoutedRequest = RouteMatch & { readonly route: Route };

const wellKnownPrefix = '/.well-known/spin/';

/** Routes of an app in match order, and what is wrong with those that will never get a request. */
export class Router {
  readonly routes: readonly Route[];
  readonly warnings: readonly string[];

  /** Takes the app's HTTP triggers in manifest order; private ones are left out. Throws `invalid-manifest`. */
  constructor(triggers: readonly HttpTrigger[]) {
    const byRaw = new Map<string, Route>();
    const warnings: string[] = [];
    for (const trigger of triggers) {
      if (trigger.route.kind === 'private') continue;
      const pattern = parseRoute(trigger.route.path);
      if (pattern.normalized.startsWith(wellKnownPrefix)) {
        warnings.push(
          `route "${pattern.raw}" of trigger "${trigger.id}" is below "${wellKnownPrefix}", which the host answers itself: it gets no requests`,
        );
      }
      const dropped = byRaw.get(pattern.raw);
      if (dropped !== undefined) {
        warnings.push(
          `route "${pattern.raw}" is used by trigger "${dropped.trigger.id}" and again by trigger "${trigger.id}": the later one gets the requests`,
        );
        byRaw.delete(pattern.raw);
      }
      byRaw.set(pattern.raw, { trigger, pattern, headers: routeHeaders(pattern) });
    }
    this.routes = [...byRaw.values()].sort((left, right) => compareRoutes(left.pattern, right.pattern));
    this.warnings = warnings;
  }

  /** The first route that matches the path (no query, not decoded). */
  route(path: string): RoutedRequest | undefined {
    for (const route of this.routes) {
      const match = matchRoute(route.pattern, path);
      if (match !== undefined) return { ...match, route };
    }
    return undefined;
  }
}
