import { closeSync, fchmodSync, futimesSync, openSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { createMemoryFile } from '../linux-memory.ts';
import { type EntryContent, packEntry, unpackEntry } from './component-entry.ts';
import type { Confinement } from './confinement.ts';
import { CoreModules } from './core-modules.ts';
import { rehearseHolding } from './held-files.ts';
import { makeImageFile, minMappedBytes } from './linker/mapped-image.ts';
import { type CheckedFile, SealedFile, sealedParts } from './sealed-file.ts';

/** A module of nothing: its magic and its version. */
const emptyModule = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

const content: EntryContent = {
  entry: { imports: [], exports: [], form: { kind: 'plan', reuse: { ok: true } } },
  text: '{}',
  coreModules: [['0', emptyModule]],
};

const path = 'rehearsal';

/**
 * Goes, on an engine's main thread, the way of a claim with an entry of nothing: checking a seal, finding that it was
 * checked, compiling, an image, holding files, giving up rights. Opens no socket, keeps no descriptor and gives nothing up. `stop` is asked between the
 * parts: a claim does not wait for the next one.
 */
export async function rehearseClaim(confinement: Confinement, stop: () => boolean): Promise<void> {
  const parts: readonly (() => unknown)[] = [
    rehearseEntry,
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

/** With a sealed file in memory. */
async function rehearseEntry(): Promise<void> {
  const key = Buffer.alloc(32);
  const fd = createMemoryFile(path);
  try {
    fchmodSync(fd, 0o600);
    writeSync(fd, Buffer.concat(sealedParts(key, path, packEntry(content))));
    futimesSync(fd, 0, 0);
    let known: CheckedFile | undefined;
    for (let round = 0; round < 2; round += 1) {
      const options = { key: () => key, label: path, maxBytes: Number.MAX_SAFE_INTEGER, known };
      const file = SealedFile.take(openSync(`/proc/self/fd/${fd}`, 'r'), path, options);
      known = file.checked;
      await CoreModules.of(path, { content: unpackEntry(file.payload, path), file }).complete();
    }
  } finally {
    closeSync(fd);
  }
}
