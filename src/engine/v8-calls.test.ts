import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

test('code from strings is refused in every form, in the thread that asked for it', () => {
  const code = `
    import { Worker, isMainThread } from 'node:worker_threads';
    import { refuseCodeFromStrings } from ${JSON.stringify(join(import.meta.dirname, 'v8-calls.ts'))};
    const ways = {
      eval: () => (0, eval)('1'),
      direct: () => eval('1'),
      Function: () => new Function('return 1')(),
      named: () => ({})['constructor']['constructor']('return 1')(),
      async: () => (async () => {}).constructor('return 1'),
      generator: () => (function* () {}).constructor('yield 1'),
    };
    const outcome = () => Object.values(ways).map((way) => { try { way(); return 'made'; } catch (error) { return error.name; } }).join();
    console.log(outcome());
    refuseCodeFromStrings();
    console.log(outcome());
    console.log(WebAssembly.validate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)));
  `;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--no-warnings', '--input-type=module', '--eval', code],
    { encoding: 'utf8' },
  );
  const [made, refused] = [Array(6).fill('made').join(), Array(6).fill('EvalError').join()];
  assert.deepEqual(stdout.trim().split('\n'), [made, refused, 'true'], stderr);
});
