import { missingInterface } from './missing-import.ts';
import type { InstanceScope } from './scope.ts';
import { createKeyValue, type KeyValueGrant } from './spin/key-value.ts';
import { createVariables, type VariableSource } from './spin/variables.ts';
import { type CliGrant, createCli } from './wasi/cli.ts';
import { createClocks } from './wasi/clocks.ts';
import { createFilesystem, type FilesystemGrant } from './wasi/filesystem.ts';
import { createHttp, type HttpServices } from './wasi/http/http.ts';
import { createIo } from './wasi/io.ts';
import { createRandom } from './wasi/random.ts';
import { createDeniedSockets } from './wasi/sockets.ts';

/** Everything one component may do, in the form the host objects take it. Shared by all its instances in a worker. */
export type ComponentGrant = {
  readonly componentId: string;
  readonly cli: CliGrant;
  readonly filesystem: FilesystemGrant;
  readonly http: HttpServices;
  readonly variables: VariableSource;
  readonly keyValue: KeyValueGrant;
};

/**
 * The host objects of one instance by import name. `wanted` are the component's imports; of those, `missing` have no
 * host object and get a stand-in that fails when it is called.
 */
export function createImports(
  grant: ComponentGrant,
  scope: InstanceScope,
  missing: readonly string[],
): Readonly<Record<string, object>> {
  const imports = Object.create(null) as Record<string, object>;
  for (const interfaces of hostInterfaces(grant, scope)) {
    for (const [name, object] of interfaces) imports[name] = object;
  }
  for (const name of missing) imports[name] = missingInterface(name);
  return imports;
}

function hostInterfaces(grant: ComponentGrant, scope: InstanceScope): readonly ReadonlyMap<string, object>[] {
  return [
    createIo(scope),
    createCli(grant.cli, scope),
    createClocks(scope),
    createRandom(),
    createFilesystem(grant.filesystem, scope),
    createDeniedSockets(scope),
    createHttp(grant.http, scope),
    createVariables(grant.variables, grant.componentId, scope),
    createKeyValue(grant.keyValue, scope),
  ];
}

/** The import names that have a host object, for the check at start. */
export function providedImports(grant: ComponentGrant, scope: InstanceScope): ReadonlySet<string> {
  return new Set(hostInterfaces(grant, scope).flatMap((interfaces) => [...interfaces.keys()]));
}
