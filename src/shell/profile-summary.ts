import { table } from './command.ts';

/** Functions that are shown. */
const maxFunctions = 30;

type ProfileNode = {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string };
};

/** The part of a .cpuprofile that is read. */
type Profile = {
  readonly nodes: readonly ProfileNode[];
  readonly samples?: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas?: readonly number[];
};

/** What V8 calls the time in which nothing ran. */
const idleName = '(idle)';

/** Self time by function of a .cpuprofile that V8 has made, the most first. */
export function summarizeProfile(json: string): string {
  const { nodes, samples = [], timeDeltas = [] } = JSON.parse(json) as Profile;
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const times = new Map<string, { readonly name: string; readonly where: string; microseconds: number }>();
  let total = 0;
  let idle = 0;
  samples.forEach((id, index) => {
    const frame = frames.get(id);
    const delta = Math.max(0, timeDeltas[index] ?? 0);
    if (frame === undefined) return;
    total += delta;
    if (frame.functionName === idleName) {
      idle += delta;
      return;
    }
    const name = frame.functionName === '' ? '(anonymous)' : frame.functionName;
    const where = placeOf(frame.url);
    const entry = times.get(`${where} ${name}`) ?? { name, where, microseconds: 0 };
    entry.microseconds += delta;
    times.set(`${where} ${name}`, entry);
  });
  const busy = total - idle;
  const rows = [...times.values()]
    .toSorted((left, right) => right.microseconds - left.microseconds)
    .slice(0, maxFunctions)
    .map(({ name, where, microseconds }) => [
      `${(microseconds / 1_000).toFixed(1)}`,
      `${((100 * microseconds) / Math.max(1, busy)).toFixed(1)}`,
      where,
      name,
    ]);
  const share = ((100 * busy) / Math.max(1, total)).toFixed(0);
  return [
    `${(total / 1_000_000).toFixed(1)} s sampled, busy ${share} %\n`,
    table([['SELF MS', '% BUSY', 'WHERE', 'FUNCTION'], ...rows]),
  ].join('');
}

/** Guest code is told from the host's and from Node's; paths of the node are nobody's business. */
function placeOf(url: string): string {
  if (url.startsWith('wasm://')) return 'guest';
  if (url.startsWith('node:')) return 'node';
  return url === '' ? 'v8' : 'host';
}
