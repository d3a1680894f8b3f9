import type { LockedApp } from './locked-app.ts';
import { assembleManifest, type ManifestTrigger, triggerConfig } from './manifest-app.ts';
import { isKebabId, type ManifestComponent, parseComponentV1 } from './manifest-component.ts';
import { quoted } from './manifest-key.ts';
import type { Table } from './manifest-table.ts';
import { parseManifestVariables } from './manifest-variable.ts';

/** Converts a v1 manifest (spin.md 1.2). */
export function parseManifestV1(top: Table): LockedApp {
  top.rejectUnknown([
    'spin_manifest_version',
    'spin_version',
    'name',
    'version',
    'description',
    'authors',
    'trigger',
    'variables',
    'component',
  ]);
  const appTrigger = top.optionalTable('trigger');
  if (appTrigger === undefined) {
    throw top.error('trigger', 'is missing: write { type = "http" } or another type');
  }
  const triggerType = appTrigger.string('type');
  const components: ManifestComponent[] = [];
  const triggers: ManifestTrigger[] = [];
  const seen = new Set<string>();
  for (const table of top.tables('component')) {
    const id = table.string('id').replaceAll('_', '-').toLowerCase();
    if (!isKebabId(id)) {
      throw table.error(
        'id',
        `becomes ${quoted(id)}, which is not words of letters and digits joined by "-"`,
      );
    }
    if (seen.has(id))
      throw table.error('id', `becomes ${quoted(id)}, which is also the id of another component`);
    seen.add(id);
    components.push(parseComponentV1(table, id));
    const trigger = table.optionalTable('trigger');
    if (trigger === undefined) throw table.error('trigger', 'is missing: say when the component runs');
    triggers.push({
      trigger: {
        id: `trigger-${id}`,
        triggerType,
        config: triggerConfig(trigger, [], { component: id }),
        dependencies: Object.create(null),
      },
      table: trigger,
    });
  }
  const description = top.optionalString('description');
  return assembleManifest({
    metadata: {
      name: top.string('name'),
      version: top.optionalString('version') ?? '',
      ...(description !== undefined && { description }),
      authors: top.strings('authors'),
      triggers: [[triggerType, triggerConfig(appTrigger, ['type'], Object.create(null))]],
    },
    variables: parseManifestVariables(top),
    triggers,
    components,
  });
}
