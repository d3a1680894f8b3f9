import { convertAllowedHttpHosts } from './allowed-hosts-http.ts';
import { type LockedComponent, parseBuild } from './locked-app.ts';
import type { ContentRef } from './locked-app-content.ts';
import { type ManifestDependency, parseDependencies, parseUrlSource } from './manifest-dependency.ts';
import { parseFileGrants } from './manifest-files.ts';
import { quoted } from './manifest-key.ts';
import { Table } from './manifest-table.ts';
import { parseTemplate, variableNameProblem } from './template.ts';

/** A component as written, with dependencies that may still name other components. */
export type ManifestComponent = {
  readonly component: LockedComponent;
  readonly dependencies: readonly ManifestDependency[];
  /** Where it was read, for errors found later. */
  readonly table: Table;
};

const word = /^(?:[a-z][a-z0-9]*|[A-Z][A-Z0-9]*)$/;

/** Whether a text is a kebab-case id: words joined by `-`, each from a letter on, wholly lower or wholly upper case. */
export function isKebabId(text: string): boolean {
  return text.length <= 256 && text.split('-').every((part) => word.test(part));
}

/** As `isKebabId`, or the same with `_`. */
function isLabel(text: string): boolean {
  return isKebabId(text) || (text.length <= 256 && text.split('_').every((part) => word.test(part)));
}

const v2Keys = [
  'source',
  'description',
  'variables',
  'environment',
  'files',
  'exclude_files',
  'allowed_http_hosts',
  'allowed_outbound_hosts',
  'key_value_stores',
  'sqlite_databases',
  'ai_models',
  'targets',
  'build',
  'tool',
  'dependencies_inherit_configuration',
  'dependencies',
  'profile',
];

const v1Keys = [
  'id',
  'source',
  'trigger',
  'description',
  'environment',
  'files',
  'exclude_files',
  'key_value_stores',
  'sqlite_databases',
  'ai_models',
  'build',
  'config',
  'allowed_http_hosts',
  'allowed_outbound_hosts',
];

/** Hosts that every component of a v1 manifest without `allowed_outbound_hosts` could reach. */
const v1DefaultHosts = ['redis://*:*', 'mysql://*:*', 'postgres://*:*'];

/** Reads a `[component.<id>]` or inline component of a v2 manifest (spin.md 1.4). */
export function parseComponentV2(table: Table, id: string): ManifestComponent {
  table.rejectUnknown(v2Keys);
  checkLabels(table, 'key_value_stores', isLabel, 'words joined by "-" or by "_"');
  checkLabels(table, 'sqlite_databases', isLabel, 'words joined by "-" or by "_"');
  checkLabels(table, 'ai_models', isKebabId, 'words joined by "-"');
  table.list('targets');
  table.optionalTable('tool');
  for (const [, profile] of table.tableEntries('profile')) {
    profile.rejectUnknown(['source', 'environment', 'dependencies', 'build']);
  }
  const hosts = table.strings('allowed_outbound_hosts');
  return {
    component: parseShared(table, id, { variables: 'variables', hosts, source: parseSource(table) }),
    dependencies: parseDependencies(table),
    table,
  };
}

/** Reads a `[[component]]` of a v1 manifest (spin.md 1.2); `id` is already converted. */
export function parseComponentV1(table: Table, id: string): ManifestComponent {
  table.rejectUnknown(v1Keys);
  const hosts = table.has('allowed_outbound_hosts')
    ? table.strings('allowed_outbound_hosts')
    : v1DefaultHosts;
  return {
    component: parseShared(table, id, { variables: 'config', hosts, source: parseSource(table) }),
    dependencies: [],
    table,
  };
}

function parseShared(
  table: Table,
  id: string,
  parts: { readonly variables: string; readonly hosts: readonly string[]; readonly source: ContentRef },
): LockedComponent {
  const description = table.optionalString('description');
  const build = table.optionalTable('build');
  build?.rejectUnknown(['command', 'workdir', 'watch']);
  const fileGrants = parseFileGrants(table);
  const httpHosts = convertAllowedHttpHosts(table.strings('allowed_http_hosts'));
  return {
    id,
    ...(description !== undefined && { description }),
    source: parts.source,
    environment: parseEnvironment(table),
    files: [],
    ...(fileGrants !== undefined && { fileGrants }),
    variables: parseVariables(table, parts.variables),
    allowedOutboundHosts: [...parts.hosts, ...httpHosts],
    keyValueStores: table.strings('key_value_stores'),
    sqliteDatabases: table.strings('sqlite_databases'),
    aiModels: table.strings('ai_models'),
    ...(build !== undefined && { build: parseBuild(build) }),
    dependencies: [],
  };
}

function parseSource(table: Table): ContentRef {
  const contentType = 'application/wasm';
  const value = table.raw('source');
  if (value === undefined) throw table.error('source', 'is missing: name the wasm file of the component');
  if (typeof value === 'string') {
    if (value === '' || value.includes('\0')) throw table.error('source', 'must be the path of a wasm file');
    if (!/^https?:\/\//.test(value)) return { contentType, source: value };
    throw table.error('source', 'is a URL; write { url = "…", digest = "sha256:…" }');
  }
  const source = Table.of(value, `${table.path}.source`, table.origin);
  if (source.has('reference')) {
    throw source.error('reference', 'is a bindle, which no longer exists; name a path, URL or package');
  }
  if (source.has('url')) {
    source.rejectUnknown(['url', 'digest']);
    return parseUrlSource(source);
  }
  source.rejectUnknown(['registry', 'package', 'version']);
  const registry = source.optionalString('registry');
  const name = source.string('package');
  if (!/^[^:/@\s]+:[^:/@\s]+$/.test(name)) {
    throw source.error('package', `must be "namespace:name", not ${quoted(name)}`);
  }
  const version = source.string('version');
  return { contentType, package: { name, version, ...(registry !== undefined && { registry }) } };
}

function parseEnvironment(table: Table): LockedComponent['environment'] {
  const environment = table.stringEntries('environment');
  for (const [name, value] of environment) {
    if (name === '' || name.includes('=') || name.includes('\0') || value.includes('\0')) {
      throw table.error('environment', `has ${quoted(name)}, which no environment can hold`);
    }
  }
  return environment;
}

function parseVariables(table: Table, key: string): LockedComponent['variables'] {
  const variables = table.stringEntries(key);
  for (const [name, template] of variables) {
    const problem = variableNameProblem(name);
    if (problem !== undefined) throw table.error(key, `has the name ${quoted(name)}, which ${problem}`);
    try {
      parseTemplate(template);
    } catch (cause) {
      throw table.error(
        key,
        `has a bad value for ${quoted(name)}: ${cause instanceof Error ? cause.message : ''}`,
      );
    }
  }
  return variables;
}

function checkLabels(table: Table, key: string, valid: (text: string) => boolean, rule: string): void {
  for (const label of table.strings(key)) {
    if (valid(label)) continue;
    const text = `lists ${quoted(label)}; a name is ${rule}, each starting with a letter and of one case`;
    throw table.error(key, text);
  }
}
