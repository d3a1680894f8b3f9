import type { CallFilter, EngineSecurity } from '../engine/engine-process.ts';
import { ShimError } from '../error.ts';
import { capabilities, fileCapabilities } from '../linux-rights.ts';
import { machine } from '../system-calls.ts';
import { parseSeccomp } from './seccomp-profile.ts';
import { seccompProgram } from './seccomp-program.ts';
import type { Spec, SpecIdMapping, SpecRlimit } from './spec.ts';

/** Numbers of setrlimit(2). */
const resources: ReadonlyMap<string, number> = new Map([
  ['RLIMIT_CPU', 0],
  ['RLIMIT_FSIZE', 1],
  ['RLIMIT_DATA', 2],
  ['RLIMIT_STACK', 3],
  ['RLIMIT_CORE', 4],
  ['RLIMIT_RSS', 5],
  ['RLIMIT_NPROC', 6],
  ['RLIMIT_NOFILE', 7],
  ['RLIMIT_MEMLOCK', 8],
  ['RLIMIT_AS', 9],
  ['RLIMIT_LOCKS', 10],
  ['RLIMIT_SIGPENDING', 11],
  ['RLIMIT_MSGQUEUE', 12],
  ['RLIMIT_NICE', 13],
  ['RLIMIT_RTPRIO', 14],
  ['RLIMIT_RTTIME', 15],
]);

/** V8 reserves terabytes of address space for linear memories that it never uses. */
const notApplied = 'RLIMIT_AS';

export type SecurityContext = {
  readonly security: EngineSecurity;
  /** What of the container's wishes is not done, a line each. */
  readonly warnings: readonly string[];
};

/**
 * What a container's spec leaves its engine. Capabilities stay only if the app is given volumes (`hasVolumes`), and of them
 * only those that bear on files: root in a container may read a volume's files whoever owns them, as everywhere but in a user
 * namespace. Throws `invalid-argument` for an id that the container's user namespace does not have.
 */
export function securityOf(spec: Spec, hasVolumes: boolean): SecurityContext {
  const names = new Set(spec.uid === 0 ? spec.effectiveCapabilities : spec.ambientCapabilities);
  const granted = new Set<number>(
    Object.entries(capabilities).flatMap(([name, number]) => (names.has(name) ? [number] : [])),
  );
  // They would bear on the node's files, whoever owns them; root of a user namespace may no more than its ids.
  const isMapped = spec.uidMappings.length > 0;
  const applied = spec.rlimits.filter(({ type }) => resources.has(type) && type !== notApplied);
  return {
    security: {
      uid: onNode(spec.uid, spec.uidMappings, 'user'),
      gid: onNode(spec.gid, spec.gidMappings, 'group'),
      groups: [...new Set(spec.additionalGids)].map((gid) => onNode(gid, spec.gidMappings, 'group')),
      capabilities:
        hasVolumes && !isMapped ? fileCapabilities.filter((capability) => granted.has(capability)) : [],
      limits: applied.map(({ type, soft, hard }) => ({ resource: resources.get(type) ?? 0, soft, hard })),
    },
    warnings: spec.rlimits.filter((limit) => !applied.includes(limit)).map(explainLimit),
  };
}

/**
 * The seccomp profile of a container for its engine, where it has one. Throws `invalid-argument` for one that is none, `unsupported`
 * for one that cannot hold here.
 */
export function callFilterOf(spec: Spec): CallFilter | undefined {
  const profile = parseSeccomp(spec.seccomp);
  if (profile === undefined) return undefined;
  return { program: seccompProgram(profile, machine), isLogged: profile.isLogged };
}

function explainLimit({ type }: SpecRlimit): string {
  return type === notApplied
    ? 'RLIMIT_AS is not applied: WebAssembly memories take address space far beyond what they use; limit memory instead (resources.limits.memory)'
    : `the resource limit "${type}" is not known and not applied`;
}

/** An id of the container as the node counts it. */
function onNode(id: number, mappings: readonly SpecIdMapping[], kind: 'user' | 'group'): number {
  if (mappings.length === 0) return id;
  const range = mappings.find(({ containerId, size }) => id >= containerId && id < containerId + size);
  if (range !== undefined) return range.hostId + id - range.containerId;
  throw new ShimError(
    'invalid-argument',
    `${kind} ${id} of the container is not in its user namespace: choose one below ${mappings.reduce((end, { containerId, size }) => Math.max(end, containerId + size), 0)} (securityContext)`,
  );
}
