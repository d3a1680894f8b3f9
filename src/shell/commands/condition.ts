import type { AppAccess } from '../app-access.ts';
import { type Command, CommandFailure } from '../command.ts';
import { FileView } from '../file-view.ts';

const numbers: ReadonlyMap<string, (left: number, right: number) => boolean> = new Map([
  ['-eq', (left: number, right: number) => left === right],
  ['-ne', (left: number, right: number) => left !== right],
  ['-lt', (left: number, right: number) => left < right],
  ['-le', (left: number, right: number) => left <= right],
  ['-gt', (left: number, right: number) => left > right],
  ['-ge', (left: number, right: number) => left >= right],
]);

/** `test` of one condition: texts, whole numbers, and files as the guests see them. */
export const testCommand: Command = {
  usage: '[!] -z TEXT | -n TEXT | TEXT = TEXT | TEXT != TEXT | N -eq N … | -e FILE | -f FILE | -d FILE',
  summary: 'end with 0 if a condition holds; also as [ … ]',
  run: async ({ args, app }) => (holds(args, app) ? 0 : 1),
};

/** The same in brackets. */
export const bracketCommand: Command = {
  ...testCommand,
  run: async (context) => {
    if (context.args.at(-1) !== ']') throw CommandFailure.usage('a "]" is missing');
    return testCommand.run({ ...context, args: context.args.slice(0, -1) });
  },
};

function holds(args: readonly string[], app: AppAccess): boolean {
  const [first = '', second = '', third = ''] = args;
  if (first === '!' && args.length > 1) return !holds(args.slice(1), app);
  switch (args.length) {
    case 0:
      return false;
    case 1:
      return first !== '';
    case 2:
      return holdsOfOne(first, second, app);
    case 3:
      return holdsOfTwo(first, second, third);
    default:
      throw CommandFailure.usage('one condition was expected: connect several with "&&" and "||"');
  }
}

function holdsOfOne(operator: string, text: string, app: AppAccess): boolean {
  switch (operator) {
    case '-z':
      return text === '';
    case '-n':
      return text !== '';
    case '-e':
      return kindOf(text, app) !== undefined;
    case '-f':
      return kindOf(text, app) === 'file';
    case '-d':
      return kindOf(text, app) === 'directory';
    default:
      throw CommandFailure.usage(`"${operator}" is no condition here`);
  }
}

function holdsOfTwo(left: string, operator: string, right: string): boolean {
  if (operator === '=' || operator === '==') return left === right;
  if (operator === '!=') return left !== right;
  const compare = numbers.get(operator);
  if (compare === undefined) throw CommandFailure.usage(`"${operator}" is no comparison here`);
  for (const text of [left, right]) {
    if (!/^-?[0-9]{1,15}$/.test(text)) throw CommandFailure.usage(`"${text}" is no whole number`);
  }
  return compare(Number(left), Number(right));
}

/** What a path is for the first component that has it. */
function kindOf(path: string, app: AppAccess): 'file' | 'directory' | undefined {
  return app
    .components()
    .map((component) => new FileView(component).kind(path))
    .find((kind) => kind !== undefined);
}
