import type { Socket } from 'node:net';
import { httpTriggersOf } from '../app/single-component.ts';
import { ShimError } from '../error.ts';
import { type ComponentGrant, HostObjects, providedImports } from '../host/imports.ts';
import type { InstanceScope } from '../host/scope.ts';
import { isWasi03 } from '../host/wasi-0.3/imports.ts';
import { LineThrottle } from '../telemetry/line-throttle.ts';
import { Phases } from '../telemetry/phases.ts';
import { AnswerGroup } from '../triggers/http/answer-group.ts';
import { HttpTriggerServer, type Invoke } from '../triggers/http/http-trigger.ts';
import { routeLines } from '../triggers/http/route-lines.ts';
import { readAppLimits } from './app-limits.ts';
import { type AppSettings, resolveSettings } from './app-settings.ts';
import { grantOf, openSharedServices, type SharedServices } from './component-grant.ts';
import type { CompiledComponent } from './core-modules.ts';
import type { ComponentRuntime } from './guest-instance.ts';
import { GuestPace } from './guest-pace.ts';
import { findHttpHandler, isAsynchronous } from './http-export.ts';
import { type HttpComponent, invokeHttp } from './http-invocation.ts';
import { isProvidedBySpin } from './import-names.ts';
import type { Inspected } from './inspection.ts';
import { type InstanceMemoryLimit, instanceMemoryLimit, isMemoryRefused } from './instance-memory.ts';
import { importKeyOf } from './linker/host-names.ts';
import { parseListenAddress } from './listen-address.ts';
import { loadRuntime, type PlansAhead } from './load-runtime.ts';
import type { ClaimPhase, ClaimReport, EngineClaim } from './messages.ts';
import { OutputSink } from './output-sink.ts';
import { type PermitLedger, Permits } from './permits.ts';
import type { RequestBoard } from './request-board.ts';
import { RequestDesk } from './request-desk.ts';

/** How long the last output may take to reach its reader when the app ends, milliseconds. */
const lastOutputTimeoutMs = 10_000;

/** What a worker gives the app that is loaded into it. */
export type Surroundings = {
  readonly stdout: OutputSink;
  readonly stderr: OutputSink;
  readonly board: RequestBoard;
  /** The permits that it shares with other workers, and its number among them; undefined = permits of its own. */
  readonly permits?: { readonly ledger: PermitLedger; readonly worker: number };
  /** Nobody watches the board, and a guest goes on. */
  readonly wake: () => void;
  /** Whether another worker has told already what there is to tell of the app. */
  readonly quiet?: boolean;
  /** Whether a guest of the app has kept another worker's thread for so long that it was ended or got a stand-in. */
  readonly wary?: boolean;
  /** Plans that were read while their core modules were compiled. */
  readonly plans?: PlansAhead;
};

/** An app loaded into a worker: settings resolved, components checked, ready to serve. */
export class AppRunner {
  /** How long the parts of loading took. */
  readonly milliseconds: ClaimReport['milliseconds'];
  /** What the debug shell may look at. */
  readonly inspected: Inspected;
  readonly #claim: EngineClaim;
  readonly #services: SharedServices;
  readonly #server: HttpTriggerServer;

  private constructor(
    claim: EngineClaim,
    services: SharedServices,
    server: HttpTriggerServer,
    milliseconds: ClaimReport['milliseconds'],
    inspected: Inspected,
  ) {
    this.inspected = inspected;
    this.milliseconds = milliseconds;
    this.#claim = claim;
    this.#services = services;
    this.#server = server;
  }

  /** Loads and checks everything; throws with the one reason why the app cannot start. */
  static async load(
    claim: EngineClaim,
    compiled: readonly CompiledComponent[],
    surroundings: Surroundings,
  ): Promise<AppRunner> {
    const phases = new Phases<ClaimPhase>();
    const limits = readAppLimits(claim.environment);
    const settings = await resolveSettings(claim);
    phases.end('settings');
    const services = openSharedServices(claim, settings, surroundings);
    phases.end('services');
    const { board, permits, quiet, wake } = surroundings;
    const answers = new AnswerGroup();
    const desk = new RequestDesk(limits, new Permits(limits, permits?.ledger, permits?.worker), board, {
      wake,
      beforeGuest: (now, slow) => answers.beforeGuest(now, slow),
    });
    const components = new Map<string, HttpComponent>();
    const parts = {
      claim,
      settings,
      services,
      desk,
      quiet: quiet === true,
      wary: surroundings.wary === true,
      plans: surroundings.plans,
    };
    for (const component of compiled) {
      if (httpTriggersOf(settings.app, component.id).length > 0)
        components.set(component.id, await loadComponent(component, parts, phases));
    }
    const invoke: Invoke = (id, exchange) => {
      const component = components.get(id);
      if (component === undefined)
        return Promise.reject(new ShimError('internal', `component "${id}" is not loaded`));
      return invokeHttp(component, exchange, desk);
    };
    const server = new HttpTriggerServer(settings.app, invoke, {}, answers);
    if (quiet !== true) for (const warning of server.router.warnings) services.stderr.line(warning);
    const inspected: Inspected = {
      requests: desk,
      components: () =>
        [...components.values()].map(({ runtime }) => ({ id: runtime.id, idleInstances: runtime.idle })),
      componentFor: (path) => {
        const target = server.router.route(path)?.route.trigger.target;
        return target?.kind === 'component' ? target.component : undefined;
      },
    };
    return new AppRunner(claim, services, server, phases.ended, inspected);
  }

  /** Serves on a listening socket; `announce` writes the address and the routes to the app's standard output. */
  async serve(fd: number, address: string, announce: boolean): Promise<void> {
    const { host, port } = parseListenAddress(address, 'the listen address');
    this.#services.selfAddress = {
      scheme: 'http',
      host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host,
      port,
    };
    await this.#server.listen(fd);
    if (!announce) return;
    const { app } = this.#claim.prepared;
    for (const line of routeLines(address, this.#server.router.routes, app.components))
      this.#services.stdout.line(line);
  }

  /** Serves one connection that did not come through a listening socket. */
  serveConnection(socket: Socket): void {
    this.#server.serveConnection(socket);
  }

  /** Ends without waiting for anything. */
  close(): void {
    this.#server.destroy();
  }

  /** Lets requests in flight finish and the last output reach its reader; `keepIdle` as in the server's `drain`. */
  async drain(keepIdle: boolean): Promise<void> {
    await this.#server.drain({ keepIdle });
    const { stdout, stderr } = this.#services;
    await Promise.all([stdout.flushed(lastOutputTimeoutMs), stderr.flushed(lastOutputTimeoutMs)]);
  }
}

/** What the components of an app are loaded with. */
type Parts = {
  readonly claim: EngineClaim;
  readonly settings: AppSettings;
  readonly services: SharedServices;
  readonly desk: RequestDesk;
  readonly quiet: boolean;
  readonly wary: boolean;
  readonly plans: PlansAhead | undefined;
};

async function loadComponent(
  compiled: CompiledComponent,
  { claim, settings, services, desk, quiet, wary, plans }: Parts,
  phases: Phases<ClaimPhase>,
): Promise<HttpComponent> {
  const { id, entry } = compiled;
  const component = settings.app.components.find((candidate) => candidate.id === id);
  if (component === undefined)
    throw new ShimError('internal', `component "${id}" is prepared but not in the app`);
  const handler = findHttpHandler(entry.exports, id);
  const grant = await grantOf(component, claim, settings, services);
  const missing = missingImports(id, entry.imports, grant);
  if (missing.length > 0 && !quiet) {
    const names = missing.map((name) => `"${name}"`).join(', ');
    services.stderr.line(
      `component "${id}" imports ${names}, which this version does not provide: a request ends when its guest calls it`,
    );
  }
  const runtime = await loadRuntime(compiled, plans);
  phases.end('runtime');
  const wasi03 = entry.imports.some(isWasi03);
  const scope = desk.open(`component "${id}", its start`);
  try {
    desk.enter(scope);
    const memory = instanceMemoryLimit(claim.environment, claim.memoryLimit);
    const hostsFor = (trial: ComponentGrant): HostObjects => new HostObjects(trial, missing, wasi03);
    await tryInstance(runtime, hostsFor, grant, missing, scope, memory);
  } finally {
    scope.end(new Error('the trial instance is over'));
    desk.close(scope);
  }
  phases.end('trial');
  return {
    runtime,
    grant,
    handler,
    asynchronous: isAsynchronous(handler),
    makeHosts: () => new HostObjects(grant, missing, wasi03),
    pace: new GuestPace(wary),
    refusals: new LineThrottle((line) => services.stderr.line(line)),
  };
}

/**
 * Makes one instance and gives it back unused: a guest whose own start-up code fails is told of at the start and not at the
 * first request, and that request finds warm code. Each worker makes one, only the first holds up the claim. What the guest
 * prints meanwhile is discarded.
 */
async function tryInstance(
  runtime: ComponentRuntime,
  hostsFor: (grant: ComponentGrant) => HostObjects,
  grant: ComponentGrant,
  missing: readonly string[],
  scope: InstanceScope,
  memory: InstanceMemoryLimit | undefined,
): Promise<void> {
  const nowhere = new OutputSink(undefined);
  const cli = { ...grant.cli, stdout: nowhere, stderr: nowhere };
  try {
    const makeHosts = (): HostObjects => hostsFor({ ...grant, cli });
    checkFunctions(runtime, makeHosts().imports, missing);
    const instance = await runtime.acquire(scope, makeHosts);
    instance.release(true);
  } catch (thrown) {
    if (thrown instanceof ShimError) throw thrown;
    const why = isMemoryRefused(thrown)
      ? `its memory starts larger than an instance may be${memory === undefined ? '' : `: ${memory.text}`}`
      : thrown instanceof Error
        ? thrown.message
        : String(thrown);
    throw new ShimError('invalid-component', `component "${runtime.id}" cannot be started: ${why}`, {
      cause: thrown,
    });
  }
}

/** Every function the component imports is there, stand-ins aside. Throws `unsupported` naming one that is not. */
function checkFunctions(
  runtime: ComponentRuntime,
  imports: Readonly<Record<string, object>>,
  missing: readonly string[],
): void {
  const standIns = new Set(missing);
  const lacking = runtime
    .missingFunctions(imports)
    .find((name) => !standIns.has(importKeyOf(name.slice(0, name.indexOf('#')))));
  if (lacking === undefined) return;
  throw new ShimError(
    'unsupported',
    `component "${runtime.id}" imports the function "${lacking}", which this version does not provide: build it for WASI 0.2`,
  );
}

/** Imports of Spin's own that have no host object here; any other unknown import stops the start. */
function missingImports(id: string, imports: readonly string[], grant: ComponentGrant): readonly string[] {
  const provided = providedImports(grant);
  const missing = imports.filter((name) => !provided.has(name));
  const unknown = missing.find((name) => !isProvidedBySpin(name));
  if (unknown === undefined) return missing;
  if (unknown.startsWith('wasi:http/handler@')) {
    throw new ShimError(
      'unsupported',
      `component "${id}" imports "${unknown}" as a middleware does, which calls the component behind it: compose the two into one component, middleware in a manifest is not supported yet`,
    );
  }
  throw new ShimError(
    'unsupported',
    `component "${id}" imports "${unknown}", which Spin's HTTP trigger of this version does not provide: build it for WASI 0.2 or 0.3`,
  );
}
