import { join } from 'node:path';
import {
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status as statusCodes,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { timeScale } from './wait.ts';

const protoFile = join(import.meta.dirname, '..', '..', 'proto', 'cri.proto');

/** Default deadline of one call in milliseconds; kubelet uses two minutes. */
const defaultDeadlineMs = 30_000;

/** A CRI call that failed, with the gRPC code and text as the server sent them. */
export class CriError extends Error {
  override readonly name = 'CriError';
  /** gRPC code as a number. */
  readonly code: number;
  /** The server's own text. */
  readonly details: string;
  readonly method: string;

  constructor(method: string, error: ServiceError) {
    super(`${method} failed with ${statusCodes[error.code] ?? error.code}: ${error.details}`, {
      cause: error,
    });
    this.code = error.code;
    this.details = error.details;
    this.method = method;
  }
}

export type PodInput = {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly runtimeHandler: string;
  readonly attempt?: number;
  readonly hostname?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly cgroupParent?: string;
  readonly logDirectory?: string;
  readonly hostNetwork?: boolean;
  /** The pod's user namespace: what the node calls its root, and how many ids it has. Its containers and volumes have it too. */
  readonly userNamespace?: IdRange;
  /** All containers in one pid namespace. */
  readonly sharedPid?: boolean;
  readonly runAsUser?: number;
  readonly portMappings?: readonly PortMapping[];
  readonly dns?: { readonly servers?: readonly string[]; readonly searches?: readonly string[] };
};

export type IdRange = { readonly hostId: number; readonly length: number };

export type PortMapping = {
  readonly containerPort: number;
  /** Passed on to CNI; the test network has no port-mapping plugin, so it has no effect on the host. */
  readonly hostPort?: number;
  readonly protocol?: 'TCP' | 'UDP';
};

export type ContainerInput = {
  /** Container name in the pod; default `main`. */
  readonly name?: string;
  readonly attempt?: number;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly workingDir?: string;
  readonly envs?: Readonly<Record<string, string>>;
  readonly mounts?: readonly HostMount[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** File below the pod's log directory; default `NAME/ATTEMPT.log`. */
  readonly logPath?: string;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
  readonly tty?: boolean;
  readonly resources?: Resources;
  readonly runAsUser?: number;
  readonly runAsGroup?: number;
  readonly supplementalGroups?: readonly number[];
  /** Capabilities without `CAP_`; `ALL` for all of them. */
  readonly capabilities?: { readonly add?: readonly string[]; readonly drop?: readonly string[] };
  readonly noNewPrivileges?: boolean;
  readonly readonlyRootfs?: boolean;
  readonly seccomp?: SecurityProfile;
  readonly apparmor?: SecurityProfile;
  readonly selinux?: SelinuxOptions;
  readonly privileged?: boolean;
  /** In the pod's pid namespace; the pod says so too. */
  readonly sharedPid?: boolean;
};

/** The parts of an SELinux label. */
export type SelinuxOptions = {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  readonly level: string;
};

/** A profile by containerd's own choice, or by its path (seccomp) or name (AppArmor) on the node. */
export type SecurityProfile = 'RuntimeDefault' | 'Unconfined' | { readonly localhost: string };

export type HostMount = {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readonly?: boolean;
  /** Whether the folder is given the container's SELinux label. */
  readonly relabel?: boolean;
};

/** Linux limits as kubelet sends them. */
export type Resources = {
  /** Microseconds. */
  readonly cpuPeriod?: number;
  /** Microseconds per period. */
  readonly cpuQuota?: number;
  readonly cpuShares?: number;
  /** Bytes. */
  readonly memoryLimit?: number;
  readonly oomScoreAdj?: number;
};

export type PodState = 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
export type PodSummary = {
  readonly id: string;
  readonly state: PodState;
  readonly metadata: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly runtime_handler: string;
  readonly labels: Readonly<Record<string, string>>;
};
export type PodStatus = PodSummary & {
  readonly created_at: number;
  readonly network: { readonly ip: string } | null;
  readonly annotations: Readonly<Record<string, string>>;
};

export type ContainerState =
  | 'CONTAINER_CREATED'
  | 'CONTAINER_RUNNING'
  | 'CONTAINER_EXITED'
  | 'CONTAINER_UNKNOWN';
export type ContainerSummary = {
  readonly id: string;
  readonly pod_sandbox_id: string;
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly state: ContainerState;
};
/** Times are nanoseconds since 1970, rounded to a double; 0 when not yet. */
export type ContainerStatus = {
  readonly id: string;
  readonly state: ContainerState;
  readonly created_at: number;
  readonly started_at: number;
  readonly finished_at: number;
  readonly exit_code: number;
  readonly reason: string;
  readonly message: string;
  readonly image_ref: string;
  readonly log_path: string;
};

type Wrapped = { readonly value: number } | null;
export type ContainerStats = {
  readonly attributes: { readonly id: string };
  readonly cpu: { readonly timestamp: number; readonly usage_core_nano_seconds: Wrapped } | null;
  readonly memory: {
    readonly timestamp: number;
    readonly working_set_bytes: Wrapped;
    readonly usage_bytes: Wrapped;
    readonly rss_bytes: Wrapped;
  } | null;
};

export type ImageRecord = {
  readonly id: string;
  readonly repo_tags: string[];
  readonly repo_digests: string[];
};
export type ExecResult = { readonly exitCode: number; readonly stdout: Buffer; readonly stderr: Buffer };

type CallOptions = { readonly deadlineMs?: number };

/** A client for containerd's CRI plugin, acting like kubelet. Every failed call rejects with a `CriError`. */
export class CriClient {
  readonly #client: Client;
  readonly #methods = new Map<string, MethodDefinition<object, object>>();
  /** createContainer needs the pod's own config again. */
  readonly #podConfigs = new Map<string, { readonly config: object; readonly input: PodInput }>();

  /** @param address path of containerd's gRPC socket */
  constructor(address: string) {
    const definition = loadSync(protoFile, {
      keepCase: true,
      longs: Number,
      enums: String,
      defaults: true,
      arrays: true,
      objects: true,
    });
    for (const service of ['RuntimeService', 'ImageService']) {
      const methods = definition[`runtime.v1.${service}`] as Record<string, MethodDefinition<object, object>>;
      for (const [name, method] of Object.entries(methods)) this.#methods.set(name, method);
    }
    this.#client = new Client(`unix:${address}`, credentials.createInsecure(), {
      'grpc.initial_reconnect_backoff_ms': 20,
      'grpc.max_reconnect_backoff_ms': 200,
      'grpc.max_receive_message_length': 64 * 1024 * 1024,
    });
  }

  close(): void {
    this.#client.close();
  }

  async version(
    options?: CallOptions,
  ): Promise<{ readonly runtime_name: string; readonly runtime_version: string }> {
    return this.#call('Version', { version: 'v1' }, options);
  }

  /** Conditions such as `RuntimeReady` and `NetworkReady`, by type. */
  async conditions(options?: CallOptions): Promise<Map<string, boolean>> {
    type Answer = { status: { conditions: { type: string; status: boolean }[] } };
    const answer = await this.#call<Answer>('Status', {}, options);
    return new Map(answer.status.conditions.map((condition) => [condition.type, condition.status]));
  }

  /** Whether a runtime handler takes pods in user namespaces; false of a containerd that does not tell. */
  async takesUserNamespaces(handler: string): Promise<boolean> {
    type Handler = { name: string; features: { user_namespaces: boolean } | null };
    const { runtime_handlers } = await this.#call<{ runtime_handlers: Handler[] }>('Status', {});
    return runtime_handlers.some(({ name, features }) => name === handler && features?.user_namespaces);
  }

  /** Creates and starts a pod; gives its id. */
  async runPod(input: PodInput, options?: CallOptions): Promise<string> {
    const config = podConfig(input);
    const request = { config, runtime_handler: input.runtimeHandler };
    const answer = await this.#call<{ pod_sandbox_id: string }>('RunPodSandbox', request, options);
    this.#podConfigs.set(answer.pod_sandbox_id, { config, input });
    return answer.pod_sandbox_id;
  }

  async stopPod(podId: string, options?: CallOptions): Promise<void> {
    await this.#call('StopPodSandbox', { pod_sandbox_id: podId }, options);
  }

  async removePod(podId: string, options?: CallOptions): Promise<void> {
    await this.#call('RemovePodSandbox', { pod_sandbox_id: podId }, options);
    this.#podConfigs.delete(podId);
  }

  async podStatus(podId: string, options?: CallOptions): Promise<PodStatus> {
    const request = { pod_sandbox_id: podId };
    return (await this.#call<{ status: PodStatus }>('PodSandboxStatus', request, options)).status;
  }

  /** The pod's address; fails for a pod without one (host network, or stopped). */
  async podIp(podId: string): Promise<string> {
    const ip = (await this.podStatus(podId)).network?.ip;
    if (ip === undefined || ip === '') throw new Error(`pod "${podId}" has no address`);
    return ip;
  }

  async listPods(options?: CallOptions): Promise<PodSummary[]> {
    return (await this.#call<{ items: PodSummary[] }>('ListPodSandbox', {}, options)).items;
  }

  /** Creates a container in a pod that this client started; gives its id. */
  async createContainer(podId: string, input: ContainerInput, options?: CallOptions): Promise<string> {
    const pod = this.#podConfigs.get(podId);
    if (pod === undefined) throw new Error(`pod "${podId}" was not started by this client`);
    const request = {
      pod_sandbox_id: podId,
      config: containerConfig(input, pod.input.userNamespace),
      sandbox_config: pod.config,
    };
    return (await this.#call<{ container_id: string }>('CreateContainer', request, options)).container_id;
  }

  async start(containerId: string, options?: CallOptions): Promise<void> {
    await this.#call('StartContainer', { container_id: containerId }, options);
  }

  /** @param timeoutSec seconds between the stop signal and SIGKILL */
  async stop(containerId: string, timeoutSec = 0, options?: CallOptions): Promise<void> {
    await this.#call('StopContainer', { container_id: containerId, timeout: timeoutSec }, options);
  }

  async remove(containerId: string, options?: CallOptions): Promise<void> {
    await this.#call('RemoveContainer', { container_id: containerId }, options);
  }

  async status(containerId: string, options?: CallOptions): Promise<ContainerStatus> {
    const request = { container_id: containerId };
    return (await this.#call<{ status: ContainerStatus }>('ContainerStatus', request, options)).status;
  }

  /** containerd's own verbose record: `info` holds JSON with pid, spec, snapshot key. */
  async verboseStatus(containerId: string): Promise<Readonly<Record<string, string>>> {
    const request = { container_id: containerId, verbose: true };
    return (await this.#call<{ info: Record<string, string> }>('ContainerStatus', request)).info;
  }

  async listContainers(podId?: string): Promise<ContainerSummary[]> {
    const request = podId === undefined ? {} : { filter: { pod_sandbox_id: podId } };
    return (await this.#call<{ containers: ContainerSummary[] }>('ListContainers', request)).containers;
  }

  async stats(containerId: string, options?: CallOptions): Promise<ContainerStats> {
    const request = { container_id: containerId };
    return (await this.#call<{ stats: ContainerStats }>('ContainerStats', request, options)).stats;
  }

  async listStats(podId?: string): Promise<ContainerStats[]> {
    const request = podId === undefined ? {} : { filter: { pod_sandbox_id: podId } };
    return (await this.#call<{ stats: ContainerStats[] }>('ListContainerStats', request)).stats;
  }

  /** @param timeoutSec seconds until the server kills the command; 0 is no limit */
  async execSync(containerId: string, command: readonly string[], timeoutSec = 10): Promise<ExecResult> {
    const request = { container_id: containerId, cmd: command, timeout: timeoutSec };
    type Answer = { exit_code: number; stdout: Buffer; stderr: Buffer };
    const answer = await this.#call<Answer>('ExecSync', request);
    return { exitCode: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr };
  }

  async updateResources(containerId: string, resources: Resources): Promise<void> {
    const request = { container_id: containerId, linux: linuxResources(resources) };
    await this.#call('UpdateContainerResources', request);
  }

  /** Pulls an image; gives its id (digest of the config). */
  async pull(image: string, options: CallOptions = { deadlineMs: 120_000 }): Promise<string> {
    return (await this.#call<{ image_ref: string }>('PullImage', { image: { image } }, options)).image_ref;
  }

  async imageStatus(image: string): Promise<ImageRecord | undefined> {
    const answer = await this.#call<{ image: ImageRecord | null }>('ImageStatus', { image: { image } });
    return answer.image ?? undefined;
  }

  async listImages(): Promise<ImageRecord[]> {
    return (await this.#call<{ images: ImageRecord[] }>('ListImages', {})).images;
  }

  async removeImage(image: string): Promise<void> {
    await this.#call('RemoveImage', { image: { image } });
  }

  /** The caller names the answer's shape; it is that of `proto/cri.proto` with defaults filled in. */
  #call<Answer>(
    name: string,
    request: object,
    { deadlineMs = defaultDeadlineMs }: CallOptions = {},
  ): Promise<Answer> {
    const method = this.#methods.get(name);
    if (method === undefined) throw new Error(`proto/cri.proto has no method "${name}"`);
    const metadata = new Metadata({ waitForReady: true });
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
        { deadline: Date.now() + deadlineMs * timeScale },
        (error, answer) => {
          if (error !== null) reject(new CriError(name, error));
          else resolve(answer as Answer);
        },
      );
    });
  }
}

function podConfig(input: PodInput): object {
  const { name, namespace = 'default', uid = `${name}-uid`, attempt = 0 } = input;
  const options = {
    network: input.hostNetwork === true ? 'NODE' : 'POD',
    pid: input.sharedPid === true ? 'POD' : 'CONTAINER',
    userns_options: userNamespaceOptions(input.userNamespace),
  };
  return {
    metadata: { name, namespace, uid, attempt },
    hostname: input.hostNetwork === true ? '' : (input.hostname ?? name),
    log_directory: input.logDirectory ?? '',
    labels: {
      'io.kubernetes.pod.name': name,
      'io.kubernetes.pod.namespace': namespace,
      'io.kubernetes.pod.uid': uid,
      ...input.labels,
    },
    annotations: input.annotations ?? {},
    dns_config: input.dns ?? null,
    port_mappings: (input.portMappings ?? []).map((port) => ({
      protocol: port.protocol ?? 'TCP',
      container_port: port.containerPort,
      host_port: port.hostPort ?? 0,
    })),
    linux: {
      cgroup_parent: input.cgroupParent ?? '',
      security_context: {
        namespace_options: options,
        run_as_user: wrapped(input.runAsUser),
      },
    },
  };
}

function containerConfig(input: ContainerInput, userNamespace: IdRange | undefined): object {
  const { name = 'main', attempt = 0 } = input;
  return {
    metadata: { name, attempt },
    image: { image: input.image },
    command: input.command ?? [],
    args: input.args ?? [],
    working_dir: input.workingDir ?? '',
    envs: Object.entries(input.envs ?? {}).map(([key, value]) => ({ key, value })),
    mounts: (input.mounts ?? []).map((mount) => ({
      container_path: mount.containerPath,
      host_path: mount.hostPath,
      readonly: mount.readonly ?? false,
      selinux_relabel: mount.relabel ?? false,
      uidMappings: idMappings(userNamespace),
      gidMappings: idMappings(userNamespace),
    })),
    labels: { 'io.kubernetes.container.name': name, ...input.labels },
    annotations: input.annotations ?? {},
    log_path: input.logPath ?? `${name}/${attempt}.log`,
    stdin: input.stdin ?? false,
    stdin_once: input.stdinOnce ?? false,
    tty: input.tty ?? false,
    linux: {
      resources: linuxResources(input.resources ?? {}),
      security_context: {
        privileged: input.privileged ?? false,
        readonly_rootfs: input.readonlyRootfs ?? false,
        run_as_user: wrapped(input.runAsUser),
        run_as_group: wrapped(input.runAsGroup),
        supplemental_groups: input.supplementalGroups ?? [],
        capabilities: {
          add_capabilities: input.capabilities?.add ?? [],
          drop_capabilities: input.capabilities?.drop ?? [],
        },
        no_new_privs: input.noNewPrivileges ?? false,
        seccomp: securityProfile(input.seccomp),
        apparmor: securityProfile(input.apparmor),
        selinux_options: input.selinux ?? null,
        namespace_options: {
          pid: input.sharedPid === true ? 'POD' : 'CONTAINER',
          userns_options: userNamespaceOptions(userNamespace),
        },
      },
    },
  };
}

function idMappings(range: IdRange | undefined): readonly object[] {
  return range === undefined ? [] : [{ host_id: range.hostId, container_id: 0, length: range.length }];
}

function userNamespaceOptions(range: IdRange | undefined): object | null {
  return range === undefined ? null : { mode: 'POD', uids: idMappings(range), gids: idMappings(range) };
}

function securityProfile(profile: SecurityProfile | undefined): object | null {
  if (profile === undefined) return null;
  return typeof profile === 'string'
    ? { profile_type: profile }
    : { profile_type: 'Localhost', localhost_ref: profile.localhost };
}

function linuxResources(resources: Resources): object {
  return {
    cpu_period: resources.cpuPeriod ?? 0,
    cpu_quota: resources.cpuQuota ?? 0,
    cpu_shares: resources.cpuShares ?? 0,
    memory_limit_in_bytes: resources.memoryLimit ?? 0,
    oom_score_adj: resources.oomScoreAdj ?? 0,
  };
}

/** proto3's way to tell "0" from "not given". */
function wrapped(value: number | undefined): { value: number } | null {
  return value === undefined ? null : { value };
}
