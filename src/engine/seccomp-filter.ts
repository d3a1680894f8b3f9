import { type BpfInstruction, bpf, callAnswers, callOffsets, encodeBpf } from '../bpf.ts';
import { auditArchitectures, type Machine, systemCallNumber } from '../system-calls.ts';

/**
 * The seccomp filter of an engine that belongs to a container. It refuses what Node never needs once an app is loaded and
 * what somebody who has taken the process over would need next: programs, namespaces, mounts, other processes, kernel
 * interfaces known for their holes, local sockets (containerd's among them). A list of what is refused, not of what is
 * allowed: one that is too short for a new V8 would kill pods on an update.
 */

/** Answered with EPERM. */
const refused: readonly string[] = [
  // Programs and processes.
  'execve',
  'execveat',
  'fork',
  'vfork',
  'ptrace',
  'process_vm_readv',
  'process_vm_writev',
  'process_madvise',
  'process_mrelease',
  'kcmp',
  'pidfd_open',
  'pidfd_getfd',
  'pidfd_send_signal',
  'tkill',
  'rt_sigqueueinfo',
  'rt_tgsigqueueinfo',
  'setpriority',
  'sched_setaffinity',
  'sched_setscheduler',
  'sched_setparam',
  'sched_setattr',
  'ioprio_set',
  'migrate_pages',
  'move_pages',
  // Ids.
  'setuid',
  'setgid',
  'setreuid',
  'setregid',
  'setresuid',
  'setresgid',
  'setfsuid',
  'setfsgid',
  'setgroups',
  // Namespaces, mounts, roots.
  'setns',
  'unshare',
  'mount',
  'umount2',
  'pivot_root',
  'chroot',
  'fsopen',
  'fsconfig',
  'fsmount',
  'fspick',
  'open_tree',
  'move_mount',
  'mount_setattr',
  'quotactl',
  'quotactl_fd',
  'name_to_handle_at',
  'open_by_handle_at',
  'mknod',
  'mknodat',
  'fanotify_init',
  // Kernel interfaces.
  'bpf',
  'perf_event_open',
  'userfaultfd',
  'add_key',
  'request_key',
  'keyctl',
  'init_module',
  'finit_module',
  'delete_module',
  'kexec_load',
  'kexec_file_load',
  'reboot',
  'swapon',
  'swapoff',
  'acct',
  'syslog',
  'vhangup',
  'personality',
  'sethostname',
  'setdomainname',
  'settimeofday',
  'clock_settime',
  'adjtimex',
  'clock_adjtime',
  'iopl',
  'ioperm',
  'modify_ldt',
  'lookup_dcookie',
  'nfsservctl',
  'uselib',
  'ustat',
  'sysfs',
  '_sysctl',
  // System V and POSIX IPC: the engine stays in the node's IPC namespace.
  'shmget',
  'shmat',
  'shmctl',
  'semget',
  'semop',
  'semtimedop',
  'semctl',
  'msgget',
  'msgsnd',
  'msgrcv',
  'msgctl',
  'mq_open',
  'mq_unlink',
];

/** Answered with ENOSYS, upon which libraries do without. clone3 hides its flags from a filter, clone does not. */
const unknown: readonly string[] = ['clone3', 'io_uring_setup', 'io_uring_register'];

/** Refused as well where no event loop has a ring from before the filter: libuv aborts when it cannot use one it has. */
const ringEnter = 'io_uring_enter';

/** The highest number that is let pass (mseal, Linux 6.10); what comes after it is not known here. */
const lastKnown = 462;

const errnos = { EPERM: 1, ENOSYS: 38, EAFNOSUPPORT: 97 } as const;

/** The process a filter is for. */
export type FilteredProcess = {
  /** Signals and limits are for itself alone. */
  readonly pid: number;
  /** As in `process.arch`. */
  readonly arch: Machine;
  /** Whether its event loops have rings of io_uring. */
  readonly hasRings: boolean;
};

/**
 * A filter of the pod's, for a process whose event loops have rings from before it: they go on being used, since libuv ends the
 * process that cannot. No pod has such a process: its engine boots by the launcher, without rings.
 */
export function sparingRings(filter: Uint8Array, arch: Machine): Uint8Array {
  const enter = systemCallNumber(ringEnter, arch);
  if (enter === undefined) return filter;
  const prefix = encodeBpf([
    [bpf.load, callOffsets.architecture],
    [bpf.jumpEqual, auditArchitectures[arch], 0, 3],
    [bpf.load, callOffsets.number],
    [bpf.jumpEqual, enter, 0, 1],
    [bpf.give, callAnswers.allow],
  ]);
  return Buffer.concat([prefix, filter]);
}

/** The filter as a program for the kernel. */
export function seccompFilter({ pid, arch, hasRings }: FilteredProcess): Buffer {
  const [internet, internet6] = [2, 10];
  const cloneThread = 0x10000;
  const program: BpfInstruction[] = [
    [bpf.load, callOffsets.architecture],
    [bpf.jumpEqual, auditArchitectures[arch], 1, 0],
    [bpf.give, callAnswers.killProcess],
    [bpf.load, callOffsets.number],
    // Also the numbers of the x32 convention, which are huge.
    [bpf.jumpGreater, lastKnown, 0, 1],
    [bpf.give, callAnswers.fail(errnos.ENOSYS)],
  ];
  for (const [list, errno] of [
    [refused, errnos.EPERM],
    [hasRings ? unknown : [...unknown, ringEnter], errnos.ENOSYS],
  ] as const) {
    for (const name of list) {
      const number = systemCallNumber(name, arch);
      if (number !== undefined)
        program.push([bpf.jumpEqual, number, 0, 1], [bpf.give, callAnswers.fail(errno)]);
    }
  }
  const onFirstArgument = (name: string, instructions: readonly BpfInstruction[]): void => {
    const number = systemCallNumber(name, arch);
    if (number === undefined) return;
    program.push(
      [bpf.jumpEqual, number, 0, instructions.length + 1],
      [bpf.load, callOffsets.argument(0)],
      ...instructions,
    );
  };
  onFirstArgument('clone', [
    [bpf.jumpSet, cloneThread, 1, 0],
    [bpf.give, callAnswers.fail(errnos.EPERM)],
    [bpf.give, callAnswers.allow],
  ]);
  onFirstArgument('socket', [
    [bpf.jumpEqual, internet, 2, 0],
    [bpf.jumpEqual, internet6, 1, 0],
    [bpf.give, callAnswers.fail(errnos.EAFNOSUPPORT)],
    [bpf.give, callAnswers.allow],
  ]);
  for (const name of ['kill', 'tgkill']) {
    onFirstArgument(name, [
      [bpf.jumpEqual, pid, 1, 0],
      [bpf.give, callAnswers.fail(errnos.EPERM)],
      [bpf.give, callAnswers.allow],
    ]);
  }
  onFirstArgument('prlimit64', [
    [bpf.jumpEqual, 0, 2, 0],
    [bpf.jumpEqual, pid, 1, 0],
    [bpf.give, callAnswers.fail(errnos.EPERM)],
    [bpf.give, callAnswers.allow],
  ]);
  program.push([bpf.give, callAnswers.allow]);
  return encodeBpf(program);
}
