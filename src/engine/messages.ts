import type { ErrorCode } from '../error.ts';
import type { ResourceLimit } from '../linux-rights.ts';
import type { EntryForm } from './component-entry.ts';
import type { ExecReply, ExecRequest } from './exec-messages.ts';
import type { PreparedApp } from './prepared-app.ts';
import type { CheckedFile } from './sealed-file.ts';

/** The network namespace an engine runs in. */
export type NetworkTarget =
  | { readonly kind: 'host' }
  /** A namespace file, `/var/run/netns/…` or `/proc/<pid>/ns/net`. */
  | { readonly kind: 'path'; readonly path: string }
  /** A new one of its own, `lo` up. */
  | { readonly kind: 'new' };

/** Where a guest's output goes. A FIFO or file is opened by the engine itself. */
export type EngineOutput =
  | { readonly kind: 'null' }
  | { readonly kind: 'fd'; readonly fd: number }
  | { readonly kind: 'fifo'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string };

/** A filter of system calls that the pod asks for, besides the engine's own. */
export type CallFilter = {
  /** Classic BPF as the kernel reads it. */
  readonly program: Uint8Array;
  /** Whether the kernel's log tells of what it refuses. */
  readonly isLogged: boolean;
};

/** What a container's engine keeps of its rights once it is in place; everything else goes. */
export type EngineSecurity = {
  /** Ids as the node counts them. */
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** Capabilities that stay, by number (capabilities(7)). */
  readonly capabilities: readonly number[];
  readonly limits: readonly ResourceLimit[];
  /** Name of an AppArmor profile that this machine has. */
  readonly appArmorProfile?: string | undefined;
  /** What is refused besides what the engine's own filter refuses. */
  readonly filter?: CallFilter | undefined;
};

/** A folder of the node, or one below it, that a component sees. */
export type VolumeGrant = {
  readonly component: string;
  /** Absolute path of a folder on the node. */
  readonly source: string;
  /** Path below it, resolved without leaving it; '' for itself. */
  readonly below: string;
  /** Absolute path in the guest. */
  readonly destination: string;
  readonly writable: boolean;
};

/** Where the pod has a folder of the node. */
export type ClaimVolume = {
  readonly source: string;
  readonly destination: string;
  readonly writable: boolean;
};

/** Everything an idle engine needs to become the engine of one container. */
export type EngineClaim = {
  readonly id: string;
  readonly prepared: PreparedApp;
  /** Sealed files of it that are not checked again if they still are what they were. */
  readonly checked?: readonly CheckedFile[];
  readonly network: NetworkTarget;
  /** The container's environment: variables and settings of the host side, not the guest's environment. */
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly args: readonly string[];
  readonly stdout: EngineOutput;
  readonly stderr: EngineOutput;
  /** Absolute directory for key-value and SQLite files; exists, owned by us. */
  readonly stateDir: string;
  /** Absolute path of a runtime-config.toml, where there is one. */
  readonly runtimeConfig?: string;
  /** Given for a container; the command line's engine stays what its user is. */
  readonly security?: EngineSecurity;
  /** What components see of the pod's volumes, besides the app's own files. */
  readonly grants?: readonly VolumeGrant[];
  /** Volumes that the runtime configuration may put stores on. */
  readonly volumes?: readonly ClaimVolume[];
  /** Where to listen when `SPIN_HTTP_LISTEN_ADDR` is not in the environment; default "0.0.0.0:80". */
  readonly listen?: string;
  /** The pod's resolv.conf and hosts file on this node. */
  readonly resolvConf?: string;
  readonly hosts?: string;
  /** A PEM bundle that outbound TLS trusts besides Node's own roots. */
  readonly caBundle?: string;
  /** Values that win over every provider (`--variable`). */
  readonly variables?: readonly (readonly [name: string, value: string])[];
  /** Folder against which paths of dotenv files and databases are resolved; the command line's only. */
  readonly workingDir?: string;
  /** CPUs that the container may use, by its quota; undefined = no quota. Decides how many workers there are, once. */
  readonly cpus?: number;
  /** Bytes of memory that the container may use; the ceiling for one instance's. */
  readonly memoryLimit?: number;
  /** Time after SIGTERM at which the log says which requests go on, milliseconds; default 25,000. */
  readonly drainNoticeMs?: number;
  /** Lines for the app's standard output once it serves; the routes with their URLs as Spin prints them. */
  readonly announce?: boolean;
  /** The engine is there to find out what code the app needs (`learn`), and uses none that is kept. */
  readonly learns?: boolean;
};

/** Parts of a claim, in their order; `worker` is all that the worker's own, the rest of them, take with the way there. */
export type ClaimPhase =
  | 'read'
  | 'compile'
  /** Waiting for a worker that still boots. */
  | 'thread'
  | 'network'
  | 'confine'
  | 'worker'
  | 'settings'
  | 'services'
  | 'runtime'
  | 'trial';

/** What an engine tells of a claim. */
export type ClaimReport = {
  /** Sealed files of the app whose seal was right, for the next claim. */
  readonly checked: readonly CheckedFile[];
  /** Version of Landlock in force on every thread of a container's engine; 0 where the kernel has none. */
  readonly landlock?: number;
  readonly milliseconds: Partial<Record<ClaimPhase, number>>;
  /** How each component runs, and why not in the quicker way. */
  readonly components: readonly {
    readonly id: string;
    readonly form: EntryForm;
    /** Whether its modules came with compiled code. */
    readonly hasCode: boolean;
  }[];
};

/** The compiled code of one component, by core module. */
export type LearnedCode = {
  readonly id: string;
  readonly modules: readonly (readonly [name: string, code: Uint8Array])[];
};

/** What the parent tells an engine. */
export type EngineRequest =
  /** Use the time of waiting. */
  | { readonly type: 'rehearse' }
  | { readonly type: 'claim'; readonly claim: EngineClaim }
  | { readonly type: 'start' }
  /** Ask the app for these paths, and give the code that V8 made of it. */
  | { readonly type: 'learn'; readonly paths: readonly string[] }
  | ExecRequest;

/** What an engine tells its parent. */
export type EngineReply =
  | { readonly type: 'ready' }
  | { readonly type: 'rehearsed' }
  | { readonly type: 'claimed'; readonly report: ClaimReport }
  | { readonly type: 'started'; readonly addresses: readonly string[] }
  | { readonly type: 'learned'; readonly code: readonly LearnedCode[] }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string }
  | ExecReply;
