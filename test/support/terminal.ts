import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { waitFor } from './wait.ts';

/** A program on a terminal of its own, by script(1). */
export class Terminal {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<unknown[]>;
  #output = '';

  /** `command` is a line for a shell. */
  constructor(command: string) {
    this.#child = spawn('script', ['-qec', `tty; ${command}`, '/dev/null'], { stdio: 'pipe' });
    this.#ended = once(this.#child, 'close');
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Types a line again and again until a text is on the screen that is none of the line's. */
  async typeUntil(line: string, text: string): Promise<void> {
    await waitFor(
      `"${text}" on the terminal`,
      () => {
        if (this.#output.includes(text)) return true;
        this.type(`${line}\r`);
        return false;
      },
      { explain: () => this.#output },
    );
  }

  /** Waits for a text on the screen; everything that came so far. */
  shows(text: string): Promise<string> {
    const find = (): string | undefined => (this.#output.includes(text) ? this.#output : undefined);
    return waitFor(`"${text}" on the terminal`, find, { explain: () => this.#output });
  }

  /** Changes its size as a window does: who runs on it gets SIGWINCH. */
  async resize(columns: number, rows: number): Promise<void> {
    const [device] = /\/dev\/pts\/\d+/.exec(await this.shows('/dev/pts/')) ?? [];
    assert.ok(device !== undefined);
    execFileSync('stty', ['-F', device, 'cols', String(columns), 'rows', String(rows)]);
  }

  /**
   * Gives it so many columns, each time with another row, until a text is on the screen or, without one, the program has ended: who
   * has just begun on it may not listen to changes yet.
   */
  async resizeUntil(columns: number, text?: string): Promise<void> {
    let changes = 0;
    await waitFor(
      text === undefined ? 'the end of the program' : `"${text}" on the terminal`,
      async () => {
        if (text === undefined ? this.#child.exitCode !== null : this.#output.includes(text)) return true;
        await this.resize(columns, 22 + (changes++ % 2));
        return false;
      },
      { explain: () => this.#output },
    );
  }

  /** Exit code of the program. */
  async exitCode(): Promise<unknown> {
    const [code] = await this.#ended;
    return code;
  }
}
