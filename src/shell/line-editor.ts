import { visibleText } from './terminal-text.ts';

/** Lines that the history keeps. */
const maxHistory = 500;

/** Longest line that can be typed, UTF-16 units. */
export const maxTypedLength = 4_096;

/** What a key press led to. */
export type Edit =
  | { readonly kind: 'editing' }
  | { readonly kind: 'line'; readonly text: string }
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'end' };

const editing: Edit = { kind: 'editing' };

/** Keys by what a terminal sends for them, after the escape character. */
const escapeKeys: ReadonlyMap<string, Key> = new Map<string, Key>([
  ['[A', 'up'],
  ['[B', 'down'],
  ['[C', 'right'],
  ['[D', 'left'],
  ['[H', 'home'],
  ['[F', 'end'],
  ['[1~', 'home'],
  ['[4~', 'end'],
  ['[7~', 'home'],
  ['[8~', 'end'],
  ['[3~', 'delete'],
  ['OA', 'up'],
  ['OB', 'down'],
  ['OC', 'right'],
  ['OD', 'left'],
  ['OH', 'home'],
  ['OF', 'end'],
]);

type Key = 'up' | 'down' | 'left' | 'right' | 'home' | 'end' | 'delete';

/**
 * A line on a raw terminal: takes what the terminal sends, piece by piece, and gives what it is to show. The line may be
 * wider than the terminal: the part around the cursor is shown.
 */
export class LineEditor {
  /** Characters in a row of the terminal. */
  columns = 80;
  readonly #prompt: string;
  readonly #complete: (word: string) => readonly string[];
  readonly #history: string[] = [];
  #characters: string[] = [];
  #cursor = 0;
  /** Place in the history; its length is the line being typed. */
  #place = 0;
  #typed: string[] = [];
  /** An escape sequence that has not ended yet, without its escape character. */
  #escape: string | undefined;
  #afterReturn = false;

  /** `complete` gives the words that begin with a text. */
  constructor(prompt: string, complete: (word: string) => readonly string[]) {
    this.#prompt = prompt;
    this.#complete = complete;
  }

  /** What begins a new line. */
  start(): string {
    this.#characters = [];
    this.#cursor = 0;
    this.#place = this.#history.length;
    return this.#render();
  }

  /** Takes one character (a whole code point) and gives what to show and what came of it. */
  type(character: string): { readonly show: string; readonly edit: Edit } {
    if (this.#escape !== undefined) return { show: this.#continueEscape(character), edit: editing };
    // A return and a newline are one key for some clients.
    const again = this.#afterReturn && character === '\n';
    this.#afterReturn = character === '\r';
    if (again) return { show: '', edit: editing };
    switch (character) {
      case '\r':
      case '\n':
        return { show: '\r\n', edit: { kind: 'line', text: this.#accept() } };
      case '\x03':
        return { show: '^C\r\n', edit: { kind: 'interrupt' } };
      case '\x04':
        if (this.#characters.length === 0) return { show: '\r\n', edit: { kind: 'end' } };
        return { show: this.#key('delete'), edit: editing };
      case '\x1b':
        this.#escape = '';
        return { show: '', edit: editing };
      case '\t':
        return { show: this.#completeWord(), edit: editing };
      default:
        return { show: this.#control(character) ?? this.#insert(character), edit: editing };
    }
  }

  #accept(): string {
    const text = this.#characters.join('');
    if (text.trim() !== '' && text !== this.#history.at(-1)) {
      this.#history.push(text);
      if (this.#history.length > maxHistory) this.#history.shift();
    }
    return text;
  }

  /** Control characters with a meaning; undefined for what is to be inserted. */
  #control(character: string): string | undefined {
    switch (character) {
      case '\x7f':
      case '\b':
        if (this.#cursor === 0) return '';
        this.#cursor -= 1;
        return this.#key('delete');
      case '\x01':
        return this.#key('home');
      case '\x05':
        return this.#key('end');
      case '\x02':
        return this.#key('left');
      case '\x06':
        return this.#key('right');
      case '\x10':
        return this.#key('up');
      case '\x0e':
        return this.#key('down');
      case '\x0b':
        this.#characters.length = this.#cursor;
        return this.#render();
      case '\x15':
        this.#characters.splice(0, this.#cursor);
        this.#cursor = 0;
        return this.#render();
      case '\x17':
        return this.#deleteWord();
      case '\x0c':
        return `\x1b[H\x1b[2J${this.#render()}`;
      default:
        return visibleText(character) === character ? undefined : '';
    }
  }

  #insert(character: string): string {
    if (this.#characters.length >= maxTypedLength) return '\x07';
    this.#characters.splice(this.#cursor, 0, character);
    this.#cursor += 1;
    const fits = this.#prompt.length + this.#characters.length < this.columns;
    return fits && this.#cursor === this.#characters.length ? character : this.#render();
  }

  #continueEscape(character: string): string {
    const sequence = `${this.#escape ?? ''}${character}`;
    // "[" and "O" begin; digits and ";" go on; anything else ends it.
    const isOpen = sequence === '[' || sequence === 'O' || /^\[[0-9;]{1,8}$/.test(sequence);
    this.#escape = isOpen ? sequence : undefined;
    const key = isOpen ? undefined : escapeKeys.get(sequence);
    return key === undefined ? '' : this.#key(key);
  }

  #key(key: Key): string {
    switch (key) {
      case 'left':
        this.#cursor = Math.max(0, this.#cursor - 1);
        break;
      case 'right':
        this.#cursor = Math.min(this.#characters.length, this.#cursor + 1);
        break;
      case 'home':
        this.#cursor = 0;
        break;
      case 'end':
        this.#cursor = this.#characters.length;
        break;
      case 'delete':
        this.#characters.splice(this.#cursor, 1);
        break;
      case 'up':
        this.#recall(this.#place - 1);
        break;
      case 'down':
        this.#recall(this.#place + 1);
        break;
      default:
        key satisfies never;
    }
    return this.#render();
  }

  #recall(place: number): void {
    if (place < 0 || place > this.#history.length) return;
    if (this.#place === this.#history.length) this.#typed = this.#characters;
    this.#place = place;
    this.#characters = place === this.#history.length ? this.#typed : [...(this.#history[place] ?? '')];
    this.#cursor = this.#characters.length;
  }

  #deleteWord(): string {
    let start = this.#cursor;
    while (start > 0 && this.#characters[start - 1] === ' ') start -= 1;
    while (start > 0 && this.#characters[start - 1] !== ' ') start -= 1;
    this.#characters.splice(start, this.#cursor - start);
    this.#cursor = start;
    return this.#render();
  }

  #completeWord(): string {
    const word = this.#characters.slice(0, this.#cursor).join('');
    // Names of commands only, so only the first word.
    if (word === '' || word.includes(' ')) return '\x07';
    const candidates = this.#complete(word);
    const [first] = candidates;
    if (first === undefined) return '\x07';
    const rest =
      candidates.length === 1 ? `${first.slice(word.length)} ` : commonStart(candidates).slice(word.length);
    if (rest === '') return `\r\n${candidates.join('  ')}\r\n${this.#render()}`;
    for (const character of rest) this.#insert(character);
    return this.#render();
  }

  /** The line anew, the cursor where it belongs. */
  #render(): string {
    const room = Math.max(8, this.columns - this.#prompt.length - 1);
    const start = Math.max(0, this.#cursor - room);
    const shown = this.#characters.slice(start, start + room).join('');
    const back = Math.min(this.#characters.length, start + room) - this.#cursor;
    return `\r\x1b[K${this.#prompt}${shown}${back > 0 ? `\x1b[${back}D` : ''}`;
  }
}

/** What all of the words begin with. */
function commonStart(words: readonly string[]): string {
  const [first = '', ...others] = words;
  let length = first.length;
  for (const word of others) while (!word.startsWith(first.slice(0, length))) length -= 1;
  return first.slice(0, length);
}
