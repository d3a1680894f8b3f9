import { existsSync, readFileSync } from 'node:fs';
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

/**
 * Throws for a container with an SELinux label: `failed-precondition` where the node has no SELinux, `unsupported` where it has.
 * The kernel lets a process with threads take another label only where the policy bounds it by the one it has.
 */
export function assertNoLabel({ selinuxLabel: label }: Pick<Spec, 'selinuxLabel'>, sys = '/sys'): void {
  if (label === '') return;
  const what = `the container asks for the SELinux label "${label}"`;
  if (!existsSync(join(sys, 'fs/selinux/enforce')))
    throw new ShimError('failed-precondition', `${what}, and this node has no SELinux`);
  throw new ShimError(
    'unsupported',
    `${what}, which an engine cannot take: leave seLinuxOptions out of the pod, or enable_selinux out of containerd's configuration`,
  );
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
