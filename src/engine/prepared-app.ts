import type { App } from '../app/types.ts';

/** One component ready to be compiled: an entry of the cache with glue or plan, core modules and their description. */
export type PreparedComponent = {
  readonly id: string;
  /** Absolute path of the cache entry. */
  readonly entryPath: string;
  /** `sha256:<hex>` of the component's source. */
  readonly digest: string;
};

/** An app whose components are all in the cache. Plain data: it crosses process borders. */
export type PreparedApp = {
  readonly app: App;
  readonly components: readonly PreparedComponent[];
};
