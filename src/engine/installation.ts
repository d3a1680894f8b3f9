import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AdapterPaths } from './lift.ts';

/** Where the parts of this installation lie: a source checkout run by type stripping, or the bundle. */
export type Installation = {
  /** The Node binary that runs every process of ours. */
  readonly node: string;
  readonly engine: string;
  readonly worker: string;
  /** The debug shell's thread. */
  readonly shell: string;
  readonly preparer: string;
  /** The library by which an engine drops rights on all of its threads. */
  readonly threadCalls: string;
  /** The Node addon for calls of V8's own interface. */
  readonly v8Calls: string;
  /** What an engine and its workers read of it while they run: a directory. */
  readonly directory: string;
  readonly adapters: AdapterPaths;
  /** The small component that waiting engines rehearse with. */
  readonly rehearsal: string;
  readonly version: string;
  /** Version of the transpiler, part of the cache key. */
  readonly transpilerVersion: string;
};

const here = dirname(fileURLToPath(import.meta.url));

/** Finds the parts relative to this file. */
export function findInstallation(): Installation {
  return import.meta.url.endsWith('.ts') ? checkout(join(here, '..', '..')) : bundle(here);
}

function checkout(root: string): Installation {
  const modules = join(root, 'node_modules', '@bytecodealliance');
  return {
    node: process.execPath,
    engine: join(root, 'src', 'main', 'engine.ts'),
    worker: join(root, 'src', 'main', 'worker.ts'),
    shell: join(root, 'src', 'main', 'shell.ts'),
    preparer: join(root, 'src', 'main', 'preparer.ts'),
    threadCalls: join(root, 'dist', 'lib', 'thread-calls.so'),
    v8Calls: join(root, 'dist', 'lib', 'v8-calls.node'),
    directory: root,
    adapters: adaptersIn(join(modules, 'jco', 'lib')),
    rehearsal: join(root, 'fixtures', 'hello', 'hello.wasm'),
    get version() {
      return versionOf(join(root, 'package.json'));
    },
    get transpilerVersion() {
      return versionOf(join(modules, 'jco-transpile', 'package.json'));
    },
  };
}

function bundle(directory: string): Installation {
  return {
    node: process.execPath,
    engine: join(directory, 'engine.cjs'),
    worker: join(directory, 'worker.cjs'),
    shell: join(directory, 'shell.cjs'),
    preparer: join(directory, 'preparer.mjs'),
    threadCalls: join(directory, 'thread-calls.so'),
    v8Calls: join(directory, 'v8-calls.node'),
    directory,
    adapters: adaptersIn(join(directory, 'adapters')),
    rehearsal: join(directory, 'rehearsal.wasm'),
    get version() {
      return versionOf(join(directory, 'package.json'));
    },
    get transpilerVersion() {
      return versionOf(join(directory, 'node_modules', '@bytecodealliance', 'jco-transpile', 'package.json'));
    },
  };
}

function adaptersIn(directory: string): AdapterPaths {
  return {
    reactor: join(directory, 'wasi_snapshot_preview1.reactor.wasm'),
    command: join(directory, 'wasi_snapshot_preview1.command.wasm'),
  };
}

function versionOf(packageFile: string): string {
  return (JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }).version;
}
