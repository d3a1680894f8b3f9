/** Longest delay a Node timer takes, milliseconds; a longer one would fire at once. */
const maxTimerMs = 2 ** 31 - 1;

/** Calls `onPassed` once after `delayMs` milliseconds, however many; the function given back calls it off. */
export function startDeadline(delayMs: number, onPassed: () => void): () => void {
  let remainingMs = delayMs;
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    const stepMs = Math.min(remainingMs, maxTimerMs);
    remainingMs -= stepMs;
    timer = setTimeout(remainingMs > 0 ? arm : onPassed, stepMs);
  };
  arm();
  return () => clearTimeout(timer);
}
