import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { asyncImports } from '../host/async-imports.ts';
import type { HttpExchange, ResponseSink } from '../host/http-exchange.ts';
import { type ComponentGrant, HostObjects } from '../host/imports.ts';
import { InstanceScope } from '../host/scope.ts';
import { openPreopens, type Preopens } from '../host/wasi/filesystem-preopens.ts';
import type { ByteSink } from '../host/wasi/io.ts';
import { LineThrottle } from '../telemetry/line-throttle.ts';
import { defaultAppLimits } from './app-limits.ts';
import type { ComponentRuntime, GuestInstance, HostMaker } from './guest-instance.ts';
import { GuestPace } from './guest-pace.ts';
import { invokeHttp } from './http-invocation.ts';
import { defaultPoolLimits, LinkedRuntime } from './linked-runtime.ts';
import { CompiledPlan } from './linker/compiled-plan.ts';
import { type ParsedComponent, parseComponent } from './linker/component-parser.ts';
import { LinkedComponent } from './linker/linked-component.ts';
import type { LinkedInstance } from './linker/linked-instance.ts';
import { Permits } from './permits.ts';
import { RequestBoard } from './request-board.ts';
import { RequestDesk } from './request-desk.ts';
import { type Cleanup, fixtures } from './test-engine.ts';

/** All that a client and an operator see of one request. */
export type Answer = {
  readonly status: number;
  readonly body: string;
  /** Whether the response was complete. */
  readonly ended: boolean;
  /** What the guest wrote to stdout and stderr. */
  readonly output: string;
  /** Lines of the host's own. */
  readonly log: readonly string[];
};

/** Takes a response; with `stalls` no byte of a body, until the client goes. */
class CollectingSink implements ResponseSink {
  started = false;
  status = 0;
  ended = false;
  readonly chunks: Uint8Array[] = [];
  readonly #stalls: boolean;
  readonly #onStall: () => void;

  constructor(stalls: boolean, onStall: () => void) {
    this.#stalls = stalls;
    this.#onStall = onStall;
  }

  start(status: number): void {
    this.started = true;
    this.status = status;
  }
  write(bytes: Uint8Array): void {
    this.chunks.push(bytes);
  }
  capacity(): number {
    return this.#stalls ? 0 : 65_536;
  }
  onDrain(): () => void {
    setImmediate(this.#onStall);
    return () => {};
  }
  isFlushed(): boolean {
    return true;
  }
  end(): void {
    this.ended = true;
  }
  abort(): void {}
}

/** A component with its pool, and the same component with none: what a request to each sees has to be the same. */
export class Canary {
  readonly pooled: LinkedRuntime;
  readonly #unpooled: LinkedRuntime;
  readonly #component: LinkedComponent;
  readonly #handler: string;
  readonly #preopens: Preopens;
  readonly #desk = new RequestDesk(defaultAppLimits, new Permits(defaultAppLimits), new RequestBoard(), {
    wake: () => {},
    beforeGuest: () => {},
  });
  readonly #output: string[] = [];
  readonly #log: string[] = [];
  readonly #makeHosts: HostMaker;
  readonly #grant: ComponentGrant;
  #pristine: LinkedInstance | undefined;

  private constructor(
    t: Cleanup,
    { plan, modules, eligible, start }: Extract<ParsedComponent, { readonly linkable: true }>,
  ) {
    const compiled = modules.map(({ bytes }) => new WebAssembly.Module(Buffer.from(bytes)));
    const unpooled = { ...defaultPoolLimits, maxIdle: 0 };
    const ready = (): CompiledPlan => new CompiledPlan(plan);
    this.pooled = new LinkedRuntime('canary', ready(), compiled, eligible.ok, defaultPoolLimits, start);
    this.#unpooled = new LinkedRuntime('canary', ready(), compiled, eligible.ok, unpooled, start);
    this.#component = new LinkedComponent(ready(), compiled, start);
    this.#handler = plan.exports.find(([name]) => name.startsWith('wasi:http/incoming-handler'))?.[0] ?? '';
    this.#preopens = openPreopens([{ source: join(fixtures, 'canary', 'static'), destination: '/static' }]);
    t.after(() => this.#preopens.close());
    const sink: ByteSink = {
      readiness: { isReady: () => true, subscribe: () => () => {} },
      capacity: () => 65_536,
      write: (bytes) => void this.#output.push(Buffer.from(bytes).toString()),
      flush: () => {},
      isFlushed: () => true,
      close: () => {},
    };
    this.#grant = {
      componentId: 'canary',
      cli: { environment: [['COLOUR', 'blue']], args: ['canary'], stdout: sink, stderr: sink },
      filesystem: { preopens: this.#preopens },
      http: { outbound: undefined as never, warn: (line) => void this.#log.push(line) },
      variables: { get: async () => undefined } as never,
      keyValue: { granted: [], stores: undefined as never },
    };
    this.#makeHosts = () => new HostObjects(this.#grant, []);
  }

  /** Reads a component of the sample apps, by its path below them. */
  static async load(t: Cleanup, path: string): Promise<Canary> {
    const parsed = parseComponent(await readFile(join(fixtures, path)), asyncImports);
    assert.ok(parsed.linkable, JSON.stringify(parsed));
    return new Canary(t, parsed);
  }

  /** One request to an instance of the pool, or to one that nobody had before. */
  ask(path: string, { fresh = false }: { readonly fresh?: boolean } = {}): Promise<Answer> {
    return this.#ask(path, fresh ? this.#unpooled : this.pooled, false);
  }

  /** One request whose client goes while the guest waits for it to take the response. */
  abandon(path: string): Promise<Answer> {
    return this.#ask(path, this.pooled, true);
  }

  /** Requests to one and the same instance that is not restored in between. */
  async askUnrestored(paths: readonly string[]): Promise<readonly Answer[]> {
    const hosts = new HostObjects(this.#grant, []);
    let instance: LinkedInstance | undefined;
    const runtime: ComponentRuntime = {
      id: 'canary',
      idle: 0,
      missingFunctions: () => [],
      acquire: async (scope): Promise<GuestInstance> => {
        hosts.enter(scope);
        instance ??= await this.#component.start(hosts.imports);
        const { call } = instance;
        return { call: call.bind(instance), ended: () => Promise.resolve(), release: () => hosts.leave() };
      },
    };
    const answers: Answer[] = [];
    for (const path of paths) answers.push(await this.#ask(path, runtime, false));
    return answers;
  }

  async #ask(path: string, runtime: ComponentRuntime, abandoned: boolean): Promise<Answer> {
    this.#output.length = 0;
    this.#log.length = 0;
    const client = new AbortController();
    const sink = new CollectingSink(abandoned, () => client.abort());
    const exchange: HttpExchange = {
      method: 'GET',
      scheme: 'http',
      authority: 'canary.test',
      pathWithQuery: path,
      headers: [['accept', Buffer.from('*/*')]],
      body: Readable.from([]),
      trailers: () => [],
      signal: client.signal,
      response: sink,
    };
    // The clocks of guests do not keep a process alive; in the engine its server does.
    const alive = setInterval(() => {}, 60_000);
    try {
      await invokeHttp(
        {
          runtime,
          grant: this.#grant,
          handler: this.#handler,
          makeHosts: this.#makeHosts,
          asynchronous: false,
          pace: new GuestPace(),
          refusals: new LineThrottle((line) => this.#log.push(line)),
        },
        exchange,
        this.#desk,
      );
    } finally {
      clearInterval(alive);
    }
    return {
      status: sink.status,
      body: Buffer.concat(sink.chunks).toString(),
      ended: sink.ended,
      output: this.#output.join(''),
      log: [...this.#log],
    };
  }

  /** Compares memory, globals, tables and handles of every instance that waits with those of a new one. */
  async assertWaitingAsNew(): Promise<void> {
    if (this.pooled.idle === 0) return;
    this.#pristine ??= await this.#makePristine();
    for (const waiting of this.pooled.waiting) assertSameState(waiting, this.#pristine);
  }

  /** A new instance in the state to which those of the pool go back. */
  async #makePristine(): Promise<LinkedInstance> {
    const hosts = new HostObjects(this.#grant, []);
    hosts.enter(new InstanceScope());
    return this.pooled.restorePoint === 'before-start'
      ? this.#component.begin(hosts.imports)
      : this.#component.start(hosts.imports);
  }
}

const zeroPage = Buffer.alloc(65_536);

/** Throws where the state of two instances of a component differs. Memory beyond the new one's has to be zero. */
function assertSameState(restored: LinkedInstance, fresh: LinkedInstance): void {
  assert.equal(restored.openHandles, fresh.openHandles);
  for (const [index, exports] of fresh.coreExports.entries()) {
    for (const [name, expected] of Object.entries(exports)) {
      const actual = restored.coreExports[index]?.[name];
      const where = `"${name}" of core instance ${index}`;
      if (expected instanceof WebAssembly.Memory) {
        const [old, whole] = [Buffer.from(expected.buffer), Buffer.from((actual as typeof expected).buffer)];
        assert.ok(whole.subarray(0, old.length).equals(old), `${where} differs`);
        for (let at = old.length; at < whole.length; at += zeroPage.length)
          assert.ok(whole.compare(zeroPage, 0, zeroPage.length, at, at + zeroPage.length) === 0, where);
      } else if (expected instanceof WebAssembly.Global) {
        assert.deepEqual((actual as typeof expected).value, expected.value, where);
      } else if (expected instanceof WebAssembly.Table) {
        const namesOf = (table: WebAssembly.Table): string[] =>
          Array.from({ length: table.length }, (_, entry) => String(table.get(entry)?.name));
        assert.deepEqual(namesOf(actual as typeof expected), namesOf(expected), where);
      }
    }
  }
}
