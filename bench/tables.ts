import type { Subject } from './bench-node.ts';
import { bodyQuantities } from './bodies.ts';
import { coldSubject, emptyProcess, fromNothing, fromWarm } from './cold-start.ts';
import type { Conditions } from './conditions.ts';
import { execQuantities, execSubject } from './exec.ts';
import { callsQuantity, label } from './pod-start.ts';
import { type PartName, type PartRecord, partNames, type Results } from './results.ts';
import { rollingQuantities, rollingSubject } from './rolling-stop.ts';
import { runawayQuantities, runawaySubjects } from './runaway.ts';
import { floorName, jcoName } from './servers.ts';
import { soakQuantities } from './soak.ts';
import type { Measurement } from './statistics.ts';
import { taskCallQuantities, taskCallSubjects } from './task-calls.ts';
import { throughputQuantities } from './throughput.ts';

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** A number with three digits that mean something. */
export function figure(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return grouped.format(value);
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

function cell(measurement: Measurement | undefined): string {
  if (measurement === undefined) return '–';
  const { median, min, max, rounds } = measurement;
  return rounds === 1 ? figure(median) : `${figure(median)} (${figure(min)} … ${figure(max)})`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const text = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const align = head.map((_, index) => (index === 0 ? '---' : '---:'));
  return [text(head), text(align), ...rows.map(text)].join('\n');
}

/** A part's medians with their least and greatest rounds, the fewer of quantities and subjects across. */
export function partTable(name: PartName, record: PartRecord | undefined): string {
  if (record === undefined) return `Not in this results file: \`make bench PART=${name}\`.`;
  const { measurements, failures } = record;
  const quantities = [...new Map(measurements.map((each) => [each.quantity, each.unit]))];
  const subjects = [...new Set(measurements.map(({ subject }) => subject))];
  const find = (quantity: string, subject: string): Measurement | undefined =>
    measurements.find((each) => each.quantity === quantity && each.subject === subject);
  const named = quantities.map(([quantity, unit]) => ({ quantity, title: `${quantity}, ${unit}` }));
  const rounds = Math.max(0, ...measurements.map((each) => each.rounds));
  const body =
    quantities.length > subjects.length
      ? table(
          ['', ...subjects],
          named.map(({ quantity, title }) => [
            title,
            ...subjects.map((subject) => cell(find(quantity, subject))),
          ]),
        )
      : table(
          ['', ...named.map(({ title }) => title)],
          subjects.map((subject) => [subject, ...named.map(({ quantity }) => cell(find(quantity, subject)))]),
        );
  const failed = failures.map(
    ({ subject, reason }) => `Not measured: ${subject}: ${reason.replaceAll('\n', ' ')}.`,
  );
  return [
    body,
    '',
    `Median (least … greatest) of up to ${rounds} rounds.`,
    ...failed.flatMap((text) => ['', text]),
  ].join('\n');
}

/** What each part depends on, those of one run together. */
export function conditionLines(results: Results): string {
  const runs = Map.groupBy(
    partNames.filter((name) => results[name] !== undefined),
    (name) => JSON.stringify(results[name]?.conditions),
  );
  return [...runs]
    .map(([text, names]) => {
      const { date, ...rest } = JSON.parse(text) as Conditions;
      const facts = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
      return `- ${date}, ${names.join(', ')}: ${facts.join('; ')}`;
    })
    .join('\n');
}

type Target = {
  readonly what: string;
  readonly aim: string;
  /** What was measured and whether it is enough; undefined when the results have not all that it needs. */
  readonly of: (
    median: (part: PartName, quantity: string, subject: string) => number,
  ) => [text: string, holds: boolean];
};

const times = (value: number): string => `${figure(value)} ×`;

/** What the project wants to reach on one core of a small machine, ratios within one run. */
const targets: readonly Target[] = [
  {
    what: 'small guest: requests per second, of bare node:http',
    aim: '≥ 0.30 ×',
    of: (median) => {
      const rate = (subject: string): number => median('throughput', throughputQuantities.rate, subject);
      const ratio = rate('hello') / rate(floorName);
      return [times(ratio), ratio >= 0.3];
    },
  },
  {
    what: 'small guest: requests per second, of `jco serve` (one instance for all requests)',
    aim: '≥ 12 ×',
    of: (median) => {
      const rate = (subject: string): number => median('throughput', throughputQuantities.rate, subject);
      const ratio = rate('hello') / rate(jcoName('hello', 'none'));
      return [times(ratio), ratio >= 12];
    },
  },
  {
    what: 'small guest: p99, of bare node:http',
    aim: '≤ 4 ×',
    of: (median) => {
      const p99 = (subject: string): number => median('throughput', throughputQuantities.p99, subject);
      const ratio = p99('hello') / p99(floorName);
      return [times(ratio), ratio <= 4];
    },
  },
  {
    what: 'small guest: CPU per request beyond bare node:http (restoring, host calls and guest together)',
    aim: '≤ 50 µs',
    of: (median) => {
      const cpu = (subject: string): number => median('throughput', throughputQuantities.cpu, subject);
      const more = cpu('hello') - cpu(floorName);
      return [`${figure(more)} µs`, more <= 50];
    },
  },
  {
    what: 'JavaScript guest: requests per second',
    aim: '≥ 1,300',
    of: (median) => {
      const rate = median('throughput', throughputQuantities.rate, 'js-api');
      return [figure(rate), rate >= 1300];
    },
  },
  ...(
    [
      [fromWarm, 'hello', 15],
      [fromWarm, 'js-api', 60],
      [fromNothing, coldSubject('js-api'), 120],
      ['first preparation, in a process of its own', 'js-api', 1300],
    ] as const
  ).map(
    ([quantity, subject, most]): Target => ({
      what: `${quantity}: ${subject}`,
      aim: `≤ ${figure(most)} ms`,
      of: (median) => {
        const value = median('cold-start', quantity, subject);
        const empty = median('cold-start', emptyProcess.quantity, emptyProcess.subject);
        return [`${figure(value)} ms (an empty program of Node: ${figure(empty)})`, value <= most];
      },
    }),
  ),
  {
    what: `${callsQuantity} of hello, of that of a C server under runc`,
    aim: '≤ 0.5 ×',
    of: (median) => {
      const ms = (subject: Subject): number => median('pod-start', callsQuantity, label(subject));
      const ratio = ms('hello') / ms('runc');
      return [times(ratio), ratio <= 0.5];
    },
  },
  {
    what: 'requests lost while pods are stopped under load',
    aim: '0 of 100,000',
    of: (median) => {
      const value = (quantity: string): number => median('rolling-stop', quantity, rollingSubject);
      const [lost, answered] = [value(rollingQuantities.lost), value(rollingQuantities.answered)];
      const stopped = value(rollingQuantities.stopped);
      const text = `${figure(lost)} of ${figure(answered)}, ${figure(stopped)} pods stopped`;
      return [text, lost === 0 && answered >= 100_000 && stopped >= 3];
    },
  },
  {
    what: 'ExecSync of a command in a Spin container, not the first',
    aim: '≤ 30 ms',
    of: (median) => {
      const ms = median('exec', execQuantities.later, execSubject);
      return [`${figure(ms)} ms`, ms <= 30];
    },
  },
  {
    what: 'Stats of a Spin container',
    aim: '≤ 1 ms',
    of: (median) => {
      const ms = median('task-calls', taskCallQuantities.stats, taskCallSubjects.Spin);
      return [`${figure(ms)} ms`, ms <= 1];
    },
  },
  ...Object.values(bodyQuantities).map(
    (quantity): Target => ({
      what: quantity,
      aim: '≥ 600 MB/s',
      of: (median) => {
        const rate = median('bodies', quantity, 'bench-guest');
        const floor = median('bodies', quantity, floorName);
        return [`${figure(rate)} MB/s (bare node:http: ${figure(floor)})`, rate >= 600];
      },
    }),
  ),
  {
    what: runawayQuantities.late,
    aim: '≤ 50 ms',
    of: (median) => {
      const late = median('runaway', runawayQuantities.late, runawaySubjects.crowded);
      return [`${figure(late)} ms`, late <= 50];
    },
  },
  {
    what: "neighbours' p99 with a runaway guest, of that without",
    aim: '< 2 ×',
    of: (median) => {
      const p99 = (subject: string): number => median('runaway', runawayQuantities.p99, subject);
      const ratio = p99(runawaySubjects.crowded) / p99(runawaySubjects.calm);
      return [times(ratio), ratio < 2];
    },
  },
  {
    what: 'memory added by a request, in 1,000,000 requests',
    // Nothing that is lost takes less than a pointer.
    aim: '< 8 bytes',
    of: (median) => {
      const slope = median('soak', soakQuantities.slope, 'hello');
      const requests = median('soak', soakQuantities.requests, 'hello');
      return [`${figure(slope)} bytes in ${figure(requests)} requests`, slope < 8 && requests >= 1e6];
    },
  },
];

class NotMeasured extends Error {}

/** The targets with what these results say of them. */
export function targetTable(results: Results): string {
  const median = (part: PartName, quantity: string, subject: string): number => {
    const found = results[part]?.measurements.find(
      (each) => each.quantity === quantity && each.subject === subject,
    );
    if (found === undefined) throw new NotMeasured();
    return found.median;
  };
  const rows = targets.map(({ what, aim, of }) => {
    try {
      const [text, holds] = of(median);
      return [what, aim, text, holds ? 'yes' : '**no**'];
    } catch (error) {
      if (!(error instanceof NotMeasured)) throw error;
      return [what, aim, 'not measured', '–'];
    }
  });
  return table(['target', 'aim', 'measured', 'holds'], rows);
}
