import type { LockedApp } from './locked-app.ts';
import { parseToml } from './manifest-toml.ts';
import { parseManifestV1 } from './manifest-v1.ts';
import { parseManifestV2 } from './manifest-v2.ts';

/** Largest manifest (bytes). */
export const maxManifestBytes = 1024 * 1024;

/**
 * Parses a `spin.toml` of either version into a locked application whose sources and file grants still refer to the
 * manifest's folder. `where` names the manifest in errors. Any defect is `invalid-manifest` and names the path of the
 * value in the manifest (spin.md 1.1).
 */
export function parseManifest(text: string, where: string): LockedApp {
  const top = parseToml(text, { where, code: 'invalid-manifest' }, maxManifestBytes);
  const version = top.raw('spin_manifest_version');
  if (version === 2n) return parseManifestV2(top);
  if (version === '1' || (version === undefined && top.raw('spin_version') === '1'))
    return parseManifestV1(top);
  const hint = 'the version of a manifest is "spin_manifest_version = 2"';
  if (version === undefined) throw top.error('spin_manifest_version', `is missing; ${hint}`);
  throw top.error(
    'spin_manifest_version',
    `must be 2, not ${version === '2' ? '"2" in quotes' : String(version)}; ${hint}`,
  );
}
