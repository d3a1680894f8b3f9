import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, Script } from 'node:vm';

/**
 * The code of a thread that a pod may be waiting for, run from one file together with what V8 has made of it: functions that
 * ran when the installation was built need not be compiled again. Node's own cache of compiled code holds none that a
 * module calls later, which is nearly all (a worker's first answer: 44 ms of compiling).
 */
export type Programs = {
  /** Runs the program of a name, once, and gives what it exports. */
  readonly load: (name: string) => unknown;
  /**
   * Writes what V8 has made of the loaded ones by now, where that was not there, which is when an installation is built; and once
   * where V8 did not take it, being another processor's.
   */
  readonly keep: () => void;
};

/** What a program is wrapped in by the build; `require` and `__filename` are its loader's. */
type Body = (require: NodeJS.Require, module: { exports: unknown }, __filename: string) => void;

const key = Symbol.for('spinshim.programs');

/** Those of this thread; undefined in a checkout, which runs its sources. */
export function ownPrograms(): Programs | undefined {
  return (globalThis as { [key]?: Programs })[key];
}

/** The programs of a folder, for this thread: `<name>.js`, and beside it V8's form of it. */
export function installPrograms(folder: string, require: NodeJS.Require, loader: string): Programs {
  const scripts = new Map<string, Script>();
  const loaded = new Map<string, { exports: unknown }>();
  const load = (name: string): unknown => {
    const known = loaded.get(name);
    if (known !== undefined) return known.exports;
    const filename = join(folder, `${name}.js`);
    const cachedData = readCompiled(filename);
    // What is code in it is ASCII, of which this is the quickest form.
    const script = new Script(readFileSync(filename, 'latin1'), {
      filename,
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
      ...(cachedData === undefined ? {} : { cachedData }),
    });
    scripts.set(filename, script);
    const module: { exports: unknown } = { exports: {} };
    loaded.set(name, module);
    (script.runInThisContext() as Body)(require, module, loader);
    return module.exports;
  };
  const keep = (): void => {
    for (const [filename, script] of scripts) {
      if (script.cachedDataRejected !== false) write(filename, script);
      if (script.cachedDataRejected === true) scripts.delete(filename);
    }
  };
  const programs = { load, keep };
  (globalThis as { [key]?: Programs })[key] = programs;
  return programs;
}

const compiledName = (filename: string): string => `${filename}.v8`;

function readCompiled(filename: string): Buffer | undefined {
  try {
    return readFileSync(compiledName(filename));
  } catch {
    return undefined;
  }
}

/** Where it cannot be written nothing happens: whoever comes next compiles what it needs. */
function write(filename: string, script: Script): void {
  const draft = `${compiledName(filename)}.${process.pid}`;
  try {
    writeFileSync(draft, script.createCachedData(), { mode: 0o644, flag: 'wx' });
    renameSync(draft, compiledName(filename));
  } catch {
    // As above.
  }
}
