import { convertAllowedHttpHosts } from './allowed-hosts-http.ts';
import { type ContentRef, type LockedFile, parseContentRef, parseLockedFiles } from './locked-app-content.ts';
import { parseBoundedJson } from './locked-app-json.ts';
import { childPath, quoted } from './manifest-key.ts';
import { type DocumentOrigin, documentError, type JsonObject, Table } from './manifest-table.ts';
import type { AppVariable } from './types.ts';

/** Largest locked application (bytes) that is read. */
export const maxLockedAppBytes = 16 * 1024 * 1024;

/** Longest id (UTF-16 units) of a component or trigger. */
export const maxIdLength = 256;

/** A variable of the application; no `default` means required. */
export type LockedVariable = AppVariable & { readonly description?: string };

/** A trigger; `config` is the manifest's table with `component` replaced by the component's id. */
export type LockedTrigger = {
  readonly id: string;
  readonly triggerType: string;
  readonly config: JsonObject;
  /** Trigger-level dependencies by role (`middleware`), as written; empty once composed. */
  readonly dependencies: JsonObject;
};

/** What a dependency may use of its dependent's grants. */
export type Inheritance =
  | { readonly kind: 'all' }
  | { readonly kind: 'some'; readonly capabilities: readonly string[] };

/** A component to be composed into another; `name` is the import (or package) it satisfies. */
export type LockedDependency = {
  readonly name: string;
  readonly source: ContentRef;
  readonly export?: string;
  readonly inherit: Inheritance;
};

/** One entry of `files` in a manifest: patterns to match, or a directory or file to place. */
export type FileGrant =
  | { readonly kind: 'pattern'; readonly pattern: string }
  | { readonly kind: 'placement'; readonly source: string; readonly destination: string };

/** File grants of a manifest, not yet matched against a folder. */
export type FileGrants = { readonly include: readonly FileGrant[]; readonly exclude: readonly string[] };

/** How the author builds a component: for error texts only. */
export type BuildCommand = { readonly command: readonly string[]; readonly workdir?: string };

export type LockedComponent = {
  readonly id: string;
  readonly description?: string;
  readonly source: ContentRef;
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly files: readonly LockedFile[];
  /** From a manifest only: never in the JSON. */
  readonly fileGrants?: FileGrants;
  readonly variables: readonly (readonly [name: string, template: string])[];
  /** As written, templates unresolved; `allowed_http_hosts` already converted. */
  readonly allowedOutboundHosts: readonly string[];
  readonly keyValueStores: readonly string[];
  readonly sqliteDatabases: readonly string[];
  readonly aiModels: readonly string[];
  readonly build?: BuildCommand;
  readonly dependencies: readonly LockedDependency[];
};

export type LockedMetadata = {
  readonly name: string;
  readonly version?: string;
  readonly description?: string;
  readonly authors: readonly string[];
  /** Application-level settings by trigger type (`[application.trigger.<type>]`). */
  readonly triggers: readonly (readonly [triggerType: string, settings: JsonObject])[];
  readonly ociImageDigest?: string;
};

/**
 * A whole application with every default and shorthand of its manifest resolved (spin.md 1.10): what an image carries,
 * and what a manifest is turned into.
 */
export type LockedApp = {
  readonly metadata: LockedMetadata;
  readonly hostRequirements: readonly string[];
  readonly variables: readonly LockedVariable[];
  readonly triggers: readonly LockedTrigger[];
  readonly components: readonly LockedComponent[];
};

const knownMustUnderstand = ['host_requirements', 'component_host_requirements'];
const knownHostRequirements = ['local_service_chaining', 'middleware'];

/**
 * Reads the JSON of a locked application. Unknown fields are ignored; everything else is checked, and an error
 * (`invalid-image`; `unsupported` for what a newer host would know) names the path inside the JSON.
 * `where` says where the bytes came from.
 */
export function parseLockedApp(bytes: Uint8Array, where = 'locked application'): LockedApp {
  const origin: DocumentOrigin = { where, code: 'invalid-image' };
  const top = Table.of(parseBoundedJson(bytes, origin, { maxBytes: maxLockedAppBytes }), '', origin);
  checkVersion(top);
  const components = top.tables('components').map(parseComponent);
  const triggers = top.tables('triggers').map(parseTrigger);
  rejectDuplicates(components, 'components', origin);
  rejectDuplicates(triggers, 'triggers', origin);
  return {
    metadata: parseMetadata(top),
    hostRequirements: parseHostRequirements(top),
    variables: top.tableEntries('variables').map(([name, table]) => parseVariable(name, table)),
    triggers,
    components,
  };
}

function checkVersion(top: Table): void {
  const version = top.optionalInteger('spin_lock_version', 0, Number.MAX_SAFE_INTEGER);
  if (version === undefined) throw top.error('spin_lock_version', 'is missing: it must be 0 or 1');
  if (version > 1) {
    const text = `${version} is newer than the versions known here (0 and 1); update this shim`;
    throw documentError({ where: top.origin.where, code: 'unsupported' }, 'spin_lock_version', text);
  }
  for (const item of top.strings('must_understand')) {
    if (knownMustUnderstand.includes(item)) continue;
    const text = `lists ${quoted(item)}, which this shim does not know; update it`;
    throw documentError({ where: top.origin.where, code: 'unsupported' }, 'must_understand', text);
  }
}

function parseHostRequirements(table: Table): readonly string[] {
  const required: string[] = [];
  for (const [name, level] of table.stringEntries('host_requirements')) {
    if (level !== 'required' && level !== 'optional') {
      const path = childPath('host_requirements', name);
      throw table.error(path, `must be "required" or "optional", not ${quoted(level)}`);
    }
    if (level === 'optional') continue;
    if (!knownHostRequirements.includes(name)) {
      const path = childPath(childPath(table.path, 'host_requirements'), name);
      const text = 'is required by the application but not offered by this shim; update it';
      throw documentError({ where: table.origin.where, code: 'unsupported' }, path, text);
    }
    required.push(name);
  }
  return required;
}

function parseMetadata(top: Table): LockedMetadata {
  const metadata = Table.of(top.raw('metadata') ?? Object.create(null), 'metadata', top.origin);
  const version = metadata.optionalString('version');
  const description = metadata.optionalString('description');
  const ociImageDigest = metadata.optionalString('oci_image_digest');
  return {
    name: metadata.string('name'),
    ...(version !== undefined && { version }),
    ...(description !== undefined && { description }),
    authors: metadata.strings('authors'),
    triggers: parseTriggerSettings(metadata),
    ...(ociImageDigest !== undefined && { ociImageDigest }),
  };
}

function parseTriggerSettings(metadata: Table): LockedMetadata['triggers'] {
  const byType = metadata.tableEntries('triggers').map(([type, table]) => [type, table.toJson()] as const);
  if (byType.length > 0) return byType;
  // Documents before Spin 2 know one trigger type, named inside the table.
  const legacy = metadata.optionalTable('trigger');
  if (legacy === undefined) return [];
  const { type: _type, ...settings } = legacy.toJson();
  return [[legacy.string('type'), Object.assign(Object.create(null), settings)]];
}

function parseVariable(name: string, table: Table): LockedVariable {
  const description = table.optionalString('description');
  const value = table.optionalString('default');
  return {
    name,
    ...(description !== undefined && { description }),
    ...(value !== undefined && { default: value }),
    secret: table.optionalBoolean('secret') ?? false,
  };
}

function parseTrigger(table: Table): LockedTrigger {
  return {
    id: parseId(table),
    triggerType: table.string('trigger_type'),
    config: table.optionalTable('trigger_config')?.toJson() ?? Object.create(null),
    dependencies: table.optionalTable('trigger_dependencies')?.toJson() ?? Object.create(null),
  };
}

function parseComponent(table: Table): LockedComponent {
  const id = parseId(table);
  const metadata = Table.of(
    table.raw('metadata') ?? Object.create(null),
    childPath(table.path, 'metadata'),
    table.origin,
  );
  const source = table.optionalTable('source');
  if (source === undefined) throw table.error('source', 'is missing: every component has one');
  parseHostRequirements(table);
  const description = metadata.optionalString('description');
  const build = metadata.optionalTable('build');
  return {
    id,
    ...(description !== undefined && { description }),
    source: parseContentRef(source),
    environment: table.stringEntries('env'),
    files: parseLockedFiles(table, 'files'),
    variables: table.stringEntries('config'),
    allowedOutboundHosts: [
      ...metadata.strings('allowed_outbound_hosts'),
      ...convertAllowedHttpHosts(metadata.strings('allowed_http_hosts')),
    ],
    keyValueStores: metadata.strings('key_value_stores'),
    sqliteDatabases: metadata.strings('databases'),
    aiModels: metadata.strings('ai_models'),
    ...(build !== undefined && { build: parseBuild(build) }),
    dependencies: table.tableEntries('dependencies').map(([name, entry]) => parseDependency(name, entry)),
  };
}

/** Reads a `build` table; its command is a string or a list of strings. */
export function parseBuild(table: Table): BuildCommand {
  const command = table.raw('command');
  const workdir = table.optionalString('workdir');
  return {
    command: typeof command === 'string' ? [command] : table.strings('command'),
    ...(workdir !== undefined && { workdir }),
  };
}

function parseDependency(name: string, table: Table): LockedDependency {
  const source = table.optionalTable('source');
  if (source === undefined) throw table.error('source', 'is missing: every dependency has one');
  const exported = table.optionalString('export');
  return {
    name,
    source: parseContentRef(source),
    ...(exported !== undefined && { export: exported }),
    inherit: parseInheritance(table),
  };
}

function parseInheritance(table: Table): Inheritance {
  const inherit = table.raw('inherit');
  if (inherit === undefined) return { kind: 'some', capabilities: [] };
  if (inherit === 'All') return { kind: 'all' };
  const some = Table.of(inherit, childPath(table.path, 'inherit'), table.origin);
  return { kind: 'some', capabilities: some.strings('Some') };
}

/** The id of a component or trigger. It becomes part of file names, so it may not be a path. */
function parseId(table: Table): string {
  const id = table.string('id');
  const characters = [...id].every(
    (character) => character > ' ' && character !== '/' && character !== '\x7f',
  );
  if (id === '' || id === '.' || id === '..' || id.length > maxIdLength || !characters) {
    const text = `must be 1 to ${maxIdLength} characters without spaces, control characters or "/", not`;
    throw table.error('id', `${text} ${quoted(id)}`);
  }
  return id;
}

function rejectDuplicates(
  items: readonly { readonly id: string }[],
  list: string,
  origin: DocumentOrigin,
): void {
  const seen = new Map<string, number>();
  for (const [index, { id }] of items.entries()) {
    const first = seen.get(id);
    if (first !== undefined) {
      throw documentError(
        origin,
        `${list}[${index}].id`,
        `${quoted(id)} is also the id of ${list}[${first}]`,
      );
    }
    seen.set(id, index);
  }
}
