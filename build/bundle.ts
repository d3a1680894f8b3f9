/**
 * Builds `dist/lib/spinshim` and `dist/bin/spinshim`, what `make install` ships besides the launcher: one bundle for
 * each process entry in `src/main`, shared code once, and beside them everything that is found relative to a bundle.
 */
import { execFileSync } from 'node:child_process';
import { chmod, copyFile, cp, link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { build, type Metafile } from 'esbuild';

const root = join(import.meta.dirname, '..');
const modules = join(root, 'node_modules');
const target = join(root, 'dist', 'lib', 'spinshim');
const draft = `${target}.${process.pid}`;

const entries = ['host', 'preparer', 'spinshim', 'compile-programs'];

/**
 * Programs (`src/engine/program.ts`), each one file: an engine and its threads boot while a pod may be waiting, which takes less
 * time than chunks that import each other and Node's own modules by name.
 */
const programs = ['engine', 'worker', 'shell'];

/** The HTTP client for guests' requests: a program that the others load when they send one. */
const httpClient = 'undici';

/** Components themselves, with core modules beside their JavaScript: they are shipped as they are. */
const transpiler = '@bytecodealliance/jco-transpile';
const transpilerShim = '@bytecodealliance/preview2-shim';

/** Files that no import names; each is opened relative to the module that needs it. */
const openedFiles = [
  `${transpiler}/vendor/js-component-bindgen-component.core.wasm`,
  `${transpiler}/vendor/js-component-bindgen-component.core2.wasm`,
  `${transpiler}/vendor/wasm-tools.core.wasm`,
  `${transpiler}/vendor/wasm-tools.core2.wasm`,
  `${transpilerShim}/dist/io/worker-thread.bundle.js`,
];

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node26',
  metafile: true,
  logLevel: 'warning',
} as const;

const withMaps = { sourcemap: 'linked', sourcesContent: false } as const;

/** The entries and their shared chunks. Packages in CommonJS form need a `require` for Node's own modules. */
async function bundleEntries(): Promise<Metafile> {
  const { metafile } = await build({
    ...common,
    ...withMaps,
    format: 'esm',
    entryPoints: entries.map((name) => ({ in: `src/main/${name}.ts`, out: name })),
    external: [`${transpiler}/*`],
    splitting: true,
    outdir: draft,
    outExtension: { '.js': '.mjs' },
    chunkNames: 'chunk-[hash]',
    banner: {
      js: "import { createRequire as createRequireOfModule } from 'node:module';\nconst require = createRequireOfModule(import.meta.url);",
    },
  });
  return metafile;
}

/** What a program is a function of: `Body` in `src/engine/program.ts`. Modules are strict, which a script is only when it says so. */
const programForm = {
  banner: {
    js: "(function (require, module, __filename) {\n'use strict';\nconst urlOfThisFile = require('node:url').pathToFileURL(__filename).href;",
  },
  footer: { js: '})' },
  define: { 'import.meta.url': 'urlOfThisFile' },
  charset: 'ascii',
  format: 'cjs',
  outdir: draft,
} as const;

async function bundlePrograms(): Promise<readonly Metafile[]> {
  const entries = await build({
    ...common,
    ...withMaps,
    ...programForm,
    entryPoints: programs.map((name) => `src/main/${name}.ts`),
    plugins: [
      {
        name: 'the HTTP client stays a program of its own',
        setup({ onResolve, onLoad }) {
          const namespace = 'program';
          onResolve({ filter: new RegExp(`^${httpClient}$`) }, ({ kind, path }) =>
            kind === 'dynamic-import' ? { path, namespace } : undefined,
          );
          onLoad({ filter: /./, namespace }, ({ path }) => ({
            contents: `import { ownPrograms } from './src/engine/program.ts'; export default ownPrograms().load('${path}');`,
            resolveDir: root,
          }));
        },
      },
    ],
  });
  const client = await build({
    ...common,
    ...programForm,
    stdin: { contents: `module.exports = require('${httpClient}');`, resolveDir: root },
    entryNames: httpClient,
  });
  return [entries.metafile, client.metafile];
}

/** What node is given to run: for each program the same few lines that run it; an engine's make its worker first. */
async function bundleLoaders(): Promise<void> {
  for (const name of programs)
    await build({
      ...common,
      format: 'cjs',
      entryPoints: [name === 'engine' ? 'src/main/engine-program.ts' : 'src/main/program.ts'],
      outfile: join(draft, `${name}.cjs`),
      banner: { js: "'use strict';" },
      define: { programName: JSON.stringify(name) },
    });
}

/** Every file that the transpiler's two entries reach, found by following their imports. */
async function copyTranspiler(): Promise<Metafile> {
  const { metafile } = await build({
    ...common,
    format: 'esm',
    stdin: {
      contents: `import '${transpiler}/component'; import '${transpiler}/wasm-tools';`,
      resolveDir: root,
    },
    write: false,
  });
  const reached = Object.keys(metafile.inputs)
    .filter((path) => path.startsWith('node_modules/'))
    .map((path) => relative('node_modules', path));
  const manifests = [transpiler, transpilerShim].map((name) => `${name}/package.json`);
  for (const file of [...reached, ...openedFiles, ...manifests]) {
    const destination = join(draft, 'node_modules', file);
    await mkdir(dirname(destination), { recursive: true });
    await copyFile(join(modules, file), destination);
  }
  return metafile;
}

/** The Node binary of this machine's architecture; a hard link where the file system has them. */
async function placeNode(): Promise<void> {
  const binary = join(modules, `node-linux-${process.arch}`, 'bin', 'node');
  const destination = join(draft, 'node');
  await link(binary, destination).catch(() => copyFile(binary, destination));
  await chmod(destination, 0o755);
}

/** The licences of everything that is shipped, one file. */
async function writeLicenses(metafiles: readonly Metafile[]): Promise<void> {
  const packages = new Set([`node-linux-${process.arch}`, '@bytecodealliance/jco']);
  for (const path of metafiles.flatMap(({ inputs }) => Object.keys(inputs))) {
    const name = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules\/)/.exec(path)?.[1];
    if (name !== undefined) packages.add(name);
  }
  const texts: string[] = [];
  for (const name of [...packages].sort()) {
    const folder = join(modules, name);
    const files = (await readdir(folder)).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file)).sort();
    const { version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
      version: string;
      license?: string;
    };
    texts.push(`${'='.repeat(80)}\n${name} ${version} (${license ?? 'see below'})\n${'='.repeat(80)}`);
    for (const file of files) texts.push((await readFile(join(folder, file), 'utf8')).trim());
  }
  await writeFile(join(draft, 'THIRD-PARTY-LICENSES'), `${texts.join('\n\n')}\n`);
  await copyFile(join(root, 'LICENSE'), join(draft, 'LICENSE'));
}

async function copyAssets(): Promise<void> {
  await mkdir(join(draft, 'adapters'));
  for (const kind of ['reactor', 'command']) {
    const file = `wasi_snapshot_preview1.${kind}.wasm`;
    await copyFile(join(modules, '@bytecodealliance', 'jco', 'lib', file), join(draft, 'adapters', file));
  }
  await copyFile(join(root, 'fixtures', 'hello', 'hello.wasm'), join(draft, 'rehearsal.wasm'));
  // Built by `shim-binary/Makefile`.
  for (const library of ['thread-calls.so', 'v8-calls.node'])
    await copyFile(join(root, 'dist', 'lib', library), join(draft, library));
  await cp(join(root, 'proto'), join(draft, 'proto'), {
    recursive: true,
    filter: (path) => basename(path) === 'proto' || path.endsWith('.proto'),
  });
  const { name, version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    name: string;
    version: string;
  };
  await writeFile(join(draft, 'package.json'), `${JSON.stringify({ name, version, type: 'module' })}\n`);
}

/** What V8 makes of the programs when they run, for those that run later. */
function compilePrograms(): void {
  const manifest = join(root, 'fixtures', 'rust-http', 'spin.toml');
  execFileSync(join(draft, 'node'), ['--no-warnings', join(draft, 'compile-programs.mjs'), manifest], {
    env: {},
    stdio: 'inherit',
  });
}

/** The finished folder takes the old one's place by renames, so that a failed build leaves the old one whole. */
async function replaceTarget(): Promise<void> {
  const old = `${target}.old.${process.pid}`;
  await rename(target, old).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  await rename(draft, target);
  await rm(old, { recursive: true, force: true });
}

async function placeCommand(): Promise<void> {
  const folder = join(root, 'dist', 'bin');
  await mkdir(folder, { recursive: true });
  const next = join(folder, `spinshim.${process.pid}`);
  await copyFile(join(root, 'bin', 'spinshim'), next);
  await chmod(next, 0o755);
  await rename(next, join(folder, 'spinshim'));
}

await mkdir(draft, { recursive: true });
try {
  const metafiles = [await bundleEntries(), ...(await bundlePrograms()), await copyTranspiler()];
  await bundleLoaders();
  await placeNode();
  await copyAssets();
  await writeLicenses(metafiles);
  compilePrograms();
  await replaceTarget();
  await placeCommand();
} finally {
  await rm(draft, { recursive: true, force: true });
}
