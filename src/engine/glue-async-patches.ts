import { ShimError } from '../error.ts';

/**
 * What has to be changed in jco's scheduler for components with the async ABI (WASI 0.3). As it comes it looks every
 * 10 ms whether a waiting guest may go on, polls by interval for what the host reads and writes, keeps doing so for ever
 * when a request is abandoned, and tells nobody of a guest that fails after it has returned. `GlueControl` is the other
 * end of what is put in.
 */

/** What the engine and the glue of one instance tell each other. */
export type GlueControl = {
  /** Whether the host does something for the guest that will end by itself, so that a guest that waits is not stuck. */
  isBusy(): boolean;
  /** A task the host called goes on after its first suspension; `exited` or `failed` follows. */
  started(): void;
  exited(): void;
  failed(error: unknown): void;
  /** Set by the glue: ends every wait of the instance; its guest runs no more. */
  end?: (reason: Error) => void;
};

/** A slow look round, milliseconds, for a change that no event announces. */
const idleLookMs = 1_000;

/**
 * Put at the top of `instantiate`. Whoever waited goes on in a turn of the event loop of its own, as with jco's timers:
 * between a slice of the guest and its end there may be microtasks, in which the glue still has that task for the current.
 */
const runtime = `
  const _waiting = new Set();
  let _ended = null;
  const _wake = () => { for (const look of [..._waiting]) look(); };
  const _pendingEvent = (end) => new Promise((resolve, reject) => {
    const look = () => {
      if (_ended === null && !end.hasPendingEvent()) { return; }
      _waiting.delete(look);
      setImmediate(() => { if (_ended === null) { resolve(); } else { reject(_ended); } });
    };
    _waiting.add(look);
    look();
  });
  const _pause = (delay) => new Promise((resolve) => {
    if (delay === 0) { setImmediate(resolve); return; }
    const look = () => { _waiting.delete(look); clearTimeout(timer); setImmediate(resolve); };
    const timer = setTimeout(look, ${idleLookMs});
    timer.unref();
    _waiting.add(look);
  });
  control.end = (reason) => {
    if (_ended !== null) { return; }
    _ended = reason;
    for (const state of ASYNC_STATE.values()) {
      for (const { task } of [...state.suspendedTaskMetas()]) {
        if (!task.isResolvedState()) { task.setErrored(reason); task.reject(reason); }
      }
    }
    _wake();
  };
`;

/** `part` is text of the piece of glue that is patched; jco leaves out pieces that a component has no use for. */
type Patch = { readonly what: string; readonly part?: string; readonly place: RegExp; readonly by: string };

const patches: readonly Patch[] = [
  {
    what: 'instantiate',
    place: /(export function instantiate\(getCoreModule, imports, instantiateCore = [\w.]+)\) \{/,
    by: `$1, control = {}) {${runtime}`,
  },
  {
    what: 'polling for what the host reads and writes',
    part: 'let waitInterval',
    place:
      /await new Promise\(\(resolve\) => \{\s*let waitInterval = setInterval\((?:async )?\(\) => \{\s*if \(!this\.hasPendingEvent\(\)\) \{ return; \}\s*clearInterval\(waitInterval\);\s*resolve\(\);\s*\}\);\s*\}\);/g,
    by: 'await _pendingEvent(this);',
  },
  {
    what: 'bytes a guest writes, which become an array of numbers',
    part: "this.#elemMeta.payloadTypeName === 'U8'",
    place: /values = Array\.from\((new Uint8Array\(this\.#memory\.buffer, this\.#ptr, count\))\);/,
    by: 'values = $1.slice();',
  },
  {
    what: 'bytes that are taken as an array of numbers',
    part: "this.#elemMeta.payloadTypeName === 'U8'",
    place: /if \(!Array\.isArray\(values\)\) \{(?= throw new TypeError\('values input to write)/,
    by: 'if (!Array.isArray(values) && !(values instanceof Uint8Array)) {',
  },
  {
    what: 'bytes that are joined as arrays of numbers',
    part: "this.#elemMeta.payloadTypeName === 'U8'",
    place: /this\.#hostOnlyData = this\.#hostOnlyData\.concat\(values\);/,
    by: 'this.#hostOnlyData = this.#hostOnlyData.length === 0 ? values : [...this.#hostOnlyData, ...values];',
  },
  {
    what: 'bytes for a guest, which are moved one by one',
    part: 'class PendingValueQueue',
    place: /drainInto\(target, maxCount\) \{/,
    by: `takeBytes(maxCount) {
      const chunk = this.#chunks[0];
      if (!(chunk instanceof Uint8Array)) { return undefined; }
      const bytes = chunk.subarray(this.#offset, this.#offset + maxCount);
      this.#offset += bytes.length;
      this.#length -= bytes.length;
      if (this.#offset === chunk.length) { this.#chunks.shift(); this.#offset = 0; }
      return bytes;
    }
    drainInto(target, maxCount) {`,
  },
  {
    what: 'the taking of bytes for a guest',
    part: 'class PendingValueQueue',
    place:
      /const values = \[\];(\s*const hasPendingReadBuffer = [\s\S]{0,300}?const drainPendingValues = \(\) => \{)\s*count -= pendingValues\.drainInto\(values, count\);/,
    by: `let values = [];$1
      const bytes = values.length === 0 ? pendingValues.takeBytes(count) : undefined;
      if (bytes !== undefined) { values = bytes; count -= bytes.length; return; }
      if (values instanceof Uint8Array) { values = Array.from(values); }
      count -= pendingValues.drainInto(values, count);`,
  },
  {
    what: 'the writing of bytes for a guest',
    part: 'async writeMany(',
    place: /if \(!Array\.isArray\(values\)\) \{(?= throw new TypeError\("writeMany)/,
    by: 'if (!Array.isArray(values) && !(values instanceof Uint8Array)) {',
  },
  {
    what: 'the buffer of bytes for a guest',
    part: 'async writeMany(',
    place: /if \(args\.data !== undefined && !Array\.isArray\(args\.data\)\) \{/,
    by: 'if (args.data !== undefined && !Array.isArray(args.data) && !(args.data instanceof Uint8Array)) {',
  },
  {
    what: 'the events of a waitable',
    place: /this\.#pendingEventFn = fn;/,
    by: 'this.#pendingEventFn = fn; _wake();',
  },
  {
    what: 'a scheduler that runs already',
    place: /if \(this\.#tickLoop !== null\) \{ return; \}/,
    by: 'if (this.#tickLoop !== null) { _wake(); return; }',
  },
  {
    what: 'the start of the scheduler',
    place:
      /setTimeout\(async \(\) => \{(\s*let result = this\.tick\(\);[\s\S]{0,1500}?)await new Promise\(\(resolve\) => setTimeout\(resolve, delay\)\);([\s\S]{0,200}?this\.#tickLoop = null;\s*)\}, 10\);/,
    by: 'setImmediate(async () => {$1await _pause(delay);$2});',
  },
  {
    what: 'a task that is resumed by the scheduler',
    place: /if \(meta\.task\.isRejected\(\)\) \{/,
    by: 'if (_ended !== null || meta.task.isRejected()) {',
  },
  {
    what: 'a task whose turn it is',
    place: /if \(task\.isRejected\(\)\) \{(?=[\s\S]{0,120}\[_driverLoop\(\)\] detected task rejection)/,
    by: 'if (_ended !== null || task.isRejected()) {',
  },
  {
    what: 'the check for a deadlock',
    place: /STORE_ASYNC_STATE\.pendingHostOperations > 0\) \{ return; \}/,
    by: 'STORE_ASYNC_STATE.pendingHostOperations > 0 || _ended !== null || control.isBusy?.()) { return; }',
  },
  {
    what: 'the failure of a task',
    place: /const handleError = \(err\) => \{/,
    by: 'const handleError = (err) => { if (!task.getParentSubtask()) { control.failed?.(err); }',
  },
  {
    what: 'the end of a task',
    place: /case 0: \/\/ EXIT/,
    by: 'case 0: if (!task.getParentSubtask()) { control.exited?.(); }',
  },
  {
    what: 'the start of a task',
    place: /(componentInstanceIdx: \d+,\s*taskID: task\.id\(\),\s*\}\);\s*)(await _driverLoop\(\{)/g,
    by: '$1control.started?.(); $2',
  },
];

/**
 * Patches glue that drives async functions by their callback; other glue is left as it is. Throws `internal` when a place is not found, so that
 * a new jco cannot undo a patch unseen.
 */
export function patchAsyncGlue(glue: string, where: string): string {
  if (!glue.includes('await _driverLoop({')) return glue;
  let patched = glue;
  for (const { what, part, place, by } of patches) {
    if (part !== undefined && !patched.includes(part)) continue;
    const next = patched.replace(place, by);
    if (next === patched) {
      throw new ShimError(
        'internal',
        `the transpiler's output for ${where} is not of the version this installation knows (${what}): reinstall it whole`,
      );
    }
    patched = next;
  }
  return patched;
}

/**
 * The glue's debug lines: their arguments are computed for each call although nobody reads them, a third of all CPU
 * (reference/engine.md section 2).
 */
export function dropDebugLines(glue: string): string {
  return glue.replace(/^(\s*)_debugLog\(/gm, '$1false && _debugLog(');
}
