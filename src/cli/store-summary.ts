import { join } from 'node:path';
import type { RuntimeConfig } from '../app/runtime-config-types.ts';
import type { App } from '../app/types.ts';
import { defaultKeyValueFile } from '../engine/app-settings.ts';

/** Where state goes. */
export type StateFolder = {
  /** Absolute. */
  readonly path: string;
  /** Whether it is gone when the app ends. */
  readonly temporary: boolean;
};

/** What Spin says about configuration and stores before an app serves (reference/spin.md 5.2). */
export function storeSummary(
  app: App,
  config: RuntimeConfig | undefined,
  state: StateFolder,
): readonly string[] {
  const lines: string[] = [];
  const stores = config?.keyValueStores ?? [];
  const used = [
    ...stores.map(([label, { type }]) => `[key_value_store.${label}: ${type}]`),
    ...(config?.sqliteDatabases ?? []).map(([label, { type }]) => `[sqlite_database.${label}: ${type}]`),
    ...(config?.variablesProviders ?? []).map(({ type }) => `[variables_provider: ${type}]`),
  ];
  if (config !== undefined && used.length > 0)
    lines.push(`Using runtime config ${used.join(', ')} from "${config.where}"`);
  const usesDefault = app.components.some(({ keyValueStores }) => keyValueStores.includes('default'));
  if (usesDefault && !stores.some(([label]) => label === 'default')) {
    lines.push(
      state.temporary
        ? 'Storing default key-value data until the app ends; keep it with --state-dir.'
        : `Storing default key-value data to "${join(state.path, defaultKeyValueFile)}".`,
    );
  }
  return lines;
}
