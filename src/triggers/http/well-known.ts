import type { App } from '../../app/types.ts';

/** An answer the host gives itself. */
export type HostAnswer = {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
};

const prefix = '/.well-known/spin/';

/** Answers `/.well-known/spin/*` (reference/spin.md 3.1.2); undefined for every other path. */
export function wellKnownAnswer(app: App, path: string): HostAnswer | undefined {
  if (!path.startsWith(prefix)) return undefined;
  switch (path.slice(prefix.length)) {
    case 'health':
      return { status: 200, headers: [], body: 'OK' };
    case 'info': {
      const info = {
        name: app.name,
        ...(app.version === undefined || app.version === '' ? {} : { version: app.version }),
        ...(app.ociImageDigest === undefined ? {} : { oci_image_digest: app.ociImageDigest }),
      };
      return {
        status: 200,
        headers: [['content-type', 'application/json']],
        body: JSON.stringify(info, null, 2),
      };
    }
    default:
      return { status: 404, headers: [], body: '' };
  }
}
