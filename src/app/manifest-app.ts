import { ShimError } from '../error.ts';
import { checkAllowedHosts } from './allowed-hosts.ts';
import { internalServiceOf } from './allowed-hosts-entry.ts';
import type {
  LockedApp,
  LockedComponent,
  LockedMetadata,
  LockedTrigger,
  LockedVariable,
} from './locked-app.ts';
import { parseHttpTrigger } from './locked-app-http-trigger.ts';
import type { ManifestComponent } from './manifest-component.ts';
import { nearestKey, quoted } from './manifest-key.ts';
import { type JsonObject, Table } from './manifest-table.ts';

/** A trigger as written, its id settled. */
export type ManifestTrigger = { readonly trigger: LockedTrigger; readonly table: Table };

/** All parts of a manifest of either version. */
export type ManifestParts = {
  readonly metadata: LockedMetadata;
  readonly variables: readonly LockedVariable[];
  readonly triggers: readonly ManifestTrigger[];
  readonly components: readonly ManifestComponent[];
};

/** Puts the parts together and checks what goes across them: references, hosts, HTTP triggers. */
export function assembleManifest(parts: ManifestParts): LockedApp {
  const byId = new Map(parts.components.map((entry) => [entry.component.id, entry.component]));
  const defaults = new Map(
    parts.variables.flatMap(({ name, default: value }) =>
      value === undefined ? [] : [[name, value] as const],
    ),
  );
  for (const { component, table } of parts.components) {
    try {
      checkAllowedHosts(component.allowedOutboundHosts, defaults);
    } catch (cause) {
      throw table.error(undefined, `is wrong: ${ShimError.from(cause).message}`);
    }
  }
  for (const { trigger, table } of parts.triggers) checkTrigger(trigger, table, byId);
  const components = parts.components.map((entry) => resolveDependencies(entry, byId));
  const chained = components.some(({ allowedOutboundHosts }) =>
    allowedOutboundHosts.some((entry) => internalServiceOf(entry) !== undefined),
  );
  return {
    metadata: parts.metadata,
    hostRequirements: chained ? ['local_service_chaining'] : [],
    variables: parts.variables,
    triggers: parts.triggers.map(({ trigger }) => trigger),
    components,
  };
}

function checkTrigger(
  trigger: LockedTrigger,
  table: Table,
  components: ReadonlyMap<string, LockedComponent>,
): void {
  const id = trigger.config.component;
  if (typeof id === 'string' && !components.has(id)) {
    const nearest = nearestKey(id, [...components.keys()]);
    const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
    throw table.error('component', `refers to component ${quoted(id)}, which does not exist${hint}`);
  }
  if (trigger.triggerType === 'http') {
    parseHttpTrigger(Table.of(trigger.config, table.path, table.origin), trigger.id);
  }
}

/** Replaces dependencies on components of the application by the sources of those; they may hold no grants. */
function resolveDependencies(
  entry: ManifestComponent,
  components: ReadonlyMap<string, LockedComponent>,
): LockedComponent {
  const { component, dependencies, table } = entry;
  return {
    ...component,
    dependencies: dependencies.map((dependency) => {
      const { source, ...rest } = dependency;
      if (source.kind === 'content') return { ...rest, source: source.content };
      const target = components.get(source.id);
      if (target === undefined || source.id === component.id) {
        const text = `has dependency ${quoted(dependency.name)} on component ${quoted(source.id)}, which does not exist or is itself`;
        throw table.error('dependencies', text);
      }
      if (hasGrants(target)) {
        const text = `has dependency ${quoted(dependency.name)} on component ${quoted(source.id)}, which has grants of its own; move them to the dependent component`;
        throw table.error('dependencies', text);
      }
      return { ...rest, source: target.source };
    }),
  };
}

function hasGrants(component: LockedComponent): boolean {
  const grants = [
    component.environment,
    component.fileGrants?.include ?? [],
    component.variables,
    component.allowedOutboundHosts,
    component.keyValueStores,
    component.sqliteDatabases,
    component.aiModels,
  ];
  return grants.some((list) => list.length > 0);
}

/** A table without some of its keys, with `component` set if given. */
export function triggerConfig(table: Table, without: readonly string[], references: JsonObject): JsonObject {
  const result = Object.create(null);
  for (const key of table.keys()) if (!without.includes(key)) result[key] = table.json(key);
  return Object.assign(result, references);
}
