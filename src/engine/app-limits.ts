import { ShimError } from '../error.ts';

/** What the requests of one app may take, all its workers together; docs/limits.md has them with the others. */
export type AppLimits = {
  /** From a request's arrival to the end of its guest, milliseconds; 0 = no limit. */
  readonly requestTimeoutMs: number;
  /** How long a guest may compute without waiting for anything, milliseconds; 0 = no limit. */
  readonly busyTimeoutMs: number;
  /** Instances alive at once. */
  readonly maxInstances: number;
  /** Requests that wait for an instance at once. */
  readonly maxWaiting: number;
  /** How long a request waits for an instance, milliseconds; 0 = no limit of its own. */
  readonly queueTimeoutMs: number;
  /** Worker threads; undefined = by the container's CPU quota. */
  readonly workers: number | undefined;
  /** What requests in flight get after SIGTERM, milliseconds; 0 = until the container is killed. */
  readonly drainTimeoutMs: number;
};

/** A limit as a container's environment sets it. */
type Setting = {
  readonly name: string;
  readonly unit: 'duration' | 'count';
  readonly least: number;
  readonly most: number;
  readonly default: number | undefined;
};

/** The longest that one timer of Node takes, milliseconds: 24 days. */
const longestMs = 2 ** 31 - 1;

/**
 * The variables that set limits. 300 s for a request is what Knative and Cloud Run give one; Spin itself has no limit.
 * 1,000 instances are Spin's own.
 */
export const limitSettings = {
  requestTimeoutMs: {
    name: 'SPIN_REQUEST_TIMEOUT',
    unit: 'duration',
    least: 0,
    most: longestMs,
    default: 300_000,
  },
  busyTimeoutMs: { name: 'SPIN_BUSY_TIMEOUT', unit: 'duration', least: 0, most: longestMs, default: 30_000 },
  maxInstances: {
    name: 'SPIN_MAX_INSTANCE_COUNT',
    unit: 'count',
    least: 1,
    most: Number.MAX_SAFE_INTEGER,
    default: 1_000,
  },
  maxWaiting: {
    name: 'SPIN_MAX_WAITING_REQUESTS',
    unit: 'count',
    least: 0,
    most: 1_000_000,
    default: 1_000,
  },
  queueTimeoutMs: {
    name: 'SPIN_QUEUE_TIMEOUT',
    unit: 'duration',
    least: 0,
    most: longestMs,
    default: 10_000,
  },
  workers: { name: 'SPIN_WORKERS', unit: 'count', least: 1, most: 64, default: undefined },
  drainTimeoutMs: { name: 'SPIN_DRAIN_TIMEOUT', unit: 'duration', least: 0, most: longestMs, default: 0 },
} as const satisfies Record<keyof AppLimits, Setting>;

/** The limits without any setting. */
export const defaultAppLimits: AppLimits = readAppLimits([]);

/**
 * The limits that a container's environment sets. Throws `invalid-argument` naming a variable whose value is not what it
 * takes: a limit that somebody meant to set must not be passed over in silence.
 */
export function readAppLimits(environment: readonly (readonly [string, string])[]): AppLimits {
  const values = new Map(environment);
  const read = (setting: Setting): number | undefined => {
    const text = values.get(setting.name);
    return text === undefined ? setting.default : parseSetting(setting, text);
  };
  const required = (setting: Setting & { readonly default: number }): number =>
    read(setting) ?? setting.default;
  return {
    requestTimeoutMs: required(limitSettings.requestTimeoutMs),
    busyTimeoutMs: required(limitSettings.busyTimeoutMs),
    maxInstances: required(limitSettings.maxInstances),
    maxWaiting: required(limitSettings.maxWaiting),
    queueTimeoutMs: required(limitSettings.queueTimeoutMs),
    workers: read(limitSettings.workers),
    drainTimeoutMs: required(limitSettings.drainTimeoutMs),
  };
}

const unitMs: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

function parseSetting({ name, unit, least, most }: Setting, text: string): number {
  const [, digits = '', suffix = ''] = /^(\d{1,16})([a-z]{0,2})$/.exec(text) ?? [];
  const bare = unit === 'count' || digits === '0' ? 1 : undefined;
  const factor = suffix === '' ? bare : unit === 'duration' ? unitMs.get(suffix) : undefined;
  const value = digits === '' || factor === undefined ? Number.NaN : Number(digits) * factor;
  if (value >= least && value <= most) return value;
  const expected =
    unit === 'count'
      ? `a whole number from ${least} to ${most}`
      : `a whole number with ms, s, m or h, at most ${Math.floor(most / 86_400_000)} days, or 0 for no limit`;
  throw new ShimError('invalid-argument', `${name} is "${text}", expected ${expected}`);
}

/** A duration as somebody would write it in a setting. */
export function formatDuration(milliseconds: number): string {
  return milliseconds % 1_000 === 0 ? `${milliseconds / 1_000} s` : `${milliseconds} ms`;
}
