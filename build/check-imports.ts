/**
 * Checks which file imports which: the arrows between the rooms of `src`, the leaf files, no cycles, no barrels.
 * Prints one line for each breach and exits with 1 if there is any.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const root = join(import.meta.dirname, '..');

/** Room → rooms it may import. `types` are those of which only types may be taken. */
type Arrows = { readonly from: readonly string[]; readonly types: readonly string[] };

const everything: Arrows = {
  from: [
    'ttrpc',
    'app',
    'host',
    'triggers',
    'engine',
    'shell',
    'workload',
    'containerd',
    'telemetry',
    'cli',
    'main',
  ],
  types: [],
};

const arrows: ReadonlyMap<string, Arrows> = new Map([
  ['ttrpc', { from: [], types: [] }],
  ['telemetry', { from: [], types: [] }],
  ['app', { from: [], types: [] }],
  ['host', { from: [], types: ['app'] }],
  ['triggers', { from: [], types: ['app', 'host'] }],
  ['engine', { from: ['app', 'host', 'triggers'], types: [] }],
  ['shell', { from: ['engine', 'app', 'host', 'triggers'], types: [] }],
  ['workload', { from: ['engine', 'app'], types: [] }],
  ['containerd', { from: ['ttrpc', 'workload', 'app'], types: [] }],
  ['cli', everything],
  ['main', everything],
]);

/** Files of `engine` that `workload` may import: the front, which runs no guest and parses no image. */
const engineFront = [
  'code-learner',
  'engine-process',
  'messages',
  'prepare',
  'prepared-app',
  'sealed-file',
  'checked-files',
  'installation',
];

/** Files that any room but `ttrpc` may import, besides the room `telemetry`. */
const leafFiles = [
  'src/bpf.ts',
  'src/error.ts',
  'src/large-bytes.ts',
  'src/linux.ts',
  'src/linux-events.ts',
  'src/linux-rights.ts',
  'src/linux-memory.ts',
  'src/node-crypto.ts',
  'src/system-calls.ts',
];

type Import = { readonly target: string; readonly typeOnly: boolean };

const statement =
  /^(?:import|export)\s(?<clause>[^'";]*?)\sfrom\s*'(?<from>[^']+)'|^import\s*'(?<bare>[^']+)'|\bimport\(\s*'(?<dynamic>[^']+)'/gm;

function importsOf(file: string, text: string): readonly Import[] {
  return [...text.matchAll(statement)].flatMap(({ groups }) => {
    const specifier = groups?.from ?? groups?.bare ?? groups?.dynamic ?? '';
    if (!specifier.startsWith('.')) return [];
    const clause = groups?.clause ?? '';
    const names = /^\{([^}]*)\}$/.exec(clause.trim())?.[1];
    const typesOnly = names
      ?.split(',')
      .map((name) => name.trim())
      .every((name) => name === '' || name.startsWith('type '));
    const typeOnly = clause.startsWith('type ') || typesOnly === true;
    return [{ target: normalize(join(dirname(file), specifier)), typeOnly }];
  });
}

function roomOf(file: string): string | undefined {
  const [top, room, below] = file.split('/');
  return top === 'src' && below !== undefined ? room : undefined;
}

/** What is wrong with one import, or undefined. */
function breach(file: string, { target, typeOnly }: Import): string | undefined {
  const room = roomOf(file);
  const other = roomOf(target);
  const isTest = /\.test\.ts$|\/test-[^/]*\.ts$/.test(file);
  if (!target.startsWith('src/') && !isTest) return `imports "${target}", which is not in "src"`;
  if (room === undefined) return leafFiles.includes(file) ? leafBreach(target) : undefined;
  if (leafFiles.includes(target) || other === 'telemetry') {
    return room === 'ttrpc' ? `imports "${target}": "ttrpc" imports nothing of ours` : undefined;
  }
  if (other === undefined || other === room) return undefined;
  const allowed = arrows.get(room);
  if (allowed === undefined) return `is in a room "${room}" that has no arrows: add it to the table`;
  if (room === 'workload' && other === 'engine') {
    const isFront = engineFront.some((name) => target === `src/engine/${name}.ts`);
    return isFront ? undefined : `imports "${target}", which is not of the front of "engine"`;
  }
  if (allowed.from.includes(other)) return undefined;
  // A test may need the real thing of the room that its own room knows only as a type.
  if (allowed.types.includes(other) && (typeOnly || isTest)) return undefined;
  const only = allowed.types.includes(other)
    ? `only types of "${other}" may be imported here`
    : 'no such arrow';
  return `imports "${target}": ${room} → ${other}, ${only}`;
}

function leafBreach(target: string): string | undefined {
  return leafFiles.includes(target) ? undefined : `is a leaf and imports "${target}"`;
}

/** Cycles of imports that run, each told once, from the file that is first by name. */
function cycles(graph: ReadonlyMap<string, readonly Import[]>): readonly string[] {
  const found = new Map<string, string>();
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) {
      const members = path.slice(start);
      found.set([...members].sort().join(), `${members.join(' → ')} → ${file}`);
      return;
    }
    if (done.has(file)) return;
    for (const { target, typeOnly } of graph.get(file) ?? []) {
      if (!typeOnly) visit(target, [...path, file]);
    }
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return [...found.values()];
}

const files = globSync('src/**/*.ts', { cwd: root }).sort();
const texts = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));
const graph = new Map([...texts].map(([file, text]) => [file, importsOf(file, text)]));
const breaches: string[] = [];
for (const [file, imports] of graph) {
  for (const found of imports) {
    const wrong = breach(file, found);
    if (wrong !== undefined) breaches.push(`${file}: ${wrong}`);
  }
  const text = texts.get(file) ?? '';
  if (/\/index\.ts$/.test(file))
    breaches.push(`${file}: is a barrel by its name: name it after what it exports`);
  if (/^export \* /m.test(text))
    breaches.push(`${file}: exports everything of another file: import it from there`);
}
breaches.push(...cycles(graph).map((cycle) => `cycle: ${cycle}`));
for (const line of breaches) process.stderr.write(`${line}\n`);
process.stdout.write(`imports: ${files.length} files, ${breaches.length} breaches\n`);
if (breaches.length > 0) process.exitCode = 1;
