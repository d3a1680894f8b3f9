import { Buffer } from 'node:buffer';
import { type KeyValueBackend, maxKeyBytes, maxValueBytes } from '../../host/spin/key-value.ts';
import { type Command, type CommandContext, CommandFailure, takeOptions } from '../command.ts';
import { componentOf } from './app.ts';

type Run = (context: CommandContext, store: KeyValueBackend, args: readonly string[]) => Promise<number>;

const run: ReadonlyMap<string, Run> = new Map<string, Run>([
  [
    'list',
    async ({ stdout }, store) => {
      for (const key of (await store.keys()).toSorted()) await stdout.write(`${key}\n`);
      return 0;
    },
  ],
  [
    'get',
    async ({ stdout, stderr }, store, args) => {
      const key = keyOf(args);
      const value = await store.get(key);
      if (value === undefined) {
        await stderr.write(`kv: no key "${key}"\n`);
        return 1;
      }
      await stdout.write(value);
      // A value is bytes: a newline of ours comes only where a line would not end.
      if (value.at(-1) !== 0x0a) await stdout.write('\n');
      return 0;
    },
  ],
  [
    'set',
    async ({ stdin }, store, args) => {
      const [key, value, ...more] = args;
      if (more.length > 0) throw CommandFailure.usage('a key and one value were expected: quote the value');
      await store.set(keyOf([key ?? '']), value === undefined ? await valueFrom(stdin) : Buffer.from(value));
      return 0;
    },
  ],
  [
    'delete',
    async (_, store, args) => {
      await store.delete(keyOf(args));
      return 0;
    },
  ],
  ['exists', async (_, store, args) => ((await store.exists(keyOf(args))) ? 0 : 1)],
]);

/** `kv`: the stores that the manifest grants to the app's components, and no other. */
export const keyValueCommand: Command = {
  usage: '[-c COMPONENT] [-s STORE] list | get KEY | set KEY [VALUE] | delete KEY | exists KEY',
  summary: 'key-value stores the app is granted; "set" without a value takes the input',
  run: async (context) => {
    const { rest, options } = takeOptions(context.args, [], ['-c', '--component', '-s', '--store']);
    const [verb = 'list', ...args] = rest;
    const operation = run.get(verb);
    if (operation === undefined) {
      throw CommandFailure.usage(`"${verb}" is none of ${[...run.keys()].join(', ')}`);
    }
    const label = (options.get('-s') ?? options.get('--store'))?.at(-1) ?? 'default';
    return operation(context, await openStore(context, componentOf(options), label), args);
  },
};

async function openStore(
  { app }: CommandContext,
  id: string | undefined,
  label: string,
): Promise<KeyValueBackend> {
  const granted = await app.granted(id);
  const holder = granted.find(({ grant }) => grant.keyValue.granted.includes(label));
  if (holder === undefined) {
    const labels = new Set(granted.flatMap(({ grant }) => grant.keyValue.granted));
    const what = labels.size === 0 ? 'none is granted' : `granted are "${[...labels].join('", "')}"`;
    throw new CommandFailure(
      `store "${label}" is not in "key_value_stores" of ${id === undefined ? 'any component' : `component "${id}"`}: ${what}`,
    );
  }
  const store = holder.grant.keyValue.stores.open(label);
  if (store === undefined)
    throw new CommandFailure(`store "${label}" is of a kind that is not supported here`);
  return store;
}

function keyOf([key]: readonly string[]): string {
  if (key === undefined) throw CommandFailure.usage('a key was expected');
  const bytes = Buffer.byteLength(key);
  if (bytes > maxKeyBytes)
    throw new CommandFailure(`the key is ${bytes} bytes long, the limit is ${maxKeyBytes}`);
  return key;
}

async function valueFrom(input: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > maxValueBytes) throw new CommandFailure(`the value is longer than ${maxValueBytes} bytes`);
  }
  return Buffer.concat(chunks);
}
