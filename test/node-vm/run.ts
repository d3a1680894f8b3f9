/**
 * `make node-vm` (`TESTS='PATTERN …'`): runs end-to-end tests in a Debian machine under QEMU, with systemd and the unified
 * cgroup hierarchy, as nodes have them today. Patterns of test files are its arguments; without any, `defaultPatterns`.
 * Emulated in software, so everything takes some ten times as long. Ends with the tests' exit code.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { findTool } from '../lines/client-tools.ts';
import { clusterTools, toolsFolder } from './cluster.ts';
import { exitLine, patternsWord } from './vm-guest.ts';
import { makeDisk, vmImage } from './vm-image.ts';
import { copyProject } from './vm-project.ts';

const defaultPatterns = [
  'test/node-vm/apparmor.vm.ts',
  'test/node-vm/systemd-node.vm.ts',
  'test/node-vm/selinux.vm.ts',
  'test/cri-lifecycle.test.ts',
];

const memoryMiB = 4096;
const projectSize = '2G';
/** Tests that want SELinux in AppArmor's place, which the kernel is told as it boots: they have a machine of their own. */
const wantsSelinux = (pattern: string): boolean => pattern.includes('selinux');
const selinuxWords = 'security=selinux selinux=1 enforcing=0';

/** After this the machine is ended, milliseconds. */
const limitMs = 90 * 60_000;
/** End of the console's log that is shown when the tests did not say how they ended, bytes. */
const consoleTailBytes = 4_096;

if (process.getuid?.() !== 0) throw new Error('making the machine from packages needs root: run it as root');
if (process.arch !== 'x64') throw new Error(`the machine is an x86-64 one, this is ${process.arch}`);

const patterns = process.argv.length > 2 ? process.argv.slice(2) : defaultPatterns;
const root = join(import.meta.dirname, '..', '..');
const tools = clusterTools.flatMap((name) => findTool(name) ?? []);
if (patterns.some((pattern) => pattern.includes('kubelet')) && tools.length < clusterTools.length) {
  const names = clusterTools.join(' ');
  console.error(
    `NOT TESTED: kubelet. ${names} are not all built; "node test/lines/build.ts ${names}" builds them`,
  );
  process.exit(1);
}
const image = vmImage();
const work = mkdtempSync(join(tmpdir(), 'spinshim-vm-'));
try {
  const disk = join(work, 'project.ext4');
  copyProject(root, join(work, 'project'));
  for (const tool of tools) cpSync(tool, join(work, 'project', toolsFolder, basename(tool)));
  makeDisk(join(work, 'project'), disk, projectSize);
  rmSync(join(work, 'project'), { recursive: true });
  for (const [group, words] of [
    [patterns.filter((pattern) => !wantsSelinux(pattern)), ''],
    [patterns.filter(wantsSelinux), selinuxWords],
  ] as const) {
    if (group.length === 0) continue;
    const code = await boot(disk, join(work, 'console.log'), group, words);
    process.exitCode ||= code;
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** Boots the machine, prints what its tests print, resolves with their exit code; 1 when they never said. */
async function boot(
  disk: string,
  consoleLog: string,
  tests: readonly string[],
  words: string,
): Promise<number> {
  const kernelLine = `root=/dev/vda rw console=ttyS0 quiet ${words} ${patternsWord}=${tests.join(',')}`;
  const machine = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', String(memoryMiB)],
      ...[
        '-smp',
        String(Math.min(2, availableParallelism())),
        '-nographic',
        '-monitor',
        'none',
        '-nic',
        'none',
        '-no-reboot',
      ],
      ...['-kernel', image.kernel, '-initrd', image.initrd, '-append', kernelLine],
      // Writes to the root go to a temporary file; the image stays as it was made.
      ...['-drive', `file=${image.root},format=raw,if=virtio,snapshot=on`],
      ...['-drive', `file=${disk},format=raw,if=virtio,readonly=on`],
      ...['-serial', `file:${consoleLog}`, '-serial', 'stdio'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const ended = once(machine, 'exit');
  const end = (): void => {
    machine.kill('SIGKILL');
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, end);
  const limit = setTimeout(end, limitMs);
  let code = 1;
  let told = false;
  for await (const line of createInterface({ input: machine.stdout })) {
    if (line.startsWith(exitLine)) {
      code = Number(line.slice(exitLine.length));
      told = true;
    } else process.stdout.write(`${line}\n`);
  }
  await ended;
  clearTimeout(limit);
  if (!told) {
    console.error(
      `node-vm: the tests did not end; the machine's console:\n${readFileSync(consoleLog, 'utf8').slice(-consoleTailBytes)}`,
    );
  }
  return code;
}
