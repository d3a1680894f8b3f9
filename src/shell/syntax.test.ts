import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxScriptLength, parseScript, type Word } from './syntax.ts';

/** A word as text, variables as `<name>`, quoted ones as `<"name">`. */
function shown(word: Word): string {
  return word
    .map((part) => (part.kind === 'text' ? part.text : part.quoted ? `<"${part.name}">` : `<${part.name}>`))
    .join('');
}

/** The words of a script of one command. */
function words(text: string): readonly string[] {
  const [step] = parseScript(text);
  return step?.commands[0]?.words.map(shown) ?? [];
}

test('words end at white space and keep what is quoted', () => {
  assert.deepEqual(words(`a 'b c' "d  e" f\\ g h"i"'j' ''`), ['a', 'b c', 'd  e', 'f g', 'hij', '']);
  assert.deepEqual(words('a # comment; b'), ['a']);
  assert.deepEqual(words('a#b'), ['a#b']);
  assert.deepEqual(words('a \\\n b'), ['a', 'b']);
  assert.deepEqual(words('echo "\\$x \\" \\n"'), ['echo', '$x " \\n']);
});

test('variables stand in words', () => {
  assert.deepEqual(words('$a$b "$c" \'$d\' $? $'), ['<a><b>', '<"c">', '$d', '<?>', '$']);
  const [step] = parseScript(`$${'{x:-a b}'}`);
  assert.deepEqual(step?.commands[0]?.words, [
    [{ kind: 'variable', name: 'x', quoted: false, fallback: 'a b' }],
  ]);
});

test('steps are told apart by when they run', () => {
  const steps = parseScript('a && b || ! c; d | e\n\nf;');
  assert.deepEqual(
    steps.map(({ when, negated, commands }) => [when, negated, commands.length]),
    [
      ['always', false, 1],
      ['success', false, 1],
      ['failure', true, 1],
      ['always', false, 2],
      ['always', false, 1],
    ],
  );
  assert.deepEqual(parseScript(' \n # nothing\n'), []);
});

test('assignments stand before the command, or alone', () => {
  const [step] = parseScript('A=1 B="x y" c D=2');
  const command = step?.commands[0];
  assert.deepEqual(
    command?.assignments.map(([name, value]) => `${name}=${shown(value)}`),
    ['A=1', 'B=x y'],
  );
  assert.deepEqual(command?.words.map(shown), ['c', 'D=2']);
});

test('outputs go to nowhere or to one another', () => {
  const targets = (text: string): readonly unknown[] => {
    const [step] = parseScript(text);
    return [step?.commands[0]?.stdout, step?.commands[0]?.stderr, words(text).length];
  };
  assert.deepEqual(targets('a > /dev/null'), ['nowhere', 'stderr', 1]);
  assert.deepEqual(targets('a >/dev/null 2>&1'), ['nowhere', 'nowhere', 1]);
  assert.deepEqual(targets('a 2>&1 >/dev/null'), ['nowhere', 'stdout', 1]);
  assert.deepEqual(targets('a &>/dev/null'), ['nowhere', 'nowhere', 1]);
  assert.deepEqual(targets('a 1>&2'), ['stderr', 'stderr', 1]);
  assert.deepEqual(targets('a 2 >/dev/null'), ['nowhere', 'stderr', 2]);
});

test('what is not of this language is refused by name', () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['if true; then a; fi', /^"if" is not part/],
    ['a $(b)', /\(…\)/],
    ['a `b`', /a command in "`"/],
    ['a "`b`"', /a command in "`"/],
    ['a &', /"&" for the background/],
    ['a < b', /the redirection "<"/],
    ['a > b', /the redirection "> b" to a file/],
    ['a 2>> b', /the redirection "2>> b" to a file/],
    ['(a)', /"\("/],
    ['a $1', /"\$1"/],
    ['a $' + '{x%y}', /"\$\{x%y\}"/],
    ['a "b', /quote " is not closed/],
    ["a 'b", /quote ' is not closed/],
    ['a &&', /missing after "&&"/],
    ['| a', /missing before "\|"/],
    ['a ; ; b', /missing before ";"/],
    ['!', /missing at the end/],
  ];
  for (const [text, message] of refused) assert.throws(() => parseScript(text), { message }, text);
});

test('a script is bounded', () => {
  parseScript(`echo ${'x'.repeat(maxScriptLength - 5)}`);
  assert.throws(() => parseScript(`echo ${'x'.repeat(maxScriptLength - 4)}`), /the limit is/);
});

test('hostile scripts take no longer than their length', () => {
  for (const piece of ['"$', '$', '${', 'a=', '\\', '!', '&&', '2>', "'", '&>'])
    for (const count of [1, 2, 3, 10_000]) {
      try {
        parseScript(piece.repeat(count));
      } catch (thrown) {
        assert.equal((thrown as Error).name, 'SyntaxProblem');
      }
    }
});
