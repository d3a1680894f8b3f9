import type { LockedVariable } from './locked-app.ts';
import { quoted } from './manifest-key.ts';
import type { Table } from './manifest-table.ts';
import { variableNameProblem } from './template.ts';

/** Reads the `[variables]` of a manifest: exactly one of `required = true` and `default` each (spin.md 1.3). */
export function parseManifestVariables(top: Table): readonly LockedVariable[] {
  return top.tableEntries('variables').map(([name, table]) => {
    const problem = variableNameProblem(name);
    if (problem !== undefined) throw table.error(undefined, `is named ${quoted(name)}, which ${problem}`);
    table.rejectUnknown(['description', 'required', 'default', 'secret']);
    const required = table.optionalBoolean('required') ?? false;
    const value = table.optionalString('default');
    if (required === (value !== undefined)) {
      const text = 'must have exactly one of "required = true" and "default"';
      throw table.error(undefined, text);
    }
    const description = table.optionalString('description');
    return {
      name,
      ...(description !== undefined && { description }),
      ...(value !== undefined && { default: value }),
      secret: table.optionalBoolean('secret') ?? false,
    };
  });
}
