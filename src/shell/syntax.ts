/**
 * The shell's language: a small part of what sh has. Words with quotes and `$NAME`, `;`, `&&`, `||`, `!`, pipes, and
 * redirections to nowhere. What it has not is refused by name, so that a script never does half of what it says.
 */

/** A piece of a word. Only the value of an unquoted variable is split at white space. */
export type WordPart =
  | { readonly kind: 'text'; readonly text: string }
  | {
      readonly kind: 'variable';
      readonly name: string;
      readonly fallback?: string;
      readonly quoted: boolean;
    };

export type Word = readonly WordPart[];

/** Where an output of a command goes. */
export type Target = 'stdout' | 'stderr' | 'nowhere';

export type SimpleCommand = {
  readonly assignments: readonly (readonly [name: string, value: Word])[];
  readonly words: readonly Word[];
  readonly stdout: Target;
  readonly stderr: Target;
};

export type Step = {
  /** `!` before it. */
  readonly negated: boolean;
  /** Connected by pipes. */
  readonly commands: readonly SimpleCommand[];
  /** When it runs: always, or depending on the exit code before it. */
  readonly when: 'always' | 'success' | 'failure';
};

/** The text is not of this language; the message says what and what to do. */
export class SyntaxProblem extends Error {
  override readonly name = 'SyntaxProblem';
}

/** UTF-16 units of a script. */
export const maxScriptLength = 128 * 1024;

type Token =
  | { readonly kind: 'word'; readonly word: Word; readonly bare: string | undefined }
  /** `joined`: nothing stands between it and what is before it. */
  | { readonly kind: 'operator'; readonly text: string; readonly joined: boolean };

/** Operators, longest first. */
const operators = ['&&', '||', '&>', '>>', '<<', '>&', '<&', ';;', ';', '|', '&', '<', '>', '(', ')', '\n'];

/** Words that begin what we do not have. */
const keywords: ReadonlySet<string> = new Set([
  'if',
  'then',
  'else',
  'elif',
  'fi',
  'for',
  'while',
  'until',
  'do',
  'done',
  'case',
  'esac',
  'function',
  '{',
  '}',
  '[[',
  'select',
  'time',
]);

const nameStart = /[A-Za-z_]/;
const nameBody = /[A-Za-z0-9_]/;

function refuse(what: string): never {
  throw new SyntaxProblem(
    `${what} is not part of this shell: it knows commands, quotes, $NAME, ";", "&&", "||", "|" and "> /dev/null"`,
  );
}

/** Reads a script. Throws `SyntaxProblem`. */
export function parseScript(text: string): readonly Step[] {
  if (text.length > maxScriptLength) {
    throw new SyntaxProblem(`the script is ${text.length} characters long, the limit is ${maxScriptLength}`);
  }
  return new Parser(new Lexer(text).tokens()).script();
}

class Lexer {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  tokens(): readonly Token[] {
    const tokens: Token[] = [];
    let end = 0;
    for (;;) {
      const char = this.#peek();
      if (char === '') return tokens;
      if (char === ' ' || char === '\t' || char === '\r') this.#at += 1;
      else if (this.#text.startsWith('\\\n', this.#at)) this.#at += 2;
      else if (char === '#') this.#skipComment();
      else {
        const operator = operators.find((one) => this.#text.startsWith(one, this.#at));
        if (operator === undefined) tokens.push(this.#word());
        else {
          tokens.push({ kind: 'operator', text: operator, joined: end === this.#at });
          this.#at += operator.length;
        }
        end = this.#at;
      }
    }
  }

  #peek(offset = 0): string {
    return this.#text[this.#at + offset] ?? '';
  }

  #skipComment(): void {
    const end = this.#text.indexOf('\n', this.#at);
    this.#at = end < 0 ? this.#text.length : end;
  }

  #word(): Token {
    const parts: WordPart[] = [];
    let bare = '';
    let isBare = true;
    const add = (text: string): void => {
      const last = parts.at(-1);
      if (last?.kind === 'text') parts[parts.length - 1] = { kind: 'text', text: last.text + text };
      else parts.push({ kind: 'text', text });
    };
    for (;;) {
      const char = this.#peek();
      if (char === '' || ' \t\r\n;&|<>()'.includes(char)) break;
      if (char === "'") {
        isBare = false;
        add(this.#until("'"));
      } else if (char === '"') {
        isBare = false;
        this.#at += 1;
        add('');
        this.#quoted(parts, add);
      } else if (char === '\\') {
        isBare = false;
        const escaped = this.#peek(1);
        if (escaped !== '\n') add(escaped);
        this.#at += escaped === '' ? 1 : 2;
      } else if (char === '`') refuse('a command in "`"');
      else if (char === '$') {
        isBare = false;
        this.#variable(parts, add, false);
      } else {
        add(char);
        bare += char;
        this.#at += 1;
      }
    }
    return { kind: 'word', word: parts, bare: isBare ? bare : undefined };
  }

  #until(quote: string): string {
    const end = this.#text.indexOf(quote, this.#at + 1);
    if (end < 0) throw new SyntaxProblem(`a quote ${quote} is not closed`);
    const text = this.#text.slice(this.#at + 1, end);
    this.#at = end + 1;
    return text;
  }

  #quoted(parts: WordPart[], add: (text: string) => void): void {
    for (;;) {
      const char = this.#peek();
      if (char === '') throw new SyntaxProblem('a quote " is not closed');
      if (char === '"') {
        this.#at += 1;
        return;
      }
      if (char === '`') refuse('a command in "`"');
      if (char === '$') this.#variable(parts, add, true);
      else if (char === '\\' && '$`"\\\n'.includes(this.#peek(1)) && this.#peek(1) !== '') {
        if (this.#peek(1) !== '\n') add(this.#peek(1));
        this.#at += 2;
      } else {
        add(char);
        this.#at += 1;
      }
    }
  }

  #variable(parts: WordPart[], add: (text: string) => void, quoted: boolean): void {
    this.#at += 1;
    const char = this.#peek();
    if (char === '(') refuse('"$(…)"');
    if (char === '{') {
      const inner = this.#until('}');
      const match = /^([A-Za-z_][A-Za-z0-9_]*|\?)(?::?-([^$`\\"']*))?$/.exec(inner);
      if (match?.[1] === undefined) refuse(`"\${${inner}}"`);
      const [, name, fallback] = match;
      parts.push({ kind: 'variable', name, quoted, ...(fallback === undefined ? {} : { fallback }) });
      return;
    }
    if (char === '?') {
      this.#at += 1;
      parts.push({ kind: 'variable', name: '?', quoted });
      return;
    }
    if ('$!#@*-0123456789'.includes(char) && char !== '') refuse(`"$${char}"`);
    if (!nameStart.test(char)) {
      add('$');
      return;
    }
    let name = '';
    while (nameBody.test(this.#peek())) {
      name += this.#peek();
      this.#at += 1;
    }
    parts.push({ kind: 'variable', name, quoted });
  }
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  script(): readonly Step[] {
    const steps: Step[] = [];
    let when: Step['when'] = 'always';
    for (;;) {
      const token = this.#tokens[this.#at];
      if (token === undefined) {
        if (when !== 'always') throw new SyntaxProblem('a command is missing after "&&" or "||"');
        return steps;
      }
      // A newline may follow "&&" and "||", and stand alone.
      if (token.kind === 'operator' && token.text === '\n') {
        this.#at += 1;
        continue;
      }
      steps.push(this.#step(when));
      when = this.#connection();
    }
  }

  /** What stands between two steps. */
  #connection(): Step['when'] {
    const token = this.#tokens[this.#at];
    if (token === undefined) return 'always';
    this.#at += 1;
    const text = token.kind === 'operator' ? token.text : '';
    switch (text) {
      case '&&':
        return 'success';
      case '||':
        return 'failure';
      case ';':
      case '\n':
        return 'always';
      case '&':
        return refuse('"&" for the background');
      default:
        return refuse(`"${text}"`);
    }
  }

  #step(when: Step['when']): Step {
    let negated = false;
    for (let token = this.#tokens[this.#at]; token?.kind === 'word' && token.bare === '!'; ) {
      negated = !negated;
      token = this.#tokens[++this.#at];
    }
    const commands = [this.#command()];
    while (this.#isOperator('|')) {
      this.#at += 1;
      commands.push(this.#command());
    }
    return { negated, commands, when };
  }

  #isOperator(text: string): boolean {
    const token = this.#tokens[this.#at];
    return token?.kind === 'operator' && token.text === text;
  }

  #command(): SimpleCommand {
    const assignments: (readonly [string, Word])[] = [];
    const words: Word[] = [];
    let stdout: Target = 'stdout';
    let stderr: Target = 'stderr';
    for (;;) {
      const token = this.#tokens[this.#at];
      if (token === undefined) break;
      if (token.kind === 'operator') {
        if (['<', '<<', '<&'].includes(token.text)) refuse(`the redirection "${token.text}"`);
        if (['(', ')', ';;'].includes(token.text)) refuse(`"${token.text}"`);
        if (!token.text.startsWith('>') && token.text !== '&>') break;
        const target = this.#redirection(token.text, { stdout, stderr }, 1);
        stdout = target;
        if (token.text === '&>') stderr = target;
        continue;
      }
      const next = this.#tokens[this.#at + 1];
      // `2>` is the one number before a redirection that means something here.
      const isNumber = token.bare === '1' || token.bare === '2';
      if (isNumber && next?.kind === 'operator' && next.joined && next.text.startsWith('>')) {
        this.#at += 1;
        const target = this.#redirection(next.text, { stdout, stderr }, Number(token.bare));
        if (token.bare === '1') stdout = target;
        else stderr = target;
        continue;
      }
      this.#at += 1;
      const assignment = words.length === 0 ? assignmentOf(token.word) : undefined;
      if (assignment !== undefined) assignments.push(assignment);
      else {
        if (words.length === 0 && token.bare !== undefined && keywords.has(token.bare)) {
          refuse(`"${token.bare}"`);
        }
        words.push(token.word);
      }
    }
    if (words.length === 0 && assignments.length === 0) {
      const token = this.#tokens[this.#at];
      const where =
        token?.kind === 'operator'
          ? `before "${token.text === '\n' ? 'newline' : token.text}"`
          : 'at the end';
      throw new SyntaxProblem(`a command is missing ${where}`);
    }
    return { assignments, words, stdout, stderr };
  }

  /** `> /dev/null`, `2>&1` and their like; nothing can be written to a file. */
  #redirection(operator: string, now: Pick<SimpleCommand, 'stdout' | 'stderr'>, fd: number): Target {
    this.#at += 1;
    const token = this.#tokens[this.#at];
    const file = token?.kind === 'word' ? token.bare : undefined;
    this.#at += 1;
    if (operator === '>&' && file === '1') return now.stdout;
    if (operator === '>&' && file === '2') return now.stderr;
    if (file === '/dev/null') return 'nowhere';
    if (file === '/dev/stdout') return now.stdout;
    if (file === '/dev/stderr') return now.stderr;
    return refuse(`the redirection "${fd === 1 ? '' : fd}${operator} ${file ?? '…'}" to a file`);
  }
}

function assignmentOf(word: Word): readonly [string, Word] | undefined {
  const [first, ...rest] = word;
  if (first?.kind !== 'text') return undefined;
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=/.exec(first.text);
  if (match?.[1] === undefined) return undefined;
  const value = first.text.slice(match[0].length);
  return [match[1], value === '' ? rest : [{ kind: 'text', text: value }, ...rest]];
}
