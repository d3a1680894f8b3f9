import { ShimError } from '../error.ts';
import type { RuntimeConfig } from './runtime-config-types.ts';

/** Someone who may know the value of an application variable. It is asked at every use and does its own caching. */
export type VariableProvider = {
  /** For messages: `static`, `env`, … */
  readonly kind: string;
  /** The value, or undefined to let the next provider answer. A failure rejects; its message holds no secret. */
  get(name: string): string | undefined | Promise<string | undefined>;
};

/** What providers are made from; nothing is read from the process itself. */
export type VariableSources = {
  /** Values with the highest priority. */
  readonly overrides?: ReadonlyMap<string, string>;
  /** The container's environment. */
  readonly environment: ReadonlyMap<string, string>;
  /** Reads a dotenv file; a missing file is an empty map. */
  readonly readDotenv: (path: string) => ReadonlyMap<string, string>;
};

/** Prefix of environment variables that carry application variables. */
export const defaultEnvPrefix = 'SPIN_VARIABLE';

/** Dotenv file that is looked at when none is named, in the working directory. */
export const defaultDotenvPath = '.env';

/** A provider over fixed values. */
export function staticProvider(values: ReadonlyMap<string, string>): VariableProvider {
  return { kind: 'static', get: (name) => values.get(name) };
}

/** A provider over `<prefix>_<NAME>` in an environment, then in a dotenv file. */
export function envProvider(
  environment: ReadonlyMap<string, string>,
  dotenv: ReadonlyMap<string, string>,
  prefix: string = defaultEnvPrefix,
): VariableProvider {
  return {
    kind: 'env',
    get: (name) => {
      const key = `${prefix}_${name.toUpperCase()}`;
      return environment.get(key) ?? dotenv.get(key);
    },
  };
}

/**
 * The environment in which every `<NAME>` that is the upper-case name of an application variable also stands as
 * `SPIN_VARIABLE_<NAME>`, and wins over one that is there (spin.md 6.3).
 */
export function withVariableOverrides(
  names: Iterable<string>,
  environment: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const result = new Map(environment);
  for (const name of names) {
    const upper = name.toUpperCase();
    const value = environment.get(upper);
    if (value !== undefined) result.set(`${defaultEnvPrefix}_${upper}`, value);
  }
  return result;
}

/**
 * The providers of an application in the order they are asked (spin.md 4.3): overrides, those of the runtime
 * configuration, the environment. `unsupported` for a vault of any kind.
 */
export async function variableProviders(
  names: Iterable<string>,
  config: RuntimeConfig | undefined,
  sources: VariableSources,
): Promise<readonly VariableProvider[]> {
  const environment = withVariableOverrides(names, sources.environment);
  const providers: VariableProvider[] = [];
  if (sources.overrides !== undefined) providers.push(staticProvider(sources.overrides));
  for (const provider of config?.variablesProviders ?? []) {
    switch (provider.type) {
      case 'env': {
        const dotenv = sources.readDotenv(provider.dotenvPath ?? defaultDotenvPath);
        providers.push(envProvider(environment, dotenv, provider.prefix));
        break;
      }
      case 'static':
        providers.push(staticProvider(new Map(provider.values)));
        break;
      case 'vault':
      case 'azure_key_vault':
        throw new ShimError(
          'unsupported',
          `variables provider "${provider.type}" of ${config?.where ?? 'the runtime config'} is not supported by this version; use "env" or "static"`,
        );
      default:
        provider satisfies never;
    }
  }
  providers.push(envProvider(environment, sources.readDotenv(defaultDotenvPath)));
  return providers;
}
