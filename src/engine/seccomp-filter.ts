import { type BpfInstruction, encodeBpf } from '../linux.ts';

/**
 * The seccomp filter of an engine that belongs to a container. It refuses what Node never needs once an app is loaded and
 * what somebody who has taken the process over would need next: programs, namespaces, mounts, other processes, kernel
 * interfaces known for their holes, local sockets (containerd's among them). A list of what is refused, not of what is
 * allowed: one that is too short for a new V8 would kill pods on an update.
 */

/** Numbers of a system call on x86-64 and arm64; undefined where there is none of that name. */
type Numbers = readonly [x64: number | undefined, arm64: number | undefined];

/** Answered with EPERM. */
const refused: ReadonlyMap<string, Numbers> = new Map<string, Numbers>([
  // Programs and processes.
  ['execve', [59, 221]],
  ['execveat', [322, 281]],
  ['fork', [57, undefined]],
  ['vfork', [58, undefined]],
  ['ptrace', [101, 117]],
  ['process_vm_readv', [310, 270]],
  ['process_vm_writev', [311, 271]],
  ['process_madvise', [440, 440]],
  ['process_mrelease', [448, 448]],
  ['kcmp', [312, 272]],
  ['pidfd_open', [434, 434]],
  ['pidfd_getfd', [438, 438]],
  ['pidfd_send_signal', [424, 424]],
  ['tkill', [200, 130]],
  ['rt_sigqueueinfo', [129, 138]],
  ['rt_tgsigqueueinfo', [297, 240]],
  ['setpriority', [141, 140]],
  ['sched_setaffinity', [203, 122]],
  ['sched_setscheduler', [144, 119]],
  ['sched_setparam', [142, 118]],
  ['sched_setattr', [314, 274]],
  ['ioprio_set', [251, 30]],
  ['migrate_pages', [256, 238]],
  ['move_pages', [279, 239]],
  // Ids.
  ['setuid', [105, 146]],
  ['setgid', [106, 144]],
  ['setreuid', [113, 145]],
  ['setregid', [114, 143]],
  ['setresuid', [117, 147]],
  ['setresgid', [119, 149]],
  ['setfsuid', [122, 151]],
  ['setfsgid', [123, 152]],
  ['setgroups', [116, 159]],
  // Namespaces, mounts, roots.
  ['setns', [308, 268]],
  ['unshare', [272, 97]],
  ['mount', [165, 40]],
  ['umount2', [166, 39]],
  ['pivot_root', [155, 41]],
  ['chroot', [161, 51]],
  ['fsopen', [430, 430]],
  ['fsconfig', [431, 431]],
  ['fsmount', [432, 432]],
  ['fspick', [433, 433]],
  ['open_tree', [428, 428]],
  ['move_mount', [429, 429]],
  ['mount_setattr', [442, 442]],
  ['quotactl', [179, 60]],
  ['quotactl_fd', [443, 443]],
  ['name_to_handle_at', [303, 264]],
  ['open_by_handle_at', [304, 265]],
  ['mknod', [133, undefined]],
  ['mknodat', [259, 33]],
  ['fanotify_init', [300, 262]],
  // Kernel interfaces.
  ['bpf', [321, 280]],
  ['perf_event_open', [298, 241]],
  ['userfaultfd', [323, 282]],
  ['add_key', [248, 217]],
  ['request_key', [249, 218]],
  ['keyctl', [250, 219]],
  ['init_module', [175, 105]],
  ['finit_module', [313, 273]],
  ['delete_module', [176, 106]],
  ['kexec_load', [246, 104]],
  ['kexec_file_load', [320, 294]],
  ['reboot', [169, 142]],
  ['swapon', [167, 224]],
  ['swapoff', [168, 225]],
  ['acct', [163, 89]],
  ['syslog', [103, 116]],
  ['vhangup', [153, 58]],
  ['personality', [135, 92]],
  ['sethostname', [170, 161]],
  ['setdomainname', [171, 162]],
  ['settimeofday', [164, 170]],
  ['clock_settime', [227, 112]],
  ['adjtimex', [159, 171]],
  ['clock_adjtime', [305, 266]],
  ['iopl', [172, undefined]],
  ['ioperm', [173, undefined]],
  ['modify_ldt', [154, undefined]],
  ['lookup_dcookie', [212, 18]],
  ['nfsservctl', [180, 42]],
  ['uselib', [134, undefined]],
  ['ustat', [136, undefined]],
  ['sysfs', [139, undefined]],
  ['_sysctl', [156, undefined]],
  // System V and POSIX IPC: the engine stays in the node's IPC namespace.
  ['shmget', [29, 194]],
  ['shmat', [30, 196]],
  ['shmctl', [31, 195]],
  ['semget', [64, 190]],
  ['semop', [65, 193]],
  ['semtimedop', [220, 192]],
  ['semctl', [66, 191]],
  ['msgget', [68, 186]],
  ['msgsnd', [69, 189]],
  ['msgrcv', [70, 188]],
  ['msgctl', [71, 187]],
  ['mq_open', [240, 180]],
  ['mq_unlink', [241, 181]],
]);

/** Answered with ENOSYS, upon which libraries do without. clone3 hides its flags from a filter, clone does not. */
const unknown: ReadonlyMap<string, Numbers> = new Map<string, Numbers>([
  ['clone3', [435, 435]],
  ['io_uring_setup', [425, 425]],
  ['io_uring_register', [427, 427]],
]);

/** Refused as well where no event loop has a ring from before the filter: libuv aborts when it cannot use one it has. */
const ringEnter: Numbers = [426, 426];

/** Those of which an argument decides. */
const examined = {
  clone: [56, 220],
  socket: [41, 198],
  kill: [62, 129],
  tgkill: [234, 131],
  prlimit64: [302, 261],
} as const satisfies Readonly<Record<string, Numbers>>;

/** The highest number that is let pass (mseal, Linux 6.10); what comes after it is not known here. */
const lastKnown = 462;

const errnos = { EPERM: 1, ENOSYS: 38, EAFNOSUPPORT: 97 } as const;

/** Classic BPF for seccomp: what is loaded and returned (seccomp(2)). */
const load = 0x20;
const jumpEqual = 0x15;
const jumpGreater = 0x25;
const jumpSet = 0x45;
const give = 0x06;
const offsets = { number: 0, architecture: 4, firstArgument: 16 } as const;
const allow = 0x7fff0000;
const killProcess = 0x80000000;
const failWith = (errno: number): number => 0x00050000 | errno;

/** The process a filter is for. */
export type FilteredProcess = {
  /** Signals and limits are for itself alone. */
  readonly pid: number;
  /** As in `process.arch`. */
  readonly arch: 'x64' | 'arm64';
  /** Whether its event loops have rings of io_uring. */
  readonly hasRings: boolean;
};

/** The filter as a program for the kernel. */
export function seccompFilter({ pid, arch, hasRings }: FilteredProcess): Buffer {
  const place = arch === 'x64' ? 0 : 1;
  const auditArchitecture = arch === 'x64' ? 0xc000003e : 0xc00000b7;
  const [internet, internet6] = [2, 10];
  const cloneThread = 0x10000;
  const program: BpfInstruction[] = [
    [load, offsets.architecture],
    [jumpEqual, auditArchitecture, 1, 0],
    [give, killProcess],
    [load, offsets.number],
    // Also the numbers of the x32 convention, which are huge.
    [jumpGreater, lastKnown, 0, 1],
    [give, failWith(errnos.ENOSYS)],
  ];
  for (const [list, errno] of [
    [refused, errnos.EPERM],
    [hasRings ? unknown : new Map([...unknown, ['io_uring_enter', ringEnter]]), errnos.ENOSYS],
  ] as const) {
    for (const numbers of list.values()) {
      const number = numbers[place];
      if (number !== undefined) program.push([jumpEqual, number, 0, 1], [give, failWith(errno)]);
    }
  }
  const onFirstArgument = (number: number, instructions: readonly BpfInstruction[]): void => {
    program.push(
      [jumpEqual, number, 0, instructions.length + 1],
      [load, offsets.firstArgument],
      ...instructions,
    );
  };
  onFirstArgument(examined.clone[place], [
    [jumpSet, cloneThread, 1, 0],
    [give, failWith(errnos.EPERM)],
    [give, allow],
  ]);
  onFirstArgument(examined.socket[place], [
    [jumpEqual, internet, 2, 0],
    [jumpEqual, internet6, 1, 0],
    [give, failWith(errnos.EAFNOSUPPORT)],
    [give, allow],
  ]);
  for (const number of [examined.kill[place], examined.tgkill[place]]) {
    onFirstArgument(number, [
      [jumpEqual, pid, 1, 0],
      [give, failWith(errnos.EPERM)],
      [give, allow],
    ]);
  }
  onFirstArgument(examined.prlimit64[place], [
    [jumpEqual, 0, 2, 0],
    [jumpEqual, pid, 1, 0],
    [give, failWith(errnos.EPERM)],
    [give, allow],
  ]);
  program.push([give, allow]);
  return encodeBpf(program);
}
