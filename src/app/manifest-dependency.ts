import type { Inheritance, LockedDependency } from './locked-app.ts';
import { type ContentRef, isSha256Digest } from './locked-app-content.ts';
import { childPath, quoted } from './manifest-key.ts';
import { documentError, Table } from './manifest-table.ts';

const inheritable = [
  'ai_models',
  'allowed_outbound_hosts',
  'environment',
  'files',
  'key_value_stores',
  'sqlite_databases',
  'variables',
];

type DependencySource =
  | { readonly kind: 'content'; readonly content: ContentRef }
  | { readonly kind: 'component'; readonly id: string };

/** A dependency as written; one on another component of the application still names it. */
export type ManifestDependency = Omit<LockedDependency, 'source'> & { readonly source: DependencySource };

/** The package part of `ns:pkg[/interface][@version]`; undefined for a plain name. */
function packageOf(name: string): string | undefined {
  return name.includes(':') ? name.replace(/[/@].*$/s, '') : undefined;
}

/** Reads `url` and `digest` of a table: content that is downloaded and checked. */
export function parseUrlSource(table: Table): ContentRef {
  const url = table.string('url');
  const digest = table.string('digest');
  const scheme = URL.parse(url)?.protocol;
  if (scheme !== 'http:' && scheme !== 'https:') {
    throw table.error('url', `must be an http or https URL, not ${quoted(url)}`);
  }
  if (!isSha256Digest(digest)) {
    throw table.error('digest', `must be "sha256:" and 64 hexadecimal digits, not ${quoted(digest)}`);
  }
  return { contentType: 'application/wasm', source: url, digest };
}

/** Reads the `dependencies` of a component (spin.md 1.5). */
export function parseDependencies(component: Table): readonly ManifestDependency[] {
  const inheritAll = component.optionalBoolean('dependencies_inherit_configuration');
  const table = component.optionalTable('dependencies');
  if (table === undefined) return [];
  return table.keys().map((name) => {
    const value = table.raw(name);
    const path = childPath(table.path, name);
    if (name === '') throw documentError(table.origin, path, 'has an empty name');
    if (typeof value === 'string') {
      const content = registrySource(table, name, { version: value });
      return { name, source: { kind: 'content', content }, inherit: inheritance(inheritAll) };
    }
    const entry = Table.of(value, path, table.origin);
    if (inheritAll !== undefined && entry.has('inherit_configuration')) {
      const text = 'cannot be combined with "dependencies_inherit_configuration" of the component';
      throw entry.error('inherit_configuration', text);
    }
    const exported = entry.optionalString('export');
    if (exported !== undefined && packageOf(name) !== undefined) {
      throw entry.error('export', 'is only for dependencies with a plain name');
    }
    return {
      name,
      source: parseSource(table, name, entry),
      ...(exported !== undefined && { export: exported }),
      inherit: inheritAll === undefined ? parseInherit(entry) : inheritance(inheritAll),
    };
  });
}

function inheritance(all: boolean | undefined): Inheritance {
  return all === true ? { kind: 'all' } : { kind: 'some', capabilities: [] };
}

function parseInherit(entry: Table): Inheritance {
  const value = entry.raw('inherit_configuration');
  if (value === undefined || typeof value === 'boolean') return inheritance(value);
  const capabilities = entry.strings('inherit_configuration');
  for (const name of capabilities) {
    if (inheritable.includes(name)) continue;
    const text = `lists ${quoted(name)}; it may list ${inheritable.join(', ')}`;
    throw entry.error('inherit_configuration', text);
  }
  return { kind: 'some', capabilities };
}

function parseSource(dependencies: Table, name: string, entry: Table): DependencySource {
  const shared = ['export', 'inherit_configuration'];
  if (entry.has('path')) {
    entry.rejectUnknown(['path', ...shared]);
    const content = { contentType: 'application/wasm', source: entry.string('path') };
    return { kind: 'content', content };
  }
  if (entry.has('url')) {
    entry.rejectUnknown(['url', 'digest', ...shared]);
    return { kind: 'content', content: parseUrlSource(entry) };
  }
  if (entry.has('component')) {
    entry.rejectUnknown(['component', ...shared]);
    return { kind: 'component', id: entry.string('component') };
  }
  entry.rejectUnknown(['version', 'registry', 'package', ...shared]);
  if (!entry.has('version')) {
    throw entry.error(undefined, 'must have one of "version", "path", "url", "component"');
  }
  const registry = entry.optionalString('registry');
  const packageName = entry.optionalString('package');
  return {
    kind: 'content',
    content: registrySource(dependencies, name, {
      version: entry.string('version'),
      ...(registry !== undefined && { registry }),
      ...(packageName !== undefined && { packageName }),
    }),
  };
}

function registrySource(
  dependencies: Table,
  name: string,
  written: { readonly version: string; readonly registry?: string; readonly packageName?: string },
): ContentRef {
  const packageName = written.packageName ?? packageOf(name);
  if (packageName === undefined) {
    throw dependencies.error(name, 'has a plain name, so it needs a "package" beside the version');
  }
  const { version, registry } = written;
  return {
    contentType: 'application/wasm',
    package: { name: packageName, version, ...(registry !== undefined && { registry }) },
  };
}
