import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/** One runtime handler of the CRI plugin. */
export type RuntimeHandler = {
  /** Handler name, what a RuntimeClass or `runPod` says. */
  readonly name: string;
  /** For example `io.containerd.spin.v2`. */
  readonly type: string;
  /** Absolute path of the shim; the PATH lookup is used when absent. */
  readonly path?: string;
  /** Glob patterns of pod annotations passed on to the shim. */
  readonly podAnnotations?: readonly string[];
  readonly containerAnnotations?: readonly string[];
  /** The handler's `options` table, as TOML lines `Key = value`. */
  readonly options?: readonly string[];
};

export type ConfigInput = {
  /** Folder that holds everything of this containerd. */
  readonly folder: string;
  readonly snapshotter: 'overlayfs' | 'native';
  readonly sandboxImage: string;
  readonly runtimes: readonly RuntimeHandler[];
  readonly debug: boolean;
  /** Let plugins of the node resource interface in, at `nri` of `containerdPaths`; from 1.7 on. */
  readonly nri: boolean;
  /** Whether every container gets an SELinux label. */
  readonly selinux?: boolean;
  /** TOML appended at the end. */
  readonly extra: string;
};

/** Where a private containerd keeps its things. */
export function containerdPaths(folder: string) {
  return {
    root: join(folder, 'root'),
    state: join(folder, 'state'),
    address: join(folder, 'c.sock'),
    config: join(folder, 'config.toml'),
    log: join(folder, 'containerd.log'),
    cniConf: join(folder, 'cni'),
    cniData: join(folder, 'cni-data'),
    hosts: join(folder, 'hosts'),
    runDir: join(folder, 'run'),
    stateDir: join(folder, 'shim-state'),
    fifoDir: join(folder, 'fifo'),
    podLogs: join(folder, 'logs'),
    runcRoot: join(folder, 'runc'),
    nri: join(folder, 'nri.sock'),
  } as const;
}

/** Release line of a containerd, for example `2.3`. */
export type Release = { readonly major: number; readonly minor: number };

/** What `containerd --version` says; `binary` is looked up on the PATH. Throws when it cannot be run or read. */
export function releaseOf(binary = 'containerd'): Release {
  const text = execFileSync(binary, ['--version'], { encoding: 'utf8' });
  const [, major, minor] = /^containerd \S+ v?(\d+)\.(\d+)\./.exec(text) ?? [];
  if (major === undefined || minor === undefined)
    throw new Error(`"${binary} --version" says "${text.trim()}"`);
  return { major: Number(major), minor: Number(minor) };
}

/** containerd's config in the form its release wants, with every path inside `folder`. */
export function containerdConfig(input: ConfigInput, release: Release = releaseOf()): string {
  const paths = containerdPaths(input.folder);
  const cri = release.major === 1 ? criOfVersion2(input) : criOfVersion3(input, release);
  const lines = [
    `version = ${release.major === 1 ? 2 : 3}`,
    `root = ${quote(paths.root)}`,
    `state = ${quote(paths.state)}`,
    `disabled_plugins = ${list([...snapshotters, ...(input.nri ? [] : [nri])])}`,
    'required_plugins = ["io.containerd.grpc.v1.cri"]',
    '[grpc]',
    `address = ${quote(paths.address)}`,
    '[debug]',
    `address = ${quote(join(input.folder, 'd.sock'))}`,
    `level = ${quote(input.debug ? 'debug' : 'info')}`,
    '[plugins."io.containerd.internal.v1.opt"]',
    `path = ${quote(join(input.folder, 'opt'))}`,
    ...(input.nri ? nriTable(input.folder) : []),
    ...cri,
  ];
  return `${lines.join('\n')}\n${input.extra}\n`;
}

/** Snapshotters that nothing here has. */
const snapshotters = ['aufs', 'btrfs', 'devmapper', 'zfs'].map(
  (name) => `io.containerd.snapshotter.v1.${name}`,
);
const nri = 'io.containerd.nri.v1.nri';

function nriTable(folder: string): string[] {
  return [
    `[plugins.${quote(nri)}]`,
    'disable = false',
    `socket_path = ${quote(containerdPaths(folder).nri)}`,
    `plugin_path = ${quote(join(folder, 'nri-plugins'))}`,
    `plugin_config_path = ${quote(join(folder, 'nri-config'))}`,
  ];
}

/** The CRI plugin of containerd 1.x. */
function criOfVersion2(input: ConfigInput): string[] {
  const paths = containerdPaths(input.folder);
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return [
    `[${cri}]`,
    `sandbox_image = ${quote(input.sandboxImage)}`,
    ...streaming,
    ...runtimeSettings,
    `enable_selinux = ${input.selinux ?? false}`,
    `[${cri}.cni]`,
    `bin_dir = ${quote(cniPlugins)}`,
    `conf_dir = ${quote(paths.cniConf)}`,
    `[${cri}.registry]`,
    `config_path = ${quote(paths.hosts)}`,
    `[${cri}.containerd]`,
    `snapshotter = ${quote(input.snapshotter)}`,
    ...runtimeTables(`${cri}.containerd`, input.runtimes),
  ];
}

/** The CRI plugins of containerd 2.x: one for streaming, one for images, one for the runtime. */
function criOfVersion3(input: ConfigInput, { minor }: Release): string[] {
  const paths = containerdPaths(input.folder);
  const images = 'plugins."io.containerd.cri.v1.images"';
  const runtime = 'plugins."io.containerd.cri.v1.runtime"';
  return [
    '[plugins."io.containerd.grpc.v1.cri"]',
    ...streaming,
    `[${images}]`,
    `snapshotter = ${quote(input.snapshotter)}`,
    `[${images}.pinned_images]`,
    `sandbox = ${quote(input.sandboxImage)}`,
    `[${images}.registry]`,
    `config_path = ${quote(paths.hosts)}`,
    `[${runtime}]`,
    ...runtimeSettings,
    `enable_selinux = ${input.selinux ?? false}`,
    `[${runtime}.cni]`,
    // The plural came with 2.1 and is the only one from 2.4 on.
    minor === 0 ? `bin_dir = ${quote(cniPlugins)}` : `bin_dirs = ${list([cniPlugins])}`,
    `conf_dir = ${quote(paths.cniConf)}`,
    `[${runtime}.containerd]`,
    ...runtimeTables(`${runtime}.containerd`, input.runtimes),
  ];
}

const cniPlugins = '/usr/lib/cni';
const streaming = ['stream_server_address = "127.0.0.1"', 'stream_server_port = "0"'];
const runtimeSettings = [
  'netns_mounts_under_state_dir = true',
  'tolerate_missing_hugetlb_controller = true',
  // A root without CAP_SYS_RESOURCE cannot give the sandbox the usual score of -998.
  'restrict_oom_score_adj = true',
];

function runtimeTables(parent: string, runtimes: readonly RuntimeHandler[]): string[] {
  const lines = ['default_runtime_name = "runc"'];
  for (const runtime of runtimes) {
    const table = `${parent}.runtimes.${quote(runtime.name)}`;
    lines.push(`[${table}]`, `runtime_type = ${quote(runtime.type)}`);
    if (runtime.path !== undefined) lines.push(`runtime_path = ${quote(runtime.path)}`);
    lines.push(`pod_annotations = ${list(runtime.podAnnotations ?? [])}`);
    lines.push(`container_annotations = ${list(runtime.containerAnnotations ?? [])}`);
    if (runtime.options !== undefined) lines.push(`[${table}.options]`, ...runtime.options);
  }
  return lines;
}

/**
 * CNI list with one ptp network and addresses from a folder of our own; no masquerading, so no firewall rules, unless
 * ports of the node are to lead to pods.
 */
export function cniConfig(name: string, subnet: string, dataDir: string, hostPorts = false): string {
  const ipam = { type: 'host-local', subnet, dataDir, routes: [{ dst: '0.0.0.0/0' }] };
  const ports = hostPorts ? [{ type: 'portmap', capabilities: { portMappings: true } }] : [];
  const plugins = [{ type: 'ptp', ipMasq: false, ipam }, ...ports];
  return JSON.stringify({ cniVersion: '0.4.0', name, plugins });
}

/** A TOML basic string; JSON's escapes are a subset of TOML's. */
function quote(text: string): string {
  return JSON.stringify(text);
}

function list(items: readonly string[]): string {
  return `[${items.map(quote).join(', ')}]`;
}
