import { ShimError } from '../error.ts';
import {
  invalid,
  type JsonObject,
  listAt,
  numberAt,
  objectAt,
  pairsAt,
  parseJson,
  specLimits,
  stringAt,
  stringsAt,
  unsignedAt,
} from './spec-json.ts';

/** A mount of the container, `source` a path on the node for binds. */
export type SpecMount = {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
  /** The ids that its files are to have; none where they keep theirs. */
  readonly uidMappings: readonly SpecIdMapping[];
  readonly gidMappings: readonly SpecIdMapping[];
};

/** A namespace entry: without a path it is to be made, with one it is to be joined; no entry means the node's own. */
export type SpecNamespace = { readonly type: string; readonly path?: string };

/** Limits on a container's resources; what is not given is not limited. */
export type SpecResources = {
  /** Bytes; negative for unlimited. */
  readonly memoryLimit?: number;
  /** Bytes, memory and swap together. */
  readonly memorySwap?: number;
  readonly cpuShares?: number;
  /** Microseconds of CPU per period; negative for unlimited. */
  readonly cpuQuota?: number;
  /** Microseconds. */
  readonly cpuPeriod?: number;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly pidsLimit?: number;
  /** Files of a version 2 cgroup and what to write into them; kubelet sets `memory.oom.group` so. */
  readonly unified?: readonly (readonly [file: string, value: string])[];
};

/** A program that the runtime runs at a point of the container's life. */
export type SpecHook = {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly (readonly [name: string, value: string])[];
  readonly timeoutSeconds?: number;
};

/** Hooks by their point; `prestart` is the old name of `createRuntime`, whose hooks follow it. */
export type SpecHooks = {
  readonly prestart: readonly SpecHook[];
  readonly createRuntime: readonly SpecHook[];
  readonly createContainer: readonly SpecHook[];
  readonly startContainer: readonly SpecHook[];
  readonly poststart: readonly SpecHook[];
  readonly poststop: readonly SpecHook[];
};

/** A resource limit by its name, `RLIMIT_NOFILE`; the highest number means unlimited. */
export type SpecRlimit = { readonly type: string; readonly soft: bigint; readonly hard: bigint };

/** A range of ids of a user namespace, and what the node calls them. */
export type SpecIdMapping = {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
};

/** The part of an OCI runtime specification (config.json) that is acted on. */
export type Spec = {
  readonly args: readonly string[];
  readonly env: readonly (readonly [name: string, value: string])[];
  readonly cwd: string;
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  /** Name of the AppArmor profile; '' for none asked for. */
  readonly appArmorProfile: string;
  /** SELinux label of the process; '' for none asked for. */
  readonly selinuxLabel: string;
  /** SELinux label of the files that are the container's own; '' for none asked for. */
  readonly mountLabel: string;
  /** Names of the effective capabilities, `CAP_CHOWN`. */
  readonly effectiveCapabilities: readonly string[];
  readonly ambientCapabilities: readonly string[];
  readonly rlimits: readonly SpecRlimit[];
  /** -1000 to 1000; undefined leaves what is inherited. */
  readonly oomScoreAdj?: number;
  readonly uidMappings: readonly SpecIdMapping[];
  readonly gidMappings: readonly SpecIdMapping[];
  readonly rootPath: string;
  readonly hostname: string;
  readonly mounts: readonly SpecMount[];
  readonly annotations: ReadonlyMap<string, string>;
  readonly namespaces: readonly SpecNamespace[];
  readonly cgroupsPath: string;
  readonly resources: SpecResources;
  readonly sysctl: readonly (readonly [name: string, value: string])[];
  /** As it stands: what a Linux container's runtime takes of it is that runtime's to say. */
  readonly seccomp: JsonObject;
  readonly hooks: SpecHooks;
};

/** A process that is to run in a container: that of its config.json, or of an exec. */
export type SpecProcess = Pick<Spec, 'args' | 'env' | 'cwd'>;

/** Reads a config.json. Throws `invalid-argument` that names the first wrong field. */
export function parseSpec(text: string): Spec {
  if (text.length > specLimits.maxBytes) {
    throw invalid(`is ${text.length} bytes long; at most ${specLimits.maxBytes} are read`);
  }
  const root = objectAt(parseJson(text), 'the document');
  const processTable = objectAt(root.get('process'), 'process');
  const user = objectAt(processTable.get('user'), 'process.user');
  const linux = objectAt(root.get('linux'), 'linux');
  const hooks = objectAt(root.get('hooks'), 'hooks');
  const capabilities = objectAt(processTable.get('capabilities'), 'process.capabilities');
  const oomScoreAdj = numberAt(processTable.get('oomScoreAdj'), 'process.oomScoreAdj');
  return {
    ...parseProcessTable(processTable),
    uid: idAt(user.get('uid') ?? 0, 'process.user.uid'),
    gid: idAt(user.get('gid') ?? 0, 'process.user.gid'),
    additionalGids: listAt(user.get('additionalGids'), 'process.user.additionalGids').map((gid, index) =>
      idAt(gid, `process.user.additionalGids[${index}]`),
    ),
    appArmorProfile: stringAt(processTable.get('apparmorProfile'), 'process.apparmorProfile') ?? '',
    selinuxLabel: stringAt(processTable.get('selinuxLabel'), 'process.selinuxLabel') ?? '',
    mountLabel: stringAt(linux.get('mountLabel'), 'linux.mountLabel') ?? '',
    effectiveCapabilities: stringsAt(capabilities.get('effective'), 'process.capabilities.effective'),
    ambientCapabilities: stringsAt(capabilities.get('ambient'), 'process.capabilities.ambient'),
    rlimits: listAt(processTable.get('rlimits'), 'process.rlimits').map(parseRlimit),
    ...(oomScoreAdj === undefined ? {} : { oomScoreAdj }),
    uidMappings: mappingsAt(linux.get('uidMappings'), 'linux.uidMappings'),
    gidMappings: mappingsAt(linux.get('gidMappings'), 'linux.gidMappings'),
    rootPath: stringAt(objectAt(root.get('root'), 'root').get('path'), 'root.path') ?? 'rootfs',
    hostname: stringAt(root.get('hostname'), 'hostname') ?? '',
    mounts: listAt(root.get('mounts'), 'mounts').map(parseMount),
    annotations: new Map(pairsAt(root.get('annotations'), 'annotations')),
    namespaces: listAt(linux.get('namespaces'), 'linux.namespaces').map(parseNamespace),
    cgroupsPath: stringAt(linux.get('cgroupsPath'), 'linux.cgroupsPath') ?? '',
    resources: parseResourceTable(linux.get('resources'), 'linux.resources'),
    sysctl: pairsAt(linux.get('sysctl'), 'linux.sysctl'),
    seccomp: objectAt(linux.get('seccomp'), 'linux.seccomp'),
    hooks: {
      prestart: hooksAt(hooks, 'prestart'),
      createRuntime: hooksAt(hooks, 'createRuntime'),
      createContainer: hooksAt(hooks, 'createContainer'),
      startContainer: hooksAt(hooks, 'startContainer'),
      poststart: hooksAt(hooks, 'poststart'),
      poststop: hooksAt(hooks, 'poststop'),
    },
  };
}

/** Reads the JSON of a Process, as an Exec carries it. Throws `invalid-argument`. */
export function parseProcess(text: string): SpecProcess {
  if (text.length > specLimits.maxBytes) {
    throw new ShimError(
      'invalid-argument',
      `the process to run is described by ${text.length} bytes; at most ${specLimits.maxBytes} are read`,
    );
  }
  return parseProcessTable(objectAt(parseJson(text), 'process'));
}

function parseProcessTable(table: JsonObject): SpecProcess {
  return {
    args: stringsAt(table.get('args'), 'process.args'),
    env: stringsAt(table.get('env'), 'process.env').map(splitVariable),
    cwd: stringAt(table.get('cwd'), 'process.cwd') ?? '/',
  };
}

/** Reads the JSON of a LinuxResources, as an Update carries it. Throws `invalid-argument`. */
export function parseResources(text: string): SpecResources {
  return parseResourceTable(parseJson(text), 'the resources');
}

/** A controller's file, as `memory.oom.group`; nothing that leads out of the cgroup. */
const cgroupFile = /^[a-z]+(?:\.[A-Za-z0-9_-]+)+$/;

function parseResourceTable(value: unknown, where: string): SpecResources {
  const table = objectAt(value, where);
  const memory = objectAt(table.get('memory'), `${where}.memory`);
  const cpu = objectAt(table.get('cpu'), `${where}.cpu`);
  const pids = objectAt(table.get('pids'), `${where}.pids`);
  const unified = pairsAt(table.get('unified'), `${where}.unified`);
  for (const [file] of unified)
    if (!cgroupFile.test(file)) throw invalid(`names no cgroup file by "${file}" in "${where}.unified"`);
  const given = {
    memoryLimit: numberAt(memory.get('limit'), `${where}.memory.limit`),
    memorySwap: numberAt(memory.get('swap'), `${where}.memory.swap`),
    cpuShares: numberAt(cpu.get('shares'), `${where}.cpu.shares`),
    cpuQuota: numberAt(cpu.get('quota'), `${where}.cpu.quota`),
    cpuPeriod: numberAt(cpu.get('period'), `${where}.cpu.period`),
    pidsLimit: numberAt(pids.get('limit'), `${where}.pids.limit`),
    cpusetCpus: stringAt(cpu.get('cpus'), `${where}.cpu.cpus`),
    cpusetMems: stringAt(cpu.get('mems'), `${where}.cpu.mems`),
    unified: unified.length === 0 ? undefined : unified,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function parseMount(value: unknown, index: number): SpecMount {
  const where = `mounts[${index}]`;
  const table = objectAt(value, where);
  return {
    destination: stringAt(table.get('destination'), `${where}.destination`) ?? '',
    type: stringAt(table.get('type'), `${where}.type`) ?? '',
    source: stringAt(table.get('source'), `${where}.source`) ?? '',
    options: stringsAt(table.get('options'), `${where}.options`),
    uidMappings: mappingsAt(table.get('uidMappings'), `${where}.uidMappings`),
    gidMappings: mappingsAt(table.get('gidMappings'), `${where}.gidMappings`),
  };
}

function parseNamespace(value: unknown, index: number): SpecNamespace {
  const where = `linux.namespaces[${index}]`;
  const table = objectAt(value, where);
  const type = stringAt(table.get('type'), `${where}.type`);
  if (type === undefined) throw invalid(`has no "${where}.type"`);
  const path = stringAt(table.get('path'), `${where}.path`);
  if (path === undefined || path === '') return { type };
  if (!path.startsWith('/')) throw invalid(`"${where}.path" is "${path}", not an absolute path`);
  return { type, path };
}

function hooksAt(hooks: JsonObject, kind: string): readonly SpecHook[] {
  return listAt(hooks.get(kind), `hooks.${kind}`).map((value, index) => {
    const where = `hooks.${kind}[${index}]`;
    const table = objectAt(value, where);
    const path = stringAt(table.get('path'), `${where}.path`) ?? '';
    if (!path.startsWith('/')) throw invalid(`"${where}.path" is "${path}", not an absolute path`);
    const timeoutSeconds = numberAt(table.get('timeout'), `${where}.timeout`);
    return {
      path,
      args: stringsAt(table.get('args'), `${where}.args`),
      env: stringsAt(table.get('env'), `${where}.env`).map(splitVariable),
      ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    };
  });
}

function parseRlimit(value: unknown, index: number): SpecRlimit {
  const where = `process.rlimits[${index}]`;
  const table = objectAt(value, where);
  const limit = (name: string): bigint => unsignedAt(table.get(name), `${where}.${name}`) ?? 0n;
  return {
    type: stringAt(table.get('type'), `${where}.type`) ?? '',
    soft: limit('soft'),
    hard: limit('hard'),
  };
}

function mappingsAt(value: unknown, where: string): readonly SpecIdMapping[] {
  return listAt(value, where).map((entry, index) => parseMapping(entry, `${where}[${index}]`));
}

function parseMapping(value: unknown, where: string): SpecIdMapping {
  const table = objectAt(value, where);
  return {
    containerId: idAt(table.get('containerID') ?? 0, `${where}.containerID`),
    hostId: idAt(table.get('hostID') ?? 0, `${where}.hostID`),
    size: idAt(table.get('size') ?? 0, `${where}.size`),
  };
}

/** A user or group id; the highest number stands for none in the kernel. */
function idAt(value: unknown, where: string): number {
  const id = numberAt(value, where);
  if (id !== undefined && id >= 0 && id < 0xffffffff) return id;
  throw invalid(`"${where}" is ${String(value)}, which is no id`);
}

function splitVariable(entry: string): readonly [string, string] {
  const equals = entry.indexOf('=');
  return equals < 0 ? [entry, ''] : [entry.slice(0, equals), entry.slice(equals + 1)];
}
