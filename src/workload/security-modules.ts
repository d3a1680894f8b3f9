import { closeSync, constants, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ShimError } from '../error.ts';
import type { Spec } from './spec.ts';

/**
 * What a container asks of AppArmor and SELinux, checked against what the node has. As under runc, a container that asks for
 * what there is not does not run.
 */

/**
 * The AppArmor profile that a container's engine is to take; undefined where none is asked for. `sys` is where sysfs is mounted.
 * Throws `failed-precondition` where the node has no AppArmor, or not that profile.
 */
export function appArmorProfileOf(
  { appArmorProfile: name }: Pick<Spec, 'appArmorProfile'>,
  sys = '/sys',
): string | undefined {
  if (name === '') return undefined;
  const what = `the container asks for the AppArmor profile "${name}"`;
  if (readText(join(sys, 'module/apparmor/parameters/enabled'))?.startsWith('Y') !== true)
    throw new ShimError('failed-precondition', `${what}, and this node has no AppArmor`);
  const loaded = readText(join(sys, 'kernel/security/apparmor/profiles'));
  // Where the list cannot be read, or the name is one of several or in a namespace, the kernel says what is missing.
  const isPlain = name !== 'unconfined' && !name.startsWith(':') && !name.includes('//');
  if (loaded === undefined || !isPlain || loaded.split('\n').some((line) => line.startsWith(`${name} (`)))
    return name;
  throw new ShimError(
    'failed-precondition',
    `${what}, which is not loaded on this node: load it with apparmor_parser`,
  );
}

/** What a container asks of SELinux. */
export type Labels = {
  /** Label that its engine is executed with. */
  readonly process: string;
  /** Label of files that are the container's own; undefined leaves theirs. */
  readonly files: string | undefined;
};

/**
 * The SELinux labels of a container; undefined where it has none. `sys` is where sysfs is mounted. Throws
 * `failed-precondition` where the node has no SELinux, or a policy without that label.
 */
export function labelsOf(
  { selinuxLabel: label, mountLabel }: Pick<Spec, 'selinuxLabel' | 'mountLabel'>,
  sys = '/sys',
): Labels | undefined {
  if (label === '') return undefined;
  const what = `the container asks for the SELinux label "${label}"`;
  const folder = join(sys, 'fs/selinux');
  if (!existsSync(join(folder, 'enforce')))
    throw new ShimError('failed-precondition', `${what}, and this node has no SELinux`);
  if (!isKnownLabel(join(folder, 'context'), label))
    throw new ShimError(
      'failed-precondition',
      `${what}, which is not in this node's policy: load the module that has it, or choose another (seLinuxOptions)`,
    );
  return { process: label, files: mountLabel === '' ? undefined : mountLabel };
}

/** Asks the kernel, whose file takes labels of the loaded policy only; true where it may not be asked. */
function isKnownLabel(file: string, label: string): boolean {
  try {
    const fd = openSync(file, constants.O_RDWR);
    try {
      writeSync(fd, label);
      return true;
    } finally {
      closeSync(fd);
    }
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== 'EINVAL';
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
