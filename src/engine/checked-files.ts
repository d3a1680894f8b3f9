import { codePathOf } from './code-store.ts';
import type { PreparedApp } from './prepared-app.ts';
import type { CheckedFile } from './sealed-file.ts';

/** Files that are remembered; of more the first to be told of go. */
const maxRemembered = 2048;

/**
 * What a host knows of sealed files that one of its children has checked: engines that come take them as they are for as
 * long as they are those files. Kept nowhere but in memory, so that a host that starts has all of them checked.
 */
export class CheckedFiles {
  readonly #identities = new Map<string, string>();

  /** What is known of an app's files. */
  of(prepared: PreparedApp): readonly CheckedFile[] {
    return [...filesOf(prepared)].flatMap((path) => {
      const identity = this.#identities.get(path);
      return identity === undefined ? [] : [{ path, identity }];
    });
  }

  /** Notes what was checked for an app. Of other files its engine has nothing to tell, whoever speaks for it. */
  note(prepared: PreparedApp, files: readonly CheckedFile[]): void {
    const own = filesOf(prepared);
    for (const { path, identity } of files) {
      if (!own.has(path)) continue;
      this.#identities.delete(path);
      this.#identities.set(path, identity);
    }
    for (const path of this.#identities.keys()) {
      if (this.#identities.size <= maxRemembered) return;
      this.#identities.delete(path);
    }
  }
}

function filesOf({ components }: PreparedApp): ReadonlySet<string> {
  return new Set(components.flatMap(({ entryPath }) => [entryPath, codePathOf(entryPath)]));
}
