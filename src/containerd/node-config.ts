import { readFileSync } from 'node:fs';
import { parseToml } from '../app/manifest-toml.ts';
import { ShimError } from '../error.ts';
import { type LogLevel, parseLogLevel } from '../telemetry/log.ts';
import { defaultWarmEngines, maxWarmEngines } from '../workload/engine-pool.ts';
import { defaultIdleSeconds } from './host-idle.ts';

/** Settings of a host: the node's file, and over it the environment that containerd gives its shims. */
export type NodeConfig = {
  /** `log_level`, `SPINSHIM_LOG_LEVEL`; undefined = `info`, or `debug` when containerd itself debugs. */
  readonly logLevel?: LogLevel;
  /** `warm_engines`, `SPINSHIM_WARM_ENGINES`: engines kept booted, 0 to 64, default 1. */
  readonly warmEngines: number;
  /** `host_idle_seconds`, `SPINSHIM_HOST_IDLE_SECONDS`: how long a host without tasks stays, default 600. */
  readonly hostIdleSeconds: number;
  /** `state_dir`, `SPINSHIM_STATE_DIR`: blobs, prepared apps, components; default `/var/lib/spinshim`. */
  readonly stateDir: string;
  /** `max_cache_bytes`, `SPINSHIM_MAX_CACHE_BYTES`: what prepared components may take in it; undefined = 2 GiB. */
  readonly maxCacheBytes?: number;
  /** `learn_code`, `SPINSHIM_LEARN_CODE` (true or false): whether compiled code of components is kept; default true. */
  readonly learnCode: boolean;
};

/** Where the node's file lies when `SPINSHIM_CONFIG` names no other. */
export const defaultConfigPath = '/etc/spinshim/config.toml';

const maxIdleSeconds = 1_000_000;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The settings of a node from the text of its file (undefined when there is none) and the environment. Unknown keys
 * are errors that name the nearest known one; so are values out of bounds. Throws `invalid-argument`.
 */
export function parseNodeConfig(
  text: string | undefined,
  where: string,
  environment: Environment,
): NodeConfig {
  const table = parseToml(text ?? '', { where, code: 'invalid-argument' });
  table.rejectUnknown([
    'log_level',
    'warm_engines',
    'host_idle_seconds',
    'state_dir',
    'max_cache_bytes',
    'learn_code',
  ]);
  const level = setting(environment, 'SPINSHIM_LOG_LEVEL') ?? table.optionalString('log_level');
  const logLevel = parseLogLevel(level);
  if (level !== undefined && logLevel === undefined) {
    throw new ShimError(
      'invalid-argument',
      `the log level is "${level}": give trace, debug, info, warn, error or fatal`,
    );
  }
  const maxCacheBytes =
    numberIn(environment, 'SPINSHIM_MAX_CACHE_BYTES', Number.MAX_SAFE_INTEGER) ??
    table.optionalInteger('max_cache_bytes', 0, Number.MAX_SAFE_INTEGER);
  return {
    learnCode: booleanIn(environment, 'SPINSHIM_LEARN_CODE') ?? table.optionalBoolean('learn_code') ?? true,
    ...(logLevel === undefined ? {} : { logLevel }),
    ...(maxCacheBytes === undefined ? {} : { maxCacheBytes }),
    warmEngines:
      numberIn(environment, 'SPINSHIM_WARM_ENGINES', maxWarmEngines) ??
      table.optionalInteger('warm_engines', 0, maxWarmEngines) ??
      defaultWarmEngines,
    hostIdleSeconds:
      numberIn(environment, 'SPINSHIM_HOST_IDLE_SECONDS', maxIdleSeconds) ??
      table.optionalInteger('host_idle_seconds', 0, maxIdleSeconds) ??
      defaultIdleSeconds,
    stateDir:
      setting(environment, 'SPINSHIM_STATE_DIR') ?? table.optionalString('state_dir') ?? '/var/lib/spinshim',
  };
}

/** Reads the node's file, if there is one, and the environment. Throws `invalid-argument`. */
export function readNodeConfig(environment: Environment): NodeConfig {
  const path = setting(environment, 'SPINSHIM_CONFIG') ?? defaultConfigPath;
  return parseNodeConfig(readIfPresent(path), path, environment);
}

function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new ShimError('invalid-argument', `the configuration "${path}" cannot be read: ${String(error)}`, {
      cause: error,
    });
  }
}

function setting(environment: Environment, name: string): string | undefined {
  const value = environment[name];
  return value === '' ? undefined : value;
}

function booleanIn(environment: Environment, name: string): boolean | undefined {
  const value = setting(environment, name);
  if (value === undefined) return undefined;
  if (value === 'true' || value === 'false') return value === 'true';
  throw new ShimError('invalid-argument', `${name} is "${value}": give true or false`);
}

function numberIn(environment: Environment, name: string, most: number): number | undefined {
  const value = setting(environment, name);
  if (value === undefined) return undefined;
  const number = Number(value);
  if (Number.isFinite(number) && number >= 0 && number <= most) return number;
  throw new ShimError('invalid-argument', `${name} is "${value}": give a number from 0 to ${most}`);
}
