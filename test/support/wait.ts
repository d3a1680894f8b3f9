/** How long and how often a condition is asked. */
export type WaitOptions = {
  /** Give up after this many milliseconds. Default 30 000: a busy machine may stand still for some seconds. */
  readonly timeoutMs?: number;
  /** Pause between two questions in milliseconds. Default 20. */
  readonly intervalMs?: number;
  /** Text added to the failure, for example the tail of a log. */
  readonly explain?: () => string;
};

/** Factor for every wait: a machine that is emulated in software is slow (`SPINSHIM_TIME_SCALE`, 1 elsewhere). */
export const timeScale = Number(process.env.SPINSHIM_TIME_SCALE ?? 1);

/** Time for a file of end-to-end tests, milliseconds. */
export const suiteTimeoutMs = 180_000 * timeScale;

/**
 * Asks `condition` until it gives something other than `undefined` or `false`, and returns that. A throwing condition
 * counts as not yet fulfilled. Fails with the description, the time and the last error.
 */
export async function waitFor<T>(
  description: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 30_000, intervalMs = 20, explain }: WaitOptions = {},
): Promise<T> {
  const limitMs = timeoutMs * timeScale;
  const end = performance.now() + limitMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== false) return value;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() >= end) break;
    await pause(intervalMs);
  }
  const reason = lastError === undefined ? '' : `; last error: ${String(lastError)}`;
  const more = explain === undefined ? '' : `\n${explain()}`;
  throw new Error(`waited ${limitMs} ms in vain for ${description}${reason}${more}`, { cause: lastError });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
