import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { App, Component } from '../app/types.ts';
import { ShimError } from '../error.ts';
import { asyncImports } from '../host/async-imports.ts';
import { type CacheOptions, ComponentCache } from './component-cache.ts';
import { type EntryContent, entryOf } from './component-entry.ts';
import { importMap } from './import-names.ts';
import { type AdapterPaths, firstLine, liftToComponent } from './lift.ts';
import { linkComponent } from './link.ts';
import { planRevision } from './linker/plan.ts';
import type { PreparedApp, PreparedComponent } from './prepared-app.ts';
import { transpileComponent, transpileRevision } from './transpile.ts';

/** Bytes of one component's source; larger ones are refused. */
export const maxComponentBytes = 256 * 1024 * 1024;

/**
 * Brings every component of the app into the cache: lifts it if it is a module, plans it for our linker or, where that
 * cannot take it, has jco transpile it, checks that its core modules compile. Runs in the preparer, a process of its own. Throws `invalid-component`, `digest-mismatch`,
 * `unsupported`; the message names component and source.
 */
export async function prepareApp(
  app: App,
  storeDir: string,
  adapters: AdapterPaths,
  toolVersion: string,
  { alwaysJco = false, ...cacheOptions }: CacheOptions & { readonly alwaysJco?: boolean } = {},
): Promise<PreparedApp> {
  const inputs = [
    toolVersion,
    String(transpileRevision),
    alwaysJco ? 'jco' : String(planRevision),
    JSON.stringify(asyncImports),
    JSON.stringify(importMap),
  ];
  const cache = new ComponentCache(storeDir, inputs, cacheOptions);
  const components: PreparedComponent[] = [];
  for (const component of app.components)
    components.push(await prepareComponent(component, cache, adapters, alwaysJco));
  return { app, components };
}

async function prepareComponent(
  component: Component,
  cache: ComponentCache,
  adapters: AdapterPaths,
  alwaysJco: boolean,
): Promise<PreparedComponent> {
  const { digest } = component.source;
  await cache.ensure(digest, () => makeEntry(component, adapters, alwaysJco));
  return { id: component.id, entryPath: cache.pathOf(digest), digest };
}

async function makeEntry(
  { id, source: { digest, path } }: Component,
  adapters: AdapterPaths,
  alwaysJco: boolean,
): Promise<EntryContent> {
  const where = `component "${id}" ("${path}")`;
  const { size } = await stat(path);
  if (size > maxComponentBytes) {
    throw new ShimError(
      'resource-exhausted',
      `${where} has ${size} bytes, the limit is ${maxComponentBytes}`,
    );
  }
  const bytes = await readFile(path);
  const actual = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  if (actual !== digest) {
    throw new ShimError(
      'digest-mismatch',
      `${where} has digest ${actual}, expected ${digest}: the file was changed or damaged`,
    );
  }
  const lifted = await liftToComponent(bytes, adapters, where);
  const linked = alwaysJco ? { reason: 'jco was asked for' } : linkComponent(lifted, asyncImports);
  const made =
    'plan' in linked ? linked : await transpileComponent(lifted, asyncImports, where, linked.reason);
  for (const [name, module] of made.coreModules) {
    await WebAssembly.compile(Buffer.from(module)).catch((error: unknown) => {
      throw new ShimError(
        'invalid-component',
        `${where}: its core module "${name}" does not compile: ${firstLine(error)}`,
        {
          cause: error,
        },
      );
    });
  }
  return entryOf(made);
}
