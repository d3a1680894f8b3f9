import type { App, Component, HttpTrigger } from './types.ts';

/** A component that answers every path, alone in an app that grants it nothing. */
export function appOfComponent(
  name: string,
  { id, source }: Pick<Component, 'id' | 'source'>,
  {
    triggerId = id,
    executor = { type: 'http' },
  }: { readonly triggerId?: string; readonly executor?: HttpTrigger['executor'] } = {},
): App {
  return {
    name,
    variables: [],
    triggers: [
      {
        type: 'http',
        id: triggerId,
        route: { kind: 'path', path: '/...' },
        target: { kind: 'component', component: id },
        executor,
      },
    ],
    components: [
      {
        id,
        source,
        environment: [],
        files: [],
        variables: [],
        allowedOutboundHosts: [],
        keyValueStores: [],
        sqliteDatabases: [],
        aiModels: [],
      },
    ],
  };
}

/** The HTTP triggers of an app that call one component. */
export function httpTriggersOf({ triggers }: App, id: string): readonly HttpTrigger[] {
  return triggers.filter(
    (trigger): trigger is HttpTrigger =>
      trigger.type === 'http' && trigger.target.kind === 'component' && trigger.target.component === id,
  );
}
