/**
 * What to run, as one value. An `App` is plain data (it crosses process borders and is kept as JSON): every grant is
 * spelled out, every path is absolute and on this node, and nothing in it has to be looked up again.
 */

/** An application variable (`[variables]`); no `default` means that a provider has to supply the value. */
export type AppVariable = {
  readonly name: string;
  readonly default?: string;
  readonly secret: boolean;
};

/** Bytes of a component's source on this node. */
export type ComponentSource = {
  /** Absolute path of the wasm file (component, core module or WAT), digest already verified. */
  readonly path: string;
  /** `sha256:<hex>` of those bytes. */
  readonly digest: string;
};

/** A directory on this node that the guest sees at `destination`. */
export type FileMount = {
  /** Absolute path of a directory. */
  readonly source: string;
  /** Absolute guest path, `/` for the usual single mount. */
  readonly destination: string;
  /** Whether the guest may change what is in it; only a pod's volume is ever writable. */
  readonly writable?: boolean;
};

/** One component with everything its manifest grants; what is not listed is denied. */
export type Component = {
  readonly id: string;
  readonly description?: string;
  readonly source: ComponentSource;
  /** WASI environment, in manifest order. */
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly files: readonly FileMount[];
  /** The component's own variables: name → template (`{{ app_variable }}`). */
  readonly variables: readonly (readonly [name: string, template: string])[];
  /** `allowed_outbound_hosts` entries as written, templates unresolved. `allowed_http_hosts` is already converted. */
  readonly allowedOutboundHosts: readonly string[];
  readonly keyValueStores: readonly string[];
  readonly sqliteDatabases: readonly string[];
  readonly aiModels: readonly string[];
};

/** Where requests of an HTTP trigger come from. */
export type HttpRoute = { readonly kind: 'path'; readonly path: string } | { readonly kind: 'private' };

/** Who answers an HTTP trigger. */
export type HttpTarget =
  | { readonly kind: 'component'; readonly component: string }
  | {
      readonly kind: 'static';
      readonly status: number;
      readonly headers: readonly (readonly [name: string, value: string])[];
      readonly body: string;
    };

/** How the component of an HTTP trigger is called. */
export type HttpExecutor =
  | { readonly type: 'http' }
  | { readonly type: 'wagi'; readonly argv?: string; readonly entrypoint?: string };

export type HttpTrigger = {
  readonly type: 'http';
  readonly id: string;
  readonly route: HttpRoute;
  readonly target: HttpTarget;
  readonly executor: HttpExecutor;
};

/** A trigger of another type, its table kept verbatim (JSON). */
export type OtherTrigger = {
  readonly type: 'other';
  /** `redis`, `mqtt`, … as in the manifest. */
  readonly triggerType: string;
  readonly id: string;
  readonly component?: string;
  readonly config: Readonly<Record<string, unknown>>;
};

export type Trigger = HttpTrigger | OtherTrigger;

export type App = {
  readonly name: string;
  readonly version?: string;
  readonly description?: string;
  /** Digest of the OCI manifest the app came from, for `/.well-known/spin/info`. */
  readonly ociImageDigest?: string;
  readonly variables: readonly AppVariable[];
  readonly triggers: readonly Trigger[];
  /** Only the components that a trigger refers to. */
  readonly components: readonly Component[];
};
