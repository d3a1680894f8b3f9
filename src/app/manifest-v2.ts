import { type LockedApp, maxIdLength } from './locked-app.ts';
import { assembleManifest, type ManifestTrigger, triggerConfig } from './manifest-app.ts';
import { isKebabId, type ManifestComponent, parseComponentV2 } from './manifest-component.ts';
import { childPath, quoted } from './manifest-key.ts';
import { documentError, type JsonObject, type JsonValue, Table } from './manifest-table.ts';
import { parseManifestVariables } from './manifest-variable.ts';

/** Reads a v2 manifest (spin.md 1.3). */
export function parseManifestV2(top: Table): LockedApp {
  top.rejectUnknown(['spin_manifest_version', 'application', 'variables', 'trigger', 'component']);
  const application = top.optionalTable('application');
  if (application === undefined) throw top.error('application', 'is missing: it needs at least a name');
  application.rejectUnknown(['name', 'version', 'description', 'authors', 'targets', 'trigger', 'tool']);
  application.list('targets');
  application.optionalTable('tool');
  const description = application.optionalString('description');
  const { triggers, components } = parseTriggers(top);
  return assembleManifest({
    metadata: {
      name: application.string('name'),
      version: application.optionalString('version') ?? '',
      ...(description !== undefined && { description }),
      authors: application.strings('authors'),
      triggers: application.tableEntries('trigger').map(([type, table]) => [type, table.toJson()]),
    },
    variables: parseManifestVariables(top),
    triggers,
    components,
  });
}

/** Gives names to triggers and inline components that have none. */
class Naming {
  readonly #components: ManifestComponent[];
  readonly #componentIds: Set<string>;
  readonly #triggerIds = new Set<string>();
  #inlineCount = 0;

  constructor(components: readonly ManifestComponent[]) {
    this.#components = [...components];
    this.#componentIds = new Set(components.map(({ component }) => component.id));
  }

  get components(): readonly ManifestComponent[] {
    return this.#components;
  }

  /** Takes the id a trigger was given; twice the same is an error. */
  reserveTriggerId(table: Table): void {
    const id = table.optionalString('id');
    if (id === undefined) return;
    if (id === '' || id.length > maxIdLength || /[\s/]/.test(id)) {
      throw table.error(
        'id',
        `must be 1 to ${maxIdLength} characters without blanks or "/", not ${quoted(id)}`,
      );
    }
    if (this.#triggerIds.has(id)) throw table.error('id', `${quoted(id)} is also the id of another trigger`);
    this.#triggerIds.add(id);
  }

  /** The id of a trigger: as given, after its only component, or numbered. */
  triggerId(table: Table, type: string, components: readonly string[]): string {
    const given = table.optionalString('id');
    if (given !== undefined) return given;
    const [only, ...others] = components;
    const natural = only === undefined || others.length > 0 ? undefined : `${only}-${type}-trigger`;
    let id = natural;
    for (let count = 1; id === undefined || this.#triggerIds.has(id); count++) id = `${type}-trigger${count}`;
    this.#triggerIds.add(id);
    return id;
  }

  /** The id of the component that a trigger's value names or defines. */
  componentId(value: unknown, path: string, trigger: Table): string {
    if (typeof value === 'string') return value;
    const table = Table.of(value, path, trigger.origin);
    const id = this.#inlineId(trigger.optionalString('id'));
    this.#componentIds.add(id);
    this.#components.push(parseComponentV2(table, id));
    return id;
  }

  #inlineId(triggerId: string | undefined): string {
    const natural = triggerId === undefined ? undefined : `${triggerId}-component`;
    if (natural !== undefined && isKebabId(natural) && !this.#componentIds.has(natural)) return natural;
    for (;;) {
      const id = `inline-component${++this.#inlineCount}`;
      if (!this.#componentIds.has(id)) return id;
    }
  }
}

function parseTriggers(top: Table): {
  readonly triggers: readonly ManifestTrigger[];
  readonly components: readonly ManifestComponent[];
} {
  const naming = new Naming(top.tableEntries('component').map(([id, table]) => namedComponent(id, table)));
  const types = top.optionalTable('trigger');
  const written = (types?.keys() ?? []).flatMap((type) =>
    (types?.tables(type) ?? []).map((table) => ({ type, table })),
  );
  for (const { table } of written) naming.reserveTriggerId(table);
  const triggers = written.map(({ type, table }) => parseTrigger(type, table, naming));
  return { triggers, components: naming.components };
}

function namedComponent(id: string, table: Table): ManifestComponent {
  if (!isKebabId(id)) {
    const text = 'must be named by words joined by "-", each starting with a letter and of one case';
    throw table.error(undefined, text);
  }
  return parseComponentV2(table, id);
}

function parseTrigger(type: string, table: Table, naming: Naming): ManifestTrigger {
  const component = table.raw('component');
  const references: Record<string, JsonValue> = Object.create(null);
  const ids: string[] = [];
  if (component !== undefined) {
    const id = naming.componentId(component, childPath(table.path, 'component'), table);
    references.component = id;
    ids.push(id);
  }
  const group = table.optionalTable('components');
  if (group !== undefined) references.components = parseGroup(group, table, naming, ids);
  const dependencies = table.optionalTable('dependencies');
  if (dependencies !== undefined && type === 'http') dependencies.rejectUnknown(['middleware']);
  return {
    trigger: {
      id: naming.triggerId(table, type, ids),
      triggerType: type,
      config: triggerConfig(table, ['id', 'component', 'components', 'dependencies'], references),
      dependencies: dependencies?.toJson() ?? Object.create(null),
    },
    table,
  };
}

/** Reads `components` of a trigger: one or many components for each role. */
function parseGroup(group: Table, trigger: Table, naming: Naming, ids: string[]): JsonObject {
  const result: Record<string, JsonValue> = Object.create(null);
  for (const role of group.keys()) {
    const value = group.raw(role);
    const path = childPath(group.path, role);
    const items = Array.isArray(value) ? value : [value];
    if (items.length === 0) throw documentError(group.origin, path, 'must name at least one component');
    const named = items.map((item: unknown, index) =>
      naming.componentId(item, Array.isArray(value) ? childPath(path, index) : path, trigger),
    );
    ids.push(...named);
    result[role] = Array.isArray(value) ? named : (named[0] ?? null);
  }
  return result;
}
