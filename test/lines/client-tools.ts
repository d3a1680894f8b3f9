import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** A client of a node, or a suite of tests for one, built from the Go module proxy. */
export type ClientTool = {
  readonly name: string;
  readonly module: string;
  readonly version: string;
  /** Package in the module, and whether it is a program or a suite of tests that is compiled. */
  readonly source: string;
  readonly kind: 'program' | 'tests';
  /** Set where the module cannot be built as the proxy has it: a module around it is made then. */
  readonly around?: {
    /** File of the module that lists what it requires, in go.mod's form, where Go does not read it by itself. */
    readonly requirements?: string;
    /** Version at which the proxy has the modules that the repository replaces by folders of its own. */
    readonly replaced?: string;
  };
  /** Linker flags besides `-s -w`. */
  readonly linker?: string;
  /** Whether C is compiled with it. */
  readonly cgo?: boolean;
  /** Build tags. */
  readonly tags?: string;
  /** Not built unless it is named: it takes a quarter of an hour. */
  readonly onlyNamed?: boolean;
};

/** What Docker 29 is built of; its module has tags like this one and no releases. */
const moby = { module: 'github.com/moby/moby/v2', version: 'v2.0.0-beta.24' } as const;

/** A Docker daemon of the releases that are a module of their own, the newest of each that the proxy has. */
function dockerd(name: string, release: string): ClientTool {
  return {
    name,
    module: 'github.com/docker/docker',
    version: `v${release}+incompatible`,
    source: './cmd/dockerd',
    kind: 'program',
    around: { requirements: 'vendor.mod' },
    linker: `-X github.com/docker/docker/dockerversion.Version=${release}`,
    tags: 'exclude_graphdriver_btrfs',
    onlyNamed: name !== 'dockerd',
  };
}

/** The tests of containerd's Go client, of the lines whose module has them. */
function clientSuite(line: string, version: string): ClientTool {
  return {
    name: `client-suite-${line}`,
    module: 'github.com/containerd/containerd/v2',
    version,
    source: './integration/client',
    kind: 'tests',
    tags: 'no_btrfs,no_devmapper,no_zfs',
    onlyNamed: line !== '2.3',
  };
}

/** A program of Kubernetes. Its repository has the modules it is made of as folders, the proxy as modules of their own. */
function kubernetes(name: string): ClientTool {
  return {
    name,
    module: 'k8s.io/kubernetes',
    version: 'v1.34.4',
    source: `./cmd/${name}`,
    kind: 'program',
    around: { requirements: 'go.mod', replaced: 'v0.34.4' },
    linker: ['gitVersion=v1.34.4', 'gitMajor=1', 'gitMinor=34']
      .map((value) => `-X k8s.io/component-base/version.${value}`)
      .join(' '),
    onlyNamed: true,
  };
}

/** The tools at the releases they are used with; Go's checksum database vouches for them. */
export const clientTools: readonly ClientTool[] = [
  {
    name: 'nerdctl',
    module: 'github.com/containerd/nerdctl',
    version: 'v1.7.7',
    source: './cmd/nerdctl',
    kind: 'program',
  },
  {
    name: 'crictl',
    module: 'sigs.k8s.io/cri-tools',
    version: 'v1.37.0',
    source: './cmd/crictl',
    kind: 'program',
  },
  {
    // 1.2 and later map the ids of volumes; Debian 12 has 1.1.5.
    name: 'runc',
    module: 'github.com/opencontainers/runc',
    version: 'v1.3.5',
    source: '.',
    kind: 'program',
    cgo: true,
    linker: '-X main.version=1.3.5',
    tags: 'seccomp',
  },
  {
    name: 'critest',
    module: 'sigs.k8s.io/cri-tools',
    version: 'v1.37.0',
    source: './cmd/critest',
    kind: 'tests',
  },
  {
    name: 'docker',
    module: 'github.com/docker/cli',
    version: 'v28.5.2+incompatible',
    source: './cmd/docker',
    kind: 'program',
    around: { requirements: 'vendor.mod' },
    linker: '-X github.com/docker/cli/cli/version.Version=28.5.2',
  },
  dockerd('dockerd', '28.5.2'),
  dockerd('dockerd-25', '25.0.6'),
  dockerd('dockerd-26', '26.1.4'),
  dockerd('dockerd-27', '27.5.0'),
  {
    name: 'dockerd-29',
    module: moby.module,
    version: moby.version,
    source: './cmd/dockerd',
    kind: 'program',
    linker: '-X github.com/moby/moby/v2/dockerversion.Version=29.0.0+v2.0.0-beta.24',
    tags: 'exclude_graphdriver_btrfs',
  },
  {
    name: 'docker-proxy',
    module: moby.module,
    version: moby.version,
    source: './cmd/docker-proxy',
    kind: 'program',
  },
  clientSuite('2.0', 'v2.0.14'),
  clientSuite('2.3', 'v2.3.7'),
  {
    ...clientSuite('2.3', 'v2.3.7'),
    name: 'runc-fp',
    source: './integration/failpoint/cmd/runc-fp',
    kind: 'program',
  },
  ...['kubelet', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl'].map(kubernetes),
  {
    name: 'etcd',
    module: 'go.etcd.io/etcd/server/v3',
    version: 'v3.6.4',
    source: '.',
    kind: 'program',
    around: {},
    onlyNamed: true,
  },
];

/** `$XDG_CACHE_HOME/spinshim-test`: what is built for tests once, outside of the checkout. */
export function testCache(): string {
  const { XDG_CACHE_HOME: given } = process.env;
  return join(given === undefined || given === '' ? join(homedir(), '.cache') : given, 'spinshim-test');
}

/** Where a tool is or would be. */
export function toolPath({ name, version }: ClientTool): string {
  return join(testCache(), 'tools', `${name}-${version}`, name);
}

/** Absolute path of a tool that is built, else undefined. */
export function findTool(name: string): string | undefined {
  const tool = clientTools.find((candidate) => candidate.name === name);
  if (tool === undefined) return undefined;
  const path = toolPath(tool);
  return existsSync(path) ? path : undefined;
}
