import { parseTemplate, templateVariables } from '../app/template.ts';
import type { App, Component } from '../app/types.ts';
import { type AppSettings, resolveSettings } from '../engine/app-settings.ts';
import { grantOf, openSharedServices, type SharedServices } from '../engine/component-grant.ts';
import { parseListenAddress } from '../engine/listen-address.ts';
import type { EngineClaim } from '../engine/messages.ts';
import { OutputSink } from '../engine/output-sink.ts';
import type { ComponentGrant } from '../host/imports.ts';
import { CommandFailure } from './command.ts';

/** What is shown in place of a secret. */
export const hiddenValue = '(secret)';

/** One component with what it may do. */
export type GrantedComponent = { readonly component: Component; readonly grant: ComponentGrant };

/**
 * The app as the shell sees it: with the grants that its components have and nothing else. Grants are spelled out when a
 * command first needs them, once for the shell's thread.
 */
export class AppAccess {
  readonly #claim: EngineClaim;
  readonly #address: string;
  #settings: Promise<AppSettings> | undefined;
  #services: Promise<SharedServices> | undefined;
  readonly #grants = new Map<string, Promise<ComponentGrant>>();

  /** `address`: where the app listens, `host:port`. */
  constructor(claim: EngineClaim, address: string) {
    this.#claim = claim;
    this.#address = address;
  }

  get app(): App {
    return this.#claim.prepared.app;
  }

  get secretNames(): ReadonlySet<string> {
    return new Set(this.app.variables.flatMap(({ name, secret }) => (secret ? [name] : [])));
  }

  /** One component by its id, or all of them. Throws a usage failure that names those there are. */
  components(id?: string): readonly Component[] {
    const { components } = this.app;
    if (id === undefined) return components;
    const component = components.find((one) => one.id === id);
    if (component !== undefined) return [component];
    const ids = components.map((one) => `"${one.id}"`).join(', ');
    throw CommandFailure.usage(`component "${id}" is not there; the app has ${ids}`);
  }

  /** The same with their grants. */
  granted(id?: string): Promise<readonly GrantedComponent[]> {
    return Promise.all(
      this.components(id).map(async (component) => ({ component, grant: await this.#grant(component) })),
    );
  }

  settings(): Promise<AppSettings> {
    this.#settings ??= resolveSettings(this.#claim);
    return this.#settings;
  }

  /**
   * An environment with the values hidden that a secret variable is set by: `SPIN_VARIABLE_NAME`, the same with another
   * prefix, and `NAME` alone (spin.md 4.3, 6.3).
   */
  withoutSecrets(environment: Iterable<readonly [name: string, value: string]>): Map<string, string> {
    const secret = [...this.secretNames].map((name) => name.toUpperCase());
    const isSecret = (name: string): boolean =>
      secret.some((end) => name.toUpperCase() === end || name.toUpperCase().endsWith(`_${end}`));
    return new Map([...environment].map(([name, value]) => [name, isSecret(name) ? hiddenValue : value]));
  }

  /** Whether a template's value has a secret in it. */
  isSecret(template: string): boolean {
    const secret = this.secretNames;
    return templateVariables(parseTemplate(template)).some((name) => secret.has(name));
  }

  #grant(component: Component): Promise<ComponentGrant> {
    const known = this.#grants.get(component.id);
    if (known !== undefined) return known;
    const made = this.#makeGrant(component);
    this.#grants.set(component.id, made);
    // What failed once may work later.
    made.catch(() => this.#grants.delete(component.id));
    return made;
  }

  async #makeGrant(component: Component): Promise<ComponentGrant> {
    const settings = await this.settings();
    this.#services ??= this.#openServices(settings);
    return grantOf(component, this.#claim, settings, await this.#services);
  }

  async #openServices(settings: AppSettings): Promise<SharedServices> {
    const nowhere = new OutputSink(undefined);
    const services = await openSharedServices(this.#claim, settings, { stdout: nowhere, stderr: nowhere });
    const { host, port } = parseListenAddress(this.#address, 'the listen address');
    services.selfAddress = { scheme: 'http', host: loopbackOf(host), port };
    return services;
  }
}

/** The address by which a listener on `host` is reached from its own network namespace. */
export function loopbackOf(host: string): string {
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host;
}
