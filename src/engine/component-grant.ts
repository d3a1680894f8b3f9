import { readFileSync } from 'node:fs';
import { refusalLines } from '../app/allowed-hosts.ts';
import { type Destination, parseDestination } from '../app/allowed-hosts-url.ts';
import type { Component } from '../app/types.ts';
import type { ComponentGrant } from '../host/imports.ts';
import type { KeyValueStores } from '../host/spin/key-value.ts';
import { openSqliteKeyValue, type SqliteStoreDefinition } from '../host/spin/key-value-sqlite.ts';
import { openPreopens } from '../host/wasi/filesystem-preopens.ts';
import { OutboundClient, type OutboundPolicy } from '../host/wasi/http/outbound.ts';
import { NameResolver, parseResolverConfig } from '../host/wasi/http/resolver.ts';
import type { AppSettings } from './app-settings.ts';
import type { EngineClaim } from './messages.ts';
import type { OutputSink } from './output-sink.ts';

/** What all components of an app share in one worker. */
export type SharedServices = {
  readonly keyValue: KeyValueStores;
  readonly resolver: NameResolver;
  readonly caBundle: string | undefined;
  readonly stdout: OutputSink;
  readonly stderr: OutputSink;
  /** Where the app itself listens, known once it serves. */
  selfAddress: Destination | undefined;
};

/** Opens what the components share: stores, name resolution in the pod's network, certificates. */
export function openSharedServices(
  claim: EngineClaim,
  settings: AppSettings,
  outputs: Pick<SharedServices, 'stdout' | 'stderr'>,
): SharedServices {
  const definitions = new Map<string, SqliteStoreDefinition>();
  for (const [label, config] of settings.keyValueStores) {
    if (config.type !== 'spin') continue;
    definitions.set(
      label,
      config.path === undefined
        ? { kind: 'memory', name: `${claim.id}/${label}` }
        : { kind: 'file', path: config.path },
    );
  }
  const resolvConf = readText(claim.resolvConf ?? '/etc/resolv.conf');
  const hosts = readText(claim.hosts ?? '/etc/hosts');
  return {
    ...outputs,
    keyValue: openSqliteKeyValue(definitions),
    resolver: new NameResolver(parseResolverConfig(resolvConf, hosts)),
    caBundle: claim.caBundle === undefined ? undefined : readText(claim.caBundle),
    selfAddress: undefined,
  };
}

/**
 * A missing file is an empty one: a container without resolv.conf resolves nothing. Read at once: nothing else waits for
 * this thread yet, and the first file that is read otherwise makes libuv's threads, of which each takes its time.
 */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Spells out what one component may do. */
export async function grantOf(
  component: Component,
  claim: EngineClaim,
  settings: AppSettings,
  services: SharedServices,
): Promise<ComponentGrant> {
  const allowed = await settings.allowedHosts(component);
  const policy: OutboundPolicy = {
    parse: parseDestination,
    allows: (destination) => allowed.allows(destination),
    allowsSelf: () => allowed.allowsSelf(),
    namesAddress: (ip) => allowed.namesAddress(ip),
    blocks: (ip) => settings.blockedNetworks.blocks(ip),
    refusal: (destination) => refusalLines(component.id, destination),
    get self() {
      return services.selfAddress;
    },
  };
  return {
    componentId: component.id,
    cli: {
      environment: component.environment,
      args: claim.args,
      stdout: services.stdout,
      stderr: services.stderr,
    },
    filesystem: { preopens: openPreopens(component.files) },
    http: {
      outbound: new OutboundClient({
        policy,
        resolver: services.resolver,
        pooling: settings.poolOutboundHttp,
        ...(services.caBundle === undefined ? {} : { caBundle: services.caBundle }),
      }),
      warn: (line) => services.stderr.line(line),
    },
    variables: settings.variables,
    keyValue: { granted: component.keyValueStores, stores: services.keyValue },
  };
}
