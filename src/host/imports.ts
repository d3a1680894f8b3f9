import { missingInterface } from './missing-import.ts';
import { type InstanceScope, noRequest, type ScopeSource } from './scope.ts';
import { createKeyValue, type KeyValueGrant } from './spin/key-value.ts';
import { createVariables, type VariableSource } from './spin/variables.ts';
import { type CliGrant, createCli } from './wasi/cli.ts';
import { createClocks } from './wasi/clocks.ts';
import { createFilesystem, type FilesystemGrant } from './wasi/filesystem.ts';
import { createHttp, type HttpServices } from './wasi/http/http.ts';
import { createIo } from './wasi/io.ts';
import { createRandom } from './wasi/random.ts';
import { createDeniedSockets } from './wasi/sockets.ts';
import { createWasi03 } from './wasi-0.3/imports.ts';

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
 * The host objects of one instance, made once for all the requests it serves. What they hold for a request hangs on
 * that request's scope; between two requests they are in one that has ended, where they give the guest nothing.
 */
export class HostObjects implements ScopeSource {
  readonly imports: Readonly<Record<string, object>>;
  #scope: InstanceScope = noRequest;

  /**
   * `missing` are imports of the component that have no host object: they get a stand-in that fails when it is called.
   * `wasi03` is for components that import WASI 0.3, most of them beside 0.2.
   */
  constructor(grant: ComponentGrant, missing: readonly string[], wasi03 = false) {
    this.imports = createImports(grant, this, missing, wasi03);
  }

  get scope(): InstanceScope {
    return this.#scope;
  }

  /** The scope of the request that is served from now on. */
  enter(scope: InstanceScope): void {
    this.#scope = scope;
  }

  /** The request is over. */
  leave(): void {
    this.#scope = noRequest;
  }
}

/**
 * Host objects by import name, working in the scope that `source` has at each call. `missing` are imports that have no
 * host object and get a stand-in that fails when it is called.
 */
export function createImports(
  grant: ComponentGrant,
  source: ScopeSource,
  missing: readonly string[],
  wasi03 = false,
): Readonly<Record<string, object>> {
  const imports = Object.create(null) as Record<string, object>;
  for (const interfaces of hostInterfaces(grant, source)) {
    for (const [name, object] of interfaces) imports[name] = object;
  }
  if (wasi03) for (const [name, object] of createWasi03(grant, source)) imports[name] = object;
  for (const name of missing) imports[name] = missingInterface(name);
  return imports;
}

function hostInterfaces(grant: ComponentGrant, source: ScopeSource): readonly ReadonlyMap<string, object>[] {
  return [
    createIo(source),
    createCli(grant.cli, source),
    createClocks(source),
    createRandom(),
    createFilesystem(grant.filesystem, source),
    createDeniedSockets(source),
    createHttp(grant.http, source),
    createVariables(grant.variables, grant.componentId, source),
    createKeyValue(grant.keyValue, source),
  ];
}

/** The import names that have a host object, for the check at start. */
export function providedImports(grant: ComponentGrant): ReadonlySet<string> {
  const interfaces = [...hostInterfaces(grant, noRequest), createWasi03(grant, noRequest)];
  return new Set(interfaces.flatMap((group) => [...group.keys()]));
}
