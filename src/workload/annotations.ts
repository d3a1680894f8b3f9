import { nearestKey } from '../app/manifest-key.ts';
import type { Spec } from './spec.ts';

/** Names what components see of the pod's volumes: `COMPONENT:/path[:/path/in/guest][:rw]`, comma-separated. */
export const filesAnnotation = 'spin.shim/files';

/** With the value `runc` it has the pod's sandbox run from its image, as on any node, in place of our own. */
export const sandboxAnnotation = 'spin.shim/sandbox';

const known = [filesAnnotation, sandboxAnnotation];

/** A line for each annotation of ours that is none. */
export function unknownAnnotations({ annotations }: Pick<Spec, 'annotations'>): readonly string[] {
  return [...annotations.keys()].flatMap((name) => {
    if (!name.startsWith('spin.shim/') || known.includes(name)) return [];
    const nearest = nearestKey(name, known);
    const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
    return [
      `the annotation ${JSON.stringify(name)} is not known and has no effect: known are "${known.join('", "')}"${hint}`,
    ];
  });
}
