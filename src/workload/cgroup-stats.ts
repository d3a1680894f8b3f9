/** What a cgroup used, version-neutral. Times in nanoseconds, memory in bytes; no limit is `undefined`. */
export type CgroupStats = {
  readonly version: 1 | 2;
  readonly pids: { readonly current: number; readonly limit: number | undefined };
  readonly cpu: {
    readonly usage: number;
    readonly user: number;
    readonly system: number;
    readonly periods: number;
    readonly throttledPeriods: number;
    readonly throttledTime: number;
    /** Use of each CPU; version 2 does not tell. */
    readonly perCpu: readonly number[];
  };
  /** Traffic with each block device. */
  readonly io: readonly DeviceIo[];
  readonly memory: {
    readonly usage: number;
    readonly limit: number | undefined;
    readonly peak: number;
    readonly failures: number;
    readonly anonymous: number;
    readonly file: number;
    readonly inactiveFile: number;
    readonly pageFaults: number;
    readonly majorPageFaults: number;
    readonly swapUsage: number;
    readonly swapLimit: number | undefined;
    readonly oomKills: number;
  };
};

/** Bytes read from and written to one block device. */
export type DeviceIo = {
  readonly major: number;
  readonly minor: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
};

/** Gives a cgroup file's text by controller and name, '' where there is none. */
export type ReadCgroupFile = (controller: string, file: string) => string;

/** Reads version 1's files. */
export function readStatsV1(read: ReadCgroupFile): CgroupStats {
  const cpu = table(read('cpu', 'cpu.stat'));
  const ticks = table(read('cpuacct', 'cpuacct.stat'));
  const memory = table(read('memory', 'memory.stat'));
  const oom = table(read('memory', 'memory.oom_control'));
  // The kernel counts user and system time in USER_HZ, which is 100 on every Linux we run on.
  const nanosecondsPerTick = 10_000_000;
  return {
    version: 1,
    pids: { current: number(read('pids', 'pids.current')), limit: limit(read('pids', 'pids.max')) },
    cpu: {
      usage: number(read('cpuacct', 'cpuacct.usage')),
      user: (ticks.get('user') ?? 0) * nanosecondsPerTick,
      system: (ticks.get('system') ?? 0) * nanosecondsPerTick,
      periods: cpu.get('nr_periods') ?? 0,
      throttledPeriods: cpu.get('nr_throttled') ?? 0,
      throttledTime: cpu.get('throttled_time') ?? 0,
      perCpu: read('cpuacct', 'cpuacct.usage_percpu').split(/\s+/).filter(Boolean).map(number),
    },
    io: deviceIoV1(read('blkio', 'blkio.throttle.io_service_bytes_recursive')),
    memory: {
      usage: number(read('memory', 'memory.usage_in_bytes')),
      limit: limit(read('memory', 'memory.limit_in_bytes')),
      peak: number(read('memory', 'memory.max_usage_in_bytes')),
      failures: number(read('memory', 'memory.failcnt')),
      anonymous: memory.get('total_rss') ?? 0,
      file: memory.get('total_cache') ?? 0,
      inactiveFile: memory.get('total_inactive_file') ?? 0,
      pageFaults: memory.get('total_pgfault') ?? 0,
      majorPageFaults: memory.get('total_pgmajfault') ?? 0,
      swapUsage: memory.get('total_swap') ?? 0,
      swapLimit: undefined,
      oomKills: oom.get('oom_kill') ?? 0,
    },
  };
}

/** Reads version 2's files; the controller is not asked for, all are in one folder. */
export function readStatsV2(read: ReadCgroupFile): CgroupStats {
  const cpu = table(read('cpu', 'cpu.stat'));
  const memory = table(read('memory', 'memory.stat'));
  const events = table(read('memory', 'memory.events'));
  const microseconds = (name: string): number => (cpu.get(name) ?? 0) * 1000;
  return {
    version: 2,
    pids: { current: number(read('pids', 'pids.current')), limit: limit(read('pids', 'pids.max')) },
    cpu: {
      usage: microseconds('usage_usec'),
      user: microseconds('user_usec'),
      system: microseconds('system_usec'),
      periods: cpu.get('nr_periods') ?? 0,
      throttledPeriods: cpu.get('nr_throttled') ?? 0,
      throttledTime: microseconds('throttled_usec'),
      perCpu: [],
    },
    io: deviceIoV2(read('io', 'io.stat')),
    memory: {
      usage: number(read('memory', 'memory.current')),
      limit: limit(read('memory', 'memory.max')),
      peak: number(read('memory', 'memory.peak')),
      failures: events.get('max') ?? 0,
      anonymous: memory.get('anon') ?? 0,
      file: memory.get('file') ?? 0,
      inactiveFile: memory.get('inactive_file') ?? 0,
      pageFaults: memory.get('pgfault') ?? 0,
      majorPageFaults: memory.get('pgmajfault') ?? 0,
      swapUsage: number(read('memory', 'memory.swap.current')),
      swapLimit: limit(read('memory', 'memory.swap.max')),
      oomKills: events.get('oom_kill') ?? 0,
    },
  };
}

/** Lines of `major:minor Read bytes` and `… Write bytes`, among others. */
function deviceIoV1(text: string): readonly DeviceIo[] {
  const devices = new Map<string, { readBytes: number; writtenBytes: number }>();
  for (const line of text.split('\n')) {
    const [device = '', operation = '', value = ''] = line.split(' ');
    if (!deviceNumber.test(device) || (operation !== 'Read' && operation !== 'Write')) continue;
    const bytes = devices.get(device) ?? { readBytes: 0, writtenBytes: 0 };
    bytes[operation === 'Read' ? 'readBytes' : 'writtenBytes'] += number(value);
    devices.set(device, bytes);
  }
  return [...devices].map(([device, bytes]) => ({ ...numbersOf(device), ...bytes }));
}

/** Lines of `major:minor rbytes=… wbytes=…` and more. */
function deviceIoV2(text: string): readonly DeviceIo[] {
  const devices: DeviceIo[] = [];
  for (const line of text.split('\n')) {
    const [device = '', ...fields] = line.split(' ');
    if (!deviceNumber.test(device)) continue;
    const field = (name: string): number =>
      number(fields.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1) ?? '');
    devices.push({ ...numbersOf(device), readBytes: field('rbytes'), writtenBytes: field('wbytes') });
  }
  return devices;
}

const deviceNumber = /^\d+:\d+$/;

function numbersOf(device: string): { readonly major: number; readonly minor: number } {
  const [major = 0, minor = 0] = device.split(':').map(Number);
  return { major, minor };
}

/** Lines of `name value`. */
function table(text: string): ReadonlyMap<string, number> {
  const entries = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name = '', value = ''] = line.split(' ');
    if (value !== '') entries.set(name, number(value));
  }
  return entries;
}

function number(text: string): number {
  const value = Number(text.trim());
  return Number.isFinite(value) ? value : 0;
}

/** `max`, nothing, and version 1's huge number mean no limit. */
function limit(text: string): number | undefined {
  const trimmed = text.trim();
  const value = number(trimmed);
  return trimmed === '' || trimmed === 'max' || value >= 2 ** 62 ? undefined : value;
}
