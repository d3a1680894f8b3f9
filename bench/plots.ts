import { coldSubject, fromNothing, fromWarm, phaseQuantity, type startPhases } from './cold-start.ts';
import type { PartRecord, Results } from './results.ts';
import { floorName } from './servers.ts';
import { warmUpShare } from './soak.ts';
import { leastSquares, type Measurement } from './statistics.ts';
import { barPlot, dotPlot, type PlotRow, pointPlot, type StackedRow, stackedPlot } from './svg-plot.ts';
import { figure } from './tables.ts';
import { throughputQuantities } from './throughput.ts';

const bare = floorName;
const colours = { bare: '#6b7280', jco: '#e69f00', ours: '#0072b2' } as const;

function colourOf(subject: string): string {
  if (subject === bare) return colours.bare;
  return subject.startsWith('jco') ? colours.jco : colours.ours;
}

function find(record: PartRecord, quantity: string): readonly Measurement[] {
  return record.measurements.filter((measurement) => measurement.quantity === quantity);
}

/** Subjects of ours are named as such, beside those of others. */
function rowLabel(subject: string): string {
  return colourOf(subject) === colours.ours ? `spinshim: ${subject}` : subject;
}

/** Every plot that the results suffice for, by its file's name. */
export function plots({ throughput, 'cold-start': coldStart, soak }: Results): ReadonlyMap<string, string> {
  const made = new Map<string, string>();
  if (throughput !== undefined) {
    made.set('throughput.svg', throughputPlot(throughput));
    if (find(throughput, throughputQuantities.cpu).length > 0)
      made.set('cpu-per-request.svg', cpuPlot(throughput));
  }
  if (coldStart !== undefined) made.set('cold-start.svg', coldStartPlot(coldStart));
  if (soak?.samples !== undefined) made.set('memory-slope.svg', soakPlot(soak));
  return made;
}

function throughputPlot(record: PartRecord): string {
  const rates = find(record, throughputQuantities.rate);
  const floor = rates.find(({ subject }) => subject === bare)?.median ?? Number.NaN;
  const rows = rates.map(({ subject, median }): PlotRow => {
    const share = (median / floor) * 100;
    const text = `${figure(share)} % (${figure(median)}/s)`;
    return { label: rowLabel(subject), value: share, text, colour: colourOf(subject) };
  });
  return barPlot(
    { title: 'Requests per second on one core', axis: 'per cent of bare node:http in the same run' },
    rows,
  );
}

function cpuPlot(record: PartRecord): string {
  const rows = find(record, throughputQuantities.cpu).map(({ subject, median }): PlotRow => {
    const text = median >= 1000 ? `${figure(median / 1000)} ms` : `${figure(median)} µs`;
    return { label: rowLabel(subject), value: median, text, colour: colourOf(subject) };
  });
  return dotPlot(
    {
      title: 'CPU per request, whole server process',
      axis: 'microseconds, logarithmic: a tenth or ten times each step',
    },
    rows,
  );
}

/** Phases that are too short to be seen apart, together under one name. */
const drawnPhases: readonly (readonly [name: string, phases: readonly (typeof startPhases)[number][]])[] = [
  ['boot of the process', ['boot', 'thread']],
  ['read and compile', ['read', 'compile']],
  ['network, rights', ['network', 'confine']],
  ['messages', ['hand over']],
  ['settings, services', ['settings', 'services']],
  ['load runtime', ['runtime']],
  ['first instance', ['trial']],
  ['listen', ['listen']],
  ['first answer', ['first answer']],
];

function coldStartPlot(record: PartRecord): string {
  const median = (quantity: string, subject: string): number =>
    find(record, quantity).find((measurement) => measurement.subject === subject)?.median ?? 0;
  const row = (subject: string, total: string): StackedRow => {
    const parts = drawnPhases.map(([, phases]) =>
      phases.reduce((sum, phase) => sum + median(phaseQuantity(phase), subject), 0),
    );
    return { label: subject, parts, text: `${figure(median(total, subject))} ms` };
  };
  const apps = find(record, fromWarm).map(({ subject }) => subject);
  const rows = apps.flatMap((app) => [row(app, fromWarm), row(coldSubject(app), fromNothing)]);
  const axis = 'milliseconds, medians, to the first 200; the app is in the cache';
  const names = drawnPhases.map(([name]) => name);
  return stackedPlot({ title: 'Cold start by phase', axis }, names, rows);
}

function soakPlot({ samples = [] }: PartRecord): string {
  const points = samples.map(({ requests, anonymousMiB }) => [requests, anonymousMiB] as const);
  const from = warmUpShare * (points.at(-1)?.[0] ?? 0);
  const { slope, intercept, slopeMargin } = leastSquares(points.filter(([requests]) => requests > from));
  const bytes = (mebibytes: number): string => figure(mebibytes * 1024 * 1024);
  return pointPlot(
    {
      title: `Memory of one engine over ${figure(points.at(-1)?.[0] ?? 0)} requests to hello`,
      axis: 'requests answered',
      vertical: 'anonymous memory, MiB',
    },
    points,
    { from, slope, intercept, text: `slope ${bytes(slope)} ± ${bytes(slopeMargin)} bytes per request` },
  );
}

/** Every phase is drawn in exactly one place. */
export const allDrawn: readonly string[] = drawnPhases.flatMap(([, phases]) => phases);
