import { ShimError } from '../error.ts';
import type { LockedApp, LockedComponent, LockedDependency, LockedMetadata } from './locked-app.ts';
import type { ContentRef } from './locked-app-content.ts';
import { quoted } from './manifest-key.ts';
import type { JsonObject, JsonValue } from './manifest-table.ts';

/** An object without prototype of the pairs whose value is defined, in the given order. */
function record(pairs: readonly (readonly [key: string, value: JsonValue | undefined])[]): JsonObject {
  const result: Record<string, JsonValue> = Object.create(null);
  for (const [key, value] of pairs) if (value !== undefined) result[key] = value;
  return result;
}

/** As `record`, sorted by key. */
function sortedMap(pairs: readonly (readonly [key: string, value: JsonValue | undefined])[]): JsonObject {
  return record(pairs.toSorted(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0)));
}

function sortedJson(value: JsonValue): JsonValue {
  if (isList(value)) return value.map(sortedJson);
  if (value === null || typeof value !== 'object') return value;
  return sortedMap(Object.entries(value).map(([key, item]) => [key, sortedJson(item)]));
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function nonEmpty(list: readonly string[]): readonly string[] | undefined {
  return list.length === 0 ? undefined : list;
}

/**
 * The JSON of a locked application as images carry it: compact, maps sorted. Fails (`failed-precondition`) if file
 * grants or package references of a manifest are still unresolved.
 */
export function serializeLockedApp(app: LockedApp): string {
  const requirements = app.hostRequirements.map((name) => [name, 'required'] as const);
  const usesRequirements = requirements.length > 0;
  return JSON.stringify(
    record([
      ['spin_lock_version', usesRequirements ? 1 : 0],
      ['must_understand', usesRequirements ? ['host_requirements'] : undefined],
      ['metadata', metadataJson(app.metadata)],
      ['host_requirements', usesRequirements ? sortedMap(requirements) : undefined],
      [
        'variables',
        sortedMap(
          app.variables.map((variable) => [
            variable.name,
            record([
              ['description', variable.description],
              ['default', variable.default],
              ['secret', variable.secret ? true : undefined],
            ]),
          ]),
        ),
      ],
      [
        'triggers',
        app.triggers.map((trigger) =>
          record([
            ['id', trigger.id],
            ['trigger_type', trigger.triggerType],
            ['trigger_config', sortedJson(trigger.config)],
            [
              'trigger_dependencies',
              Object.keys(trigger.dependencies).length === 0 ? undefined : sortedJson(trigger.dependencies),
            ],
          ]),
        ),
      ],
      ['components', app.components.map(componentJson)],
    ]),
  );
}

function metadataJson(metadata: LockedMetadata): JsonObject {
  const [only, ...others] = metadata.triggers;
  const legacy =
    only === undefined || others.length > 0
      ? undefined
      : sortedMap([...Object.entries(only[1]), ['type', only[0]]]);
  return sortedMap([
    ['name', metadata.name],
    ['version', metadata.version],
    ['description', metadata.description],
    ['authors', nonEmpty(metadata.authors)],
    ['oci_image_digest', metadata.ociImageDigest],
    ['trigger', legacy],
    ['triggers', sortedMap(metadata.triggers.map(([type, settings]) => [type, sortedJson(settings)]))],
  ]);
}

function componentJson(component: LockedComponent): JsonObject {
  const where = `component ${quoted(component.id)}`;
  const grants = component.fileGrants;
  if (grants !== undefined && grants.include.length > 0) {
    throw new ShimError(
      'failed-precondition',
      `${where}: file patterns are not resolved yet; load the files first`,
    );
  }
  const build = component.build;
  return record([
    ['id', component.id],
    [
      'metadata',
      sortedMap([
        ['description', component.description],
        ['allowed_outbound_hosts', nonEmpty(component.allowedOutboundHosts)],
        ['key_value_stores', nonEmpty(component.keyValueStores)],
        ['databases', nonEmpty(component.sqliteDatabases)],
        ['ai_models', nonEmpty(component.aiModels)],
        ['build', build && record(buildPairs(build.command, build.workdir))],
      ]),
    ],
    ['source', contentJson(component.source, `${where}: source`)],
    ['env', component.environment.length === 0 ? undefined : sortedMap(component.environment)],
    [
      'files',
      component.files.length === 0
        ? undefined
        : component.files.map((file) =>
            record([
              ...Object.entries(contentJson(file.content, `${where}: file ${quoted(file.path)}`)),
              ['path', file.path],
            ]),
          ),
    ],
    ['config', component.variables.length === 0 ? undefined : sortedMap(component.variables)],
    ['dependencies', component.dependencies.length === 0 ? undefined : dependenciesJson(component)],
  ]);
}

function buildPairs(
  command: readonly string[],
  workdir: string | undefined,
): [string, JsonValue | undefined][] {
  const [first, ...rest] = command;
  return [
    ['command', first !== undefined && rest.length === 0 ? first : command],
    ['workdir', workdir],
  ];
}

function dependenciesJson(component: LockedComponent): JsonObject {
  const inherit = (dependency: LockedDependency): JsonValue =>
    dependency.inherit.kind === 'all' ? 'All' : record([['Some', dependency.inherit.capabilities]]);
  return sortedMap(
    component.dependencies.map((dependency) => [
      dependency.name,
      record([
        ['source', contentJson(dependency.source, `dependency ${quoted(dependency.name)}`)],
        ['export', dependency.export],
        ['inherit', inherit(dependency)],
      ]),
    ]),
  );
}

function contentJson(content: ContentRef, where: string): JsonObject {
  if (content.package !== undefined) {
    throw new ShimError('failed-precondition', `${where}: the package reference is not resolved yet`);
  }
  return record([
    ['content_type', content.contentType],
    ['source', content.source],
    ['inline', content.inline && Buffer.from(content.inline).toString('base64')],
    ['digest', content.digest],
  ]);
}
