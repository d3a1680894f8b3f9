import { posix } from 'node:path';
import { ShimError } from '../error.ts';

/** Where a container's cgroup is, below the root of every hierarchy. */
export type CgroupPath = {
  /** Absolute path below the hierarchy's mount point, normalized. */
  readonly path: string;
  /** The systemd unit it belongs to; undefined for a plain cgroupfs path. */
  readonly unit?: { readonly slice: string; readonly scope: string };
};

/**
 * Reads `linux.cgroupsPath`: `<parent>/<id>` is a path, `<slice>:<prefix>:<name>` a systemd scope below a slice, an
 * empty one becomes `/<id>` (containerd.md 8). The form decides, whatever the runtime's options say. Throws
 * `invalid-argument`.
 */
export function cgroupPathOf(cgroupsPath: string, id: string): CgroupPath {
  const parts = cgroupsPath.split(':');
  if (parts.length === 3) {
    const [slice = '', prefix = '', name = ''] = parts;
    if (name === '' || [slice, prefix, name].some((part) => part.includes('/'))) throw invalid(cgroupsPath);
    const scope = prefix === '' ? `${name}.scope` : `${prefix}-${name}.scope`;
    const parent = slice === '' ? 'system.slice' : slice;
    return { path: posix.join(slicePath(parent, cgroupsPath), scope), unit: { slice: parent, scope } };
  }
  if (parts.length !== 1) throw invalid(cgroupsPath);
  // resolve() keeps ".." from climbing above the root.
  const path = posix.resolve('/', cgroupsPath === '' ? id : cgroupsPath);
  if (path === '/') throw invalid(cgroupsPath);
  return { path };
}

/** `a-b-c.slice` lives in `/a.slice/a-b.slice/a-b-c.slice` (systemd.slice(5)); `-.slice` is the root. */
function slicePath(slice: string, cgroupsPath: string): string {
  if (slice === '-.slice') return '/';
  if (!slice.endsWith('.slice')) throw invalid(cgroupsPath);
  const names = slice.slice(0, -'.slice'.length).split('-');
  if (names.some((name) => name === '')) throw invalid(cgroupsPath);
  const folders = names.map((_, index) => `${names.slice(0, index + 1).join('-')}.slice`);
  return `/${folders.join('/')}`;
}

function invalid(cgroupsPath: string): ShimError {
  return new ShimError(
    'invalid-argument',
    `"linux.cgroupsPath" is "${cgroupsPath}": give "/parent/name" or "some.slice:prefix:name"`,
  );
}
