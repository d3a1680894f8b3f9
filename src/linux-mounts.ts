import { dlopen, getRawPointer } from 'node:ffi';
import { closeSync } from 'node:fs';
import { check } from './linux.ts';

/** Mounts whose files have other ids than on the node, through `node:ffi`. */

const { functions: libc } = dlopen(null, {
  syscall: { arguments: ['int64', 'int64', 'int64', 'int64', 'int64', 'int64'], return: 'int64' },
});

/** The same on x86-64 and arm64. */
const numbers = { openTree: 428n, moveMount: 429n, mountSetattr: 442n } as const;

/** Attributes of a mount (mount_setattr(2)). */
const attributes = { readOnly: 1n, mapped: 0x100000n } as const;

/** AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE. */
const [workingDirectory, emptyPath, recursive] = [-100n, 0x1000n, 0x8000n];

export type MappedMount = {
  /** Descriptor of the user namespace whose ids the files are to have. */
  readonly namespace: number;
  /** What becomes of mounts below the source. */
  readonly below: 'left' | 'taken' | 'mapped';
  readonly readOnly: boolean;
};

/**
 * Mounts what is at `source` on `target`, a file or directory that is there, with the ids of a user namespace: what belongs to 0 on
 * the node belongs there to whom the namespace calls 0, and what that one writes belongs to 0 on the node. Throws `internal`
 * where the kernel or the file system has no such mounts, or `permission-denied`.
 */
export function mountMapped(
  source: string,
  target: string,
  { namespace, below, readOnly }: MappedMount,
): void {
  const [clone, closeOnExec] = [1n, 0o2000000n];
  const taken = below === 'left' ? 0n : recursive;
  const [from, to, empty] = [Buffer.from(`${source}\0`), Buffer.from(`${target}\0`), Buffer.alloc(1)];
  const opened = libc.syscall(
    numbers.openTree,
    workingDirectory,
    getRawPointer(from),
    clone | closeOnExec | taken,
    0n,
    0n,
  );
  const tree = check(Number(opened), `opening the mount "${source}"`);
  try {
    const set = (attribute: bigint, flags: bigint, fd = 0): void => {
      const request = Buffer.alloc(32);
      request.writeBigUInt64LE(attribute, 0);
      request.writeBigUInt64LE(BigInt(fd), 24);
      const result = libc.syscall(
        numbers.mountSetattr,
        BigInt(tree),
        getRawPointer(empty),
        emptyPath | flags,
        getRawPointer(request),
        BigInt(request.length),
      );
      check(Number(result), `setting attributes of the mount "${source}"`);
    };
    set(attributes.mapped, below === 'mapped' ? recursive : 0n, namespace);
    if (readOnly) set(attributes.readOnly, taken);
    const fromEmptyPath = 4n;
    const moved = libc.syscall(
      numbers.moveMount,
      BigInt(tree),
      getRawPointer(empty),
      workingDirectory,
      getRawPointer(to),
      fromEmptyPath,
    );
    check(Number(moved), `mounting "${source}" on "${target}"`);
  } finally {
    closeSync(tree);
  }
}
