/** The node's cgroup file systems: one per (group of) controllers on version 1, a single one on version 2. */
export type CgroupHierarchies =
  | { readonly version: 1; readonly mounts: readonly CgroupMount[] }
  | { readonly version: 2; readonly mountPoint: string };

/** One version 1 hierarchy; no controllers for a named one such as systemd's. */
export type CgroupMount = { readonly mountPoint: string; readonly controllers: readonly string[] };

/** Controllers of version 1 as they stand in the mount's options. */
const controllerNames = new Set([
  'blkio',
  'cpu',
  'cpuacct',
  'cpuset',
  'devices',
  'freezer',
  'hugetlb',
  'memory',
  'misc',
  'net_cls',
  'net_prio',
  'perf_event',
  'pids',
  'rdma',
]);

/**
 * Finds the hierarchies in the text of /proc/self/mountinfo (proc(5)). A node that has both versions mounted keeps
 * its controllers in version 1. Undefined if there is none.
 */
export function parseCgroupMounts(mountinfo: string): CgroupHierarchies | undefined {
  const byMountPoint = new Map<string, CgroupMount>();
  let unified: string | undefined;
  for (const line of mountinfo.split('\n')) {
    const [front = '', back = ''] = line.split(' - ');
    const mountPoint = unescapeOctal(front.split(' ')[4] ?? '');
    const [type, , superOptions = ''] = back.split(' ');
    if (mountPoint === '') continue;
    if (type === 'cgroup2') unified ??= mountPoint;
    if (type !== 'cgroup') continue;
    const controllers = superOptions.split(',').filter((option) => controllerNames.has(option));
    byMountPoint.set(mountPoint, { mountPoint, controllers });
  }
  if (byMountPoint.size > 0) return { version: 1, mounts: [...byMountPoint.values()] };
  return unified === undefined ? undefined : { version: 2, mountPoint: unified };
}

/** mountinfo writes blank, tab, newline and backslash as three octal digits. */
function unescapeOctal(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
