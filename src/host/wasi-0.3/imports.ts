import type { ScopeSource } from '../scope.ts';
import type { CliGrant } from '../wasi/cli.ts';
import type { FilesystemGrant } from '../wasi/filesystem.ts';
import type { HttpServices } from '../wasi/http/http.ts';
import { createCli03 } from './cli.ts';
import { createClocks03 } from './clocks.ts';
import { createFilesystem03 } from './filesystem.ts';
import { createHttp03 } from './http/http.ts';
import { createRandom03 } from './random.ts';
import { createDeniedSockets03 } from './sockets.ts';

/** What the interfaces of WASI 0.3 work with: the same grants as those of 0.2. */
export type Wasi03Grant = {
  readonly cli: CliGrant;
  readonly filesystem: FilesystemGrant;
  readonly http: HttpServices;
};

/** The versions that are served. Their interfaces are the same but for annotations (compared text by text). */
export const wasi03Versions = ['0.3.0', '0.3.0-rc-2026-03-15'];

/** Whether an import is one of WASI 0.3. */
export function isWasi03(importName: string): boolean {
  return (
    importName.startsWith('wasi:') && wasi03Versions.some((version) => importName.endsWith(`@${version}`))
  );
}

/** Host objects of WASI 0.3 by import name, each under both versions. */
export function createWasi03(grant: Wasi03Grant, source: ScopeSource): ReadonlyMap<string, object> {
  const interfaces = [
    createCli03(grant.cli, source),
    createClocks03(source),
    createRandom03(),
    createFilesystem03(grant.filesystem, source),
    createDeniedSockets03(),
    createHttp03(grant.http, source),
  ];
  const all = new Map<string, object>();
  for (const group of interfaces) {
    for (const [name, object] of group) {
      for (const version of wasi03Versions) all.set(`${name}@${version}`, object);
    }
  }
  return all;
}
