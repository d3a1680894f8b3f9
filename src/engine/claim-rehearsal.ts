import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { type EntryContent, packEntry, unpackEntry } from './component-entry.ts';
import type { Confinement } from './confinement.ts';
import { CoreModules } from './core-modules.ts';
import { rehearseHolding } from './held-files.ts';
import { makeImageFile, minMappedBytes } from './linker/mapped-image.ts';
import { checkSeal, sealedParts } from './sealed-file.ts';

/** A module of nothing: its magic and its version. */
const emptyModule = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

const content: EntryContent = {
  entry: { imports: [], exports: [], form: { kind: 'plan', reuse: { ok: true } } },
  text: '{}',
  coreModules: [['0', emptyModule]],
};

const path = 'rehearsal';

/**
 * Goes, on an engine's main thread, the way of a claim with an entry of nothing: checking a seal, compiling, an image,
 * holding files, giving up rights. Opens no socket, keeps no descriptor and gives nothing up. `stop` is asked between the
 * parts: a claim does not wait for the next one.
 */
export async function rehearseClaim(confinement: Confinement, stop: () => boolean): Promise<void> {
  const parts: readonly (() => unknown)[] = [
    () => CoreModules.of(path, openEmptyEntry()).complete(),
    () => {
      const fd = makeImageFile(minMappedBytes, [{ offset: 0, bytes: emptyModule }]);
      if (fd !== undefined) closeSync(fd);
    },
    rehearseHolding,
    () => confinement.rehearse(),
  ];
  for (const part of parts) {
    if (stop()) return;
    await part();
    await setImmediate();
  }
}

function openEmptyEntry(): EntryContent {
  const key = Buffer.alloc(32);
  // A buffer of its own: whoever compiles an entry gives its memory back.
  const sealed = Buffer.from(
    Uint8Array.from(Buffer.concat(sealedParts(key, path, packEntry(content)))).buffer,
  );
  return unpackEntry(checkSeal(sealed, path, key, path), path);
}
