/** Where the keys of one key-value store label live. */
export type KeyValueStoreConfig =
  /** A file (absolute), or memory without one. */
  | { readonly type: 'spin'; readonly path?: string }
  | { readonly type: 'redis'; readonly url: string }
  | {
      readonly type: 'azure_cosmos';
      readonly key?: string;
      readonly account: string;
      readonly database: string;
      readonly container: string;
    }
  | {
      readonly type: 'aws_dynamo';
      readonly region: string;
      readonly table: string;
      readonly consistentRead: boolean;
      readonly accessKey?: string;
      readonly secretKey?: string;
      readonly token?: string;
    };

/** Where one SQLite database label lives. */
export type SqliteDatabaseConfig =
  /** A file (as written: relative to the engine's working directory), or memory without one. */
  | { readonly type: 'spin'; readonly path?: string; readonly allowAttachFile: boolean }
  | { readonly type: 'libsql'; readonly url: string; readonly token: string };

/** Who runs inference. */
export type LlmComputeConfig =
  | { readonly type: 'spin' }
  | {
      readonly type: 'remote_http';
      readonly url: string;
      readonly authToken: string;
      readonly apiType: 'default' | 'open_ai';
    };

/** One source of application variables; asked in the order of the file. */
export type VariablesProviderConfig =
  | { readonly type: 'env'; readonly prefix?: string; readonly dotenvPath?: string }
  | { readonly type: 'static'; readonly values: readonly (readonly [name: string, value: string])[] }
  | {
      readonly type: 'vault';
      readonly url: string;
      readonly token: string;
      readonly mount: string;
      readonly prefix?: string;
    }
  | {
      readonly type: 'azure_key_vault';
      readonly vaultUrl: string;
      readonly clientId?: string;
      readonly clientSecret?: string;
      readonly tenantId?: string;
      readonly authorityHost?: string;
    };

/** TLS of outbound HTTP from some components to some hosts. Paths are absolute. */
export type ClientTlsConfig = {
  readonly componentIds: readonly string[];
  readonly hosts: readonly string[];
  readonly usePlatformRoots: boolean;
  readonly useWebpkiRoots: boolean;
  readonly rootsFile?: string;
  readonly certificateFile?: string;
  readonly privateKeyFile?: string;
};

/** The operator's configuration of one application (spin.md 5). */
export type RuntimeConfig = {
  /** Path of the file, for messages. */
  readonly where: string;
  /** Directory for state; null = no state directory; absent = the default. */
  readonly stateDir?: string | null;
  readonly logDir?: string;
  /** Bytes. */
  readonly maxInstanceMemory?: number;
  readonly keyValueStores: readonly (readonly [label: string, config: KeyValueStoreConfig])[];
  readonly sqliteDatabases: readonly (readonly [label: string, config: SqliteDatabaseConfig])[];
  readonly llmCompute?: LlmComputeConfig;
  readonly variablesProviders: readonly VariablesProviderConfig[];
  readonly outboundNetworking: {
    /** `private`, addresses and CIDRs, already checked. */
    readonly blockNetworks: readonly string[];
    readonly maxSocketConnections?: number;
    readonly maxTotalConnections?: number;
  };
  readonly clientTls: readonly ClientTlsConfig[];
  readonly outboundHttp: { readonly connectionPooling: boolean; readonly maxConnections?: number };
  readonly outboundRedis: ConnectionLimit;
  readonly outboundPg: ConnectionLimit;
  readonly outboundMysql: ConnectionLimit;
  readonly outboundMqtt: ConnectionLimit & { readonly maxPayloadSizeBytes?: number };
};

export type ConnectionLimit = { readonly maxConnections?: number };
