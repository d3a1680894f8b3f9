import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  maxVariableNameLength,
  parseTemplate,
  renderTemplate,
  templateVariables,
  variableNameProblem,
} from './template.ts';

const render = (text: string): string => renderTemplate(parseTemplate(text), (name) => `<${name}>`);

const cases: readonly (readonly [text: string, rendered: string])[] = [
  ['', ''],
  ['plain', 'plain'],
  ['{{ a }}', '<a>'],
  ['{{a}}{{ b_2 }}', '<a><b_2>'],
  ['x{{\ta\n}}y', 'x<a>y'],
  ['a }} b', 'a }} b'],
  ['{ {a} }', '{ {a} }'],
  ['{{ a }}}', '<a>}'],
  ['$ {a}', '$ {a}'],
];

for (const [text, rendered] of cases)
  test(`template ${JSON.stringify(text)}`, () => assert.equal(render(text), rendered));

test('values are not templates themselves', () => {
  assert.equal(
    renderTemplate(parseTemplate('{{ a }}'), () => '{{ b }}'),
    '{{ b }}',
  );
});

test('each variable is listed once', () => {
  assert.deepEqual(templateVariables(parseTemplate('{{ a }}{{ b }}{{ a }}')), ['a', 'b']);
});

test('open braces and bad names are refused', () => {
  for (const text of ['{{', '{{ a', '{{ a }', 'x {{ a }} {{'])
    assert.throws(() => parseTemplate(text), /without/, text);
  for (const text of ['{{}}', '{{ A }}', '{{ a b }}', '{{ {{ a }}', '{{{a}}}', '{{ a-b }}']) {
    assert.throws(() => parseTemplate(text), /whose name/, text);
  }
});

test('variable names follow the rules', () => {
  for (const name of ['a', 'a1', 'a_b', 'a_1', 'constructor', 'a'.repeat(maxVariableNameLength)]) {
    assert.equal(variableNameProblem(name), undefined, name);
  }
  for (const name of [
    '',
    '1a',
    '_a',
    'a_',
    'a__b',
    'A',
    'aB',
    'a-b',
    'é',
    '__proto__',
    'a'.repeat(maxVariableNameLength + 1),
  ]) {
    assert.notEqual(variableNameProblem(name), undefined, name);
  }
});

test('many braces take linear time', () => {
  assert.throws(() => parseTemplate('{'.repeat(1_000_000)), /without/);
  assert.equal(render('{{ a }}'.repeat(100_000)).length, 300_000);
});
