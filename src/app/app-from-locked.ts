import { ShimError } from '../error.ts';
import { internalServiceOf } from './allowed-hosts-entry.ts';
import type { LockedApp, LockedComponent, LockedTrigger } from './locked-app.ts';
import type { ContentRef, LockedFile } from './locked-app-content.ts';
import { parseHttpTrigger } from './locked-app-http-trigger.ts';
import { nearestKey, quoted } from './manifest-key.ts';
import { Table } from './manifest-table.ts';
import type { App, Component, ComponentSource, FileMount, Trigger } from './types.ts';

/** What the loader found for the content references of the components in use. */
export type ResolvedContent = {
  source(componentId: string, ref: ContentRef): ComponentSource;
  mounts(componentId: string, files: readonly LockedFile[]): readonly FileMount[];
};

/** Facts that are not in the locked application itself. */
export type AppExtra = {
  /** Digest of the OCI manifest the application came from. */
  readonly ociImageDigest?: string;
  /** Component ids of SPIN_COMPONENTS_TO_RETAIN; absent = keep all. */
  readonly retain?: readonly string[];
};

/** Reads the value of SPIN_COMPONENTS_TO_RETAIN: ids by commas, empty items ignored; undefined if none is named. */
export function parseComponentsToRetain(value: string | undefined): readonly string[] | undefined {
  const ids = (value ?? '').split(',').filter((id) => id !== '');
  return ids.length === 0 ? undefined : ids;
}

/** Component ids that a trigger's table refers to, the main one first. */
function referencedIds(trigger: LockedTrigger): readonly string[] {
  const { component, components } = trigger.config;
  const ids = typeof component === 'string' ? [component] : [];
  if (typeof components === 'object' && components !== null) {
    for (const item of Object.values(components).flat()) if (typeof item === 'string') ids.push(item);
  }
  return ids;
}

/** The triggers and components of an application that run, given what is to be retained (spin.md 6.3). */
export type Selection = {
  readonly triggers: readonly LockedTrigger[];
  readonly components: readonly LockedComponent[];
};

/**
 * Picks the triggers to run and the components they refer to. Fails if a trigger refers to an unknown component, if an
 * id to retain is unknown, or if a retained component wants to call one that is not. Loaders call it before they fetch.
 */
export function selectComponents(locked: LockedApp, retain?: readonly string[]): Selection {
  const byId = new Map(locked.components.map((component) => [component.id, component]));
  for (const trigger of locked.triggers) {
    for (const id of referencedIds(trigger)) if (!byId.has(id)) throw unknownComponent(locked, trigger, id);
  }
  for (const id of retain ?? []) {
    if (byId.has(id)) continue;
    const nearest = nearestKey(id, [...byId.keys()]);
    const hint =
      nearest === undefined ? `it has ${[...byId.keys()].join(', ')}` : `did you mean "${nearest}"?`;
    throw new ShimError(
      'failed-precondition',
      `component ${quoted(id)} is to be retained, but application ${quoted(locked.metadata.name)} has none of that name; ${hint}`,
    );
  }
  const retained = retain === undefined ? undefined : new Set(retain);
  const triggers = locked.triggers.filter((trigger) => {
    if (retained === undefined) return true;
    const ids = referencedIds(trigger);
    return ids.length > 0 && ids.every((id) => retained.has(id));
  });
  const used = new Set(triggers.flatMap(referencedIds));
  const components = locked.components.filter(({ id }) => used.has(id));
  if (retain !== undefined) for (const component of components) checkChaining(component, retain);
  return { triggers, components };
}

function unknownComponent(locked: LockedApp, trigger: LockedTrigger, id: string): ShimError {
  const ids = locked.components.map((component) => component.id);
  const nearest = nearestKey(id, ids);
  const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
  const text = `trigger ${quoted(trigger.id)} refers to component ${quoted(id)}, which does not exist${hint}`;
  return new ShimError('invalid-manifest', text);
}

/** A retained component cannot be granted calls to a component that is gone. */
function checkChaining(component: LockedComponent, retained: readonly string[]): void {
  // Host names have no case.
  const names = retained.map((id) => id.toLowerCase());
  for (const entry of component.allowedOutboundHosts) {
    const service = internalServiceOf(entry);
    if (service === undefined || names.includes(service)) continue;
    const reason =
      service === '*'
        ? 'a wildcard cannot be used when only some components are retained'
        : `component ${quoted(service)} is not retained`;
    throw new ShimError(
      'failed-precondition',
      `component ${quoted(component.id)} lists ${quoted(entry)} in "allowed_outbound_hosts", but ${reason}`,
    );
  }
}

/**
 * Turns a locked application into an `App`: only the components that a kept trigger refers to, content replaced by what
 * `resolved` says. The application-level settings of a trigger type are laid under the table of each of its triggers.
 * Fails with `unsupported` for components whose dependencies are not composed.
 */
export function appFromLocked(locked: LockedApp, resolved: ResolvedContent, extra: AppExtra = {}): App {
  const selection = selectComponents(locked, extra.retain);
  const { name, version, description } = locked.metadata;
  const ociImageDigest = extra.ociImageDigest ?? locked.metadata.ociImageDigest;
  return {
    name,
    ...(version !== undefined && { version }),
    ...(description !== undefined && { description }),
    ...(ociImageDigest !== undefined && { ociImageDigest }),
    variables: locked.variables.map((variable) => ({
      name: variable.name,
      ...(variable.default !== undefined && { default: variable.default }),
      secret: variable.secret,
    })),
    triggers: selection.triggers.map((trigger) => toTrigger(trigger, locked)),
    components: selection.components.map((component) => toComponent(component, resolved)),
  };
}

function toTrigger(trigger: LockedTrigger, locked: LockedApp): Trigger {
  if (Object.keys(trigger.dependencies).length > 0) {
    throw new ShimError(
      'unsupported',
      `trigger ${quoted(trigger.id)} has dependencies that are not composed into its component; push the application with composition on`,
    );
  }
  const [, settings] = locked.metadata.triggers.find(([type]) => type === trigger.triggerType) ?? [];
  if (trigger.triggerType === 'http') {
    const origin = { where: `trigger ${quoted(trigger.id)}`, code: 'invalid-manifest' } as const;
    const base = settings?.base;
    if (base !== undefined && base !== '/') {
      throw new ShimError(
        'invalid-manifest',
        `application.trigger.http.base must be "/", not ${quoted(String(base))}; write the prefix into each route`,
      );
    }
    return parseHttpTrigger(Table.of(trigger.config, '', origin), trigger.id);
  }
  const component = trigger.config.component;
  return {
    type: 'other',
    triggerType: trigger.triggerType,
    id: trigger.id,
    ...(typeof component === 'string' && { component }),
    config: Object.assign(Object.create(null), settings, trigger.config),
  };
}

function toComponent(component: LockedComponent, resolved: ResolvedContent): Component {
  if (component.dependencies.length > 0) {
    const names = component.dependencies.map((dependency) => quoted(dependency.name)).join(', ');
    throw new ShimError(
      'unsupported',
      `component ${quoted(component.id)} has dependencies that are not composed into it (${names}); compose them when building, or push with composition on`,
    );
  }
  return {
    id: component.id,
    ...(component.description !== undefined && { description: component.description }),
    source: resolved.source(component.id, component.source),
    environment: component.environment,
    files: resolved.mounts(component.id, component.files),
    variables: component.variables,
    allowedOutboundHosts: component.allowedOutboundHosts,
    keyValueStores: component.keyValueStores,
    sqliteDatabases: component.sqliteDatabases,
    aiModels: component.aiModels,
  };
}
