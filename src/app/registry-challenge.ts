/** What a registry asks for with `WWW-Authenticate` (RFC 9110 section 11.6.1; distribution's token specification). */
export type Challenge =
  | { readonly scheme: 'basic' }
  | { readonly scheme: 'bearer'; readonly realm: string; readonly service?: string; readonly scope?: string };

/** Longest header that is looked at, in characters. */
export const maxChallengeLength = 8192;

const tokenCharacter = /[A-Za-z0-9!#$%&'*+.^_`|~-]/;

/** Reads a header value from left to right, each character once. */
class Cursor {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get done(): boolean {
    return this.#at >= this.#text.length;
  }

  skip(characters: string): void {
    while (!this.done && characters.includes(this.#text.charAt(this.#at))) this.#at += 1;
  }

  take(character: string): boolean {
    if (this.#text.charAt(this.#at) !== character) return false;
    this.#at += 1;
    return true;
  }

  token(): string {
    const start = this.#at;
    while (!this.done && tokenCharacter.test(this.#text.charAt(this.#at))) this.#at += 1;
    return this.#text.slice(start, this.#at);
  }

  quoted(): string {
    let value = '';
    while (!this.done) {
      const character = this.#text.charAt(this.#at++);
      if (character === '"') break;
      value += character === '\\' ? this.#text.charAt(this.#at++) : character;
    }
    return value;
  }

  /** Drops one character that fits nowhere, so that reading always moves on. */
  drop(): void {
    this.#at += 1;
  }
}

/**
 * The challenges of one or more header values, in order; schemes other than Basic and Bearer, and Bearer without a
 * realm, are left out. Never throws.
 */
export function parseChallenges(headers: readonly string[]): readonly Challenge[] {
  return headers.flatMap((header) => parseHeader(header.slice(0, maxChallengeLength)));
}

function parseHeader(text: string): readonly Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  const cursor = new Cursor(text);
  while (!cursor.done) {
    cursor.skip(' \t,');
    const word = cursor.token();
    if (word === '') {
      cursor.drop();
      continue;
    }
    cursor.skip(' \t');
    if (cursor.take('=')) {
      cursor.skip(' \t');
      const value = cursor.take('"') ? cursor.quoted() : cursor.token();
      found.at(-1)?.parameters.set(word.toLowerCase(), value);
    } else {
      found.push({ scheme: word.toLowerCase(), parameters: new Map() });
    }
  }
  return found.flatMap(({ scheme, parameters }): readonly Challenge[] => {
    if (scheme === 'basic') return [{ scheme: 'basic' }];
    const realm = parameters.get('realm');
    if (scheme !== 'bearer' || realm === undefined) return [];
    const service = parameters.get('service');
    const scope = parameters.get('scope');
    return [
      {
        scheme: 'bearer',
        realm,
        ...(service === undefined ? {} : { service }),
        ...(scope === undefined ? {} : { scope }),
      },
    ];
  });
}
