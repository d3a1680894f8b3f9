import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { testCache } from '../lines/client-tools.ts';
import { guestScript, guestUnit, unitName } from './vm-guest.ts';

/** Debian's packages in the machine: what boots it and what the tests need (build/setup.sh). */
const packages = [
  'apparmor',
  'ca-certificates',
  'checkpolicy',
  'containerd',
  'containernetworking-plugins',
  'dbus',
  'docker-registry',
  'gcc',
  'git',
  'iproute2',
  'kmod',
  'libc6-dev',
  'linux-image-cloud-amd64',
  'make',
  'policycoreutils',
  'procps',
  'runc',
  'selinux-policy-default',
  'selinux-policy-dev',
  'selinux-policy-src',
  'selinux-utils',
  'semodule-utils',
  'systemd-sysv',
  'zstd',
];

const release = 'bookworm';
const rootSize = '3G';
/** Blocks kept free for no one in particular: none. */
const reservedPercent = '0';

/** What Debian's SELinux policy lacks of the one that nodes have, and what we add to either. */
const policyModules = [
  join(import.meta.dirname, 'selinux.cil'),
  join(import.meta.dirname, '..', '..', 'deploy', 'selinux', 'spinshim.cil'),
];

/** What QEMU boots: the kernel from outside of the disk, so that no boot loader is needed. */
export type VmImage = { readonly kernel: string; readonly initrd: string; readonly root: string };

/** Folder of the images; outside the checkout, kept over runs. */
function cacheFolder(): string {
  return join(testCache(), 'node-vm');
}

/**
 * A Debian machine with systemd, the unified cgroup hierarchy and containerd, made by `mmdebstrap` from the package
 * archive this machine uses; made once for what decides its content. Needs root. Throws what the tools print.
 */
export function vmImage(): VmImage {
  const key = createHash('sha256')
    .update(
      JSON.stringify([
        release,
        rootSize,
        packages,
        guestUnit,
        guestScript,
        ...policyModules.map((file) => readFileSync(file, 'utf8')),
      ]),
    )
    .digest('hex')
    .slice(0, 16);
  const folder = join(cacheFolder(), key);
  const image = {
    kernel: join(folder, 'vmlinuz'),
    initrd: join(folder, 'initrd'),
    root: join(folder, 'root.ext4'),
  };
  if (existsSync(image.root)) return image;
  mkdirSync(cacheFolder(), { recursive: true });
  for (const name of readdirSync(cacheFolder())) rmSync(join(cacheFolder(), name), { recursive: true });
  const draft = mkdtempSync(join(cacheFolder(), 'draft-'));
  try {
    const tree = join(draft, 'tree');
    console.error(`node-vm: making a Debian ${release} machine from packages (a minute or two)`);
    execFileSync(
      'mmdebstrap',
      ['--quiet', '--variant=minbase', `--include=${packages.join(',')}`, release, tree],
      {
        stdio: ['ignore', 'inherit', 'inherit'],
      },
    );
    installGuest(tree);
    labelFiles(tree);
    const [kernel] = readdirSync(join(tree, 'boot')).filter((name) => name.startsWith('vmlinuz'));
    const [initrd] = readdirSync(join(tree, 'boot')).filter((name) => name.startsWith('initrd'));
    if (kernel === undefined || initrd === undefined) throw new Error('the machine has no kernel in /boot');
    renameSync(join(tree, 'boot', kernel), join(draft, 'vmlinuz'));
    renameSync(join(tree, 'boot', initrd), join(draft, 'initrd'));
    makeDisk(tree, join(draft, 'root.ext4'), rootSize);
    rmSync(tree, { recursive: true });
    renameSync(draft, folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return image;
}

/** An ext4 disk image with the content of a folder. */
export function makeDisk(folder: string, file: string, size: string): void {
  const flags = ['-q', '-t', 'ext4', '-m', reservedPercent, '-d', folder];
  execFileSync('mke2fs', [...flags, file, size], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Has the tests run once the machine is up, and nothing else that a package would start. */
function installGuest(tree: string): void {
  const units = join(tree, 'etc', 'systemd', 'system');
  writeFileSync(join(units, unitName), guestUnit);
  writeFileSync(join(tree, 'usr', 'local', 'bin', 'spinshim-tests'), guestScript, { mode: 0o755 });
  mkdirSync(join(tree, 'project'));
  const systemctl = (...args: string[]): void => {
    execFileSync('systemctl', ['--root', tree, '--quiet', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  };
  systemctl('enable', unitName);
  systemctl(
    'mask',
    'containerd.service',
    'docker-registry.service',
    'apt-daily.timer',
    'apt-daily-upgrade.timer',
  );
}

/**
 * Puts modules into the SELinux policy, and labels every file by it: that of containers, which Debian has as source
 * alone, and ours. The policy is in force only where the kernel is told so.
 */
function labelFiles(tree: string): void {
  const inside = (command: string): void => {
    execFileSync('chroot', [tree, 'sh', '-ec', command], { stdio: ['ignore', 'ignore', 'inherit'] });
  };
  writeFileSync(join(tree, 'etc', 'selinux', 'config'), 'SELINUX=permissive\nSELINUXTYPE=default\n');
  mkdirSync(join(tree, 'tmp', 'policy'));
  for (const module of policyModules) cpSync(module, join(tree, 'tmp', 'policy', basename(module)));
  inside(`cd /tmp/policy
    tar --extract --zstd --file /usr/src/selinux-policy-src.tar.zst --strip-components 4 \\
      selinux-policy-src/policy/modules/services/container.te selinux-policy-src/policy/modules/services/container.fc
    make AWK=awk --file /usr/share/selinux/devel/Makefile container.pp
    semodule --noreload --install container.pp ${policyModules.map((file) => basename(file)).join(' ')}
    rm -r /tmp/policy`);
  const proc = join(tree, 'proc');
  execFileSync('mount', ['-t', 'proc', 'proc', proc]);
  try {
    inside('setfiles -F /etc/selinux/default/contexts/files/file_contexts /');
  } finally {
    execFileSync('umount', [proc]);
  }
}
