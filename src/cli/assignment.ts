import { quoted } from '../app/manifest-key.ts';
import { ShimError } from '../error.ts';

/** Splits `NAME=VALUE` at the first `=`. Throws `invalid-argument` naming the flag, without the value. */
export function parseAssignment(text: string, flag: string): readonly [name: string, value: string] {
  const equals = text.indexOf('=');
  if (equals > 0 && !text.includes('\0')) return [text.slice(0, equals), text.slice(equals + 1)];
  const shown = equals < 0 ? quoted(text) : 'a value without a name';
  throw new ShimError('invalid-argument', `--${flag} is given ${shown}: write --${flag} NAME=VALUE`);
}
