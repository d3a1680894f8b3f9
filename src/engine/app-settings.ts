import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type AllowedHosts, parseAllowedHosts, renderAllowedHosts } from '../app/allowed-hosts.ts';
import { BlockedNetworks } from '../app/allowed-hosts-blocked.ts';
import { readRuntimeConfig, unsupportedSections } from '../app/runtime-config.ts';
import type { KeyValueStoreConfig, RuntimeConfig } from '../app/runtime-config-types.ts';
import { parseTemplate, templateVariables } from '../app/template.ts';
import type { App, Component } from '../app/types.ts';
import { resolveVariables, type VariableResolver } from '../app/variables.ts';
import { variableProviders } from '../app/variables-provider.ts';
import { ShimError } from '../error.ts';
import type { EngineClaim } from './messages.ts';

/** Name of Spin's default key-value database below the state directory. */
export const defaultKeyValueFile = 'sqlite_key_value.db';

/** Where a container has its runtime configuration; relative paths in it start from its root. */
const containerConfigPath = '/runtime-config.toml';

/** Trigger types that this version runs. */
const supportedTriggers = new Set(['http']);

/** An app with everything its surroundings decide: variables, allowed hosts, stores. */
export type AppSettings = {
  readonly app: App;
  readonly variables: VariableResolver;
  readonly keyValueStores: ReadonlyMap<string, KeyValueStoreConfig>;
  readonly blockedNetworks: BlockedNetworks;
  /** Whether connections of outbound HTTP are kept for later requests. */
  readonly poolOutboundHttp: boolean;
  /** The present allow list of a component; templates are rendered anew at each call. */
  allowedHosts(component: Component): Promise<AllowedHosts>;
};

/**
 * Puts app, container environment and runtime configuration together and checks all that can be checked before the
 * first request. Throws with the one reason why the app cannot start: a trigger this version lacks, a variable without
 * a value, a store defined nowhere, a configuration section it lacks.
 */
export async function resolveSettings(claim: EngineClaim): Promise<AppSettings> {
  const { app } = claim.prepared;
  checkTriggers(app);
  const config = readConfig(claim);
  checkSections(config);
  const variableNames = app.variables.map(({ name }) => name);
  const providers = await variableProviders(variableNames, config, {
    overrides: new Map(claim.variables ?? []),
    environment: new Map(claim.environment),
    readDotenv: (path) => readDotenv(claim.workingDir, path),
  });
  const variables = await resolveVariables(app, providers);
  const componentIds = app.components.map(({ id }) => id);
  const allowedHosts = async (component: Component): Promise<AllowedHosts> => {
    const names = component.allowedOutboundHosts.flatMap((entry) => templateVariables(parseTemplate(entry)));
    const values = await variables.values(names);
    return parseAllowedHosts(
      renderAllowedHosts(component.allowedOutboundHosts, (name) => values.get(name) ?? ''),
      componentIds,
    );
  };
  for (const component of app.components) await allowedHosts(component);
  return {
    app,
    variables,
    keyValueStores: keyValueStores(app, config, claim),
    poolOutboundHttp: config?.outboundHttp.connectionPooling ?? true,
    blockedNetworks: BlockedNetworks.parse(config?.outboundNetworking.blockNetworks ?? []),
    allowedHosts,
  };
}

function readConfig(claim: EngineClaim): RuntimeConfig | undefined {
  if (claim.runtimeConfig === undefined) return undefined;
  const where = claim.workingDir === undefined ? containerConfigPath : claim.runtimeConfig;
  return readRuntimeConfig(claim.runtimeConfig, where);
}

function checkTriggers(app: App): void {
  for (const trigger of app.triggers) {
    if (trigger.type === 'other' && !supportedTriggers.has(trigger.triggerType)) {
      throw new ShimError(
        'unsupported',
        `trigger "${trigger.id}" is of type "${trigger.triggerType}", which this version does not run: only "http" is supported; leave it out with SPIN_COMPONENTS_TO_RETAIN or remove it`,
      );
    }
    if (trigger.type === 'http' && trigger.target.kind === 'component' && trigger.executor.type === 'wagi') {
      throw new ShimError(
        'unsupported',
        `trigger "${trigger.id}" uses the wagi executor, which this version does not run: build the component for wasi:http`,
      );
    }
  }
  if (app.triggers.length === 0) {
    throw new ShimError(
      'invalid-manifest',
      `app "${app.name}" has no trigger: add [[trigger.http]] to its manifest`,
    );
  }
}

function checkSections(config: RuntimeConfig | undefined): void {
  if (config === undefined) return;
  const [section] = [
    ...unsupportedSections(config),
    ...(config.clientTls.length > 0 ? ['client_tls'] : []),
    ...(config.outboundHttp.maxConnections === undefined ? [] : ['outbound_http.max_connections']),
  ];
  if (section === undefined) return;
  throw new ShimError(
    'unsupported',
    `"${config.where}" has ${section}, which this version does not support: remove it`,
  );
}

/** Every store some component may open; `default` needs no definition, another label without one stops the start. */
function keyValueStores(
  app: App,
  config: RuntimeConfig | undefined,
  claim: EngineClaim,
): ReadonlyMap<string, KeyValueStoreConfig> {
  const defined = new Map<string, KeyValueStoreConfig>([
    ['default', { type: 'spin', path: join(claim.stateDir, defaultKeyValueFile) }],
  ]);
  for (const [label, store] of config?.keyValueStores ?? []) {
    const confined = store.type === 'spin' && store.path !== undefined && claim.workingDir === undefined;
    defined.set(label, confined ? { type: 'spin', path: confine(claim, store.path) } : store);
  }
  for (const component of app.components) {
    const missing = component.keyValueStores.find((label) => !defined.has(label));
    if (missing !== undefined) {
      throw new ShimError(
        'invalid-manifest',
        `component "${component.id}" uses the key-value store "${missing}", which is defined nowhere: add [key_value_store.${missing}] to the runtime configuration`,
      );
    }
  }
  return defined;
}

/**
 * A container's own path as one of the node: on the volume that the pod has mounted there, else below its state directory. No
 * path that a container names is opened on the node as it stands. `path` is absolute and normal.
 */
function confine({ stateDir, volumes = [] }: EngineClaim, path: string): string {
  const [nearest] = volumes
    .filter(({ destination }) => path.startsWith(`${destination}/`))
    .toSorted((left, right) => right.destination.length - left.destination.length);
  if (nearest === undefined) return join(stateDir, 'files', path);
  if (nearest.writable) return join(nearest.source, path.slice(nearest.destination.length));
  throw new ShimError(
    'invalid-argument',
    `"${containerConfigPath}" puts a store at "${path}", on a volume that the pod mounts read-only: drop "readOnly" of the mount`,
  );
}

/** Reads a dotenv file of the command line's working directory; a container has none that is ours to open. */
function readDotenv(workingDir: string | undefined, path: string): ReadonlyMap<string, string> {
  if (workingDir === undefined) return new Map();
  let text: string;
  try {
    text = readFileSync(resolve(workingDir, path), 'utf8');
  } catch {
    return new Map();
  }
  const entries = text.split('\n').flatMap((line): [string, string][] => {
    const equals = line.indexOf('=');
    const name = line.slice(0, equals).trim();
    if (equals < 1 || name.startsWith('#')) return [];
    return [
      [
        name,
        line
          .slice(equals + 1)
          .trim()
          .replace(/^(["'])(.*)\1$/, '$2'),
      ],
    ];
  });
  return new Map(entries);
}
