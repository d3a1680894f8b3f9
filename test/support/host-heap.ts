import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from './wait.ts';

type Answer = {
  readonly id?: number;
  readonly result?: object;
  readonly error?: { readonly message: string };
};
type RemoteObject = { readonly objectId?: string; readonly value?: unknown };

/** Name of the inspector's objects that we hold in the host; given up together. */
const objectGroup = 'host-heap';

/** Runs in the host: how many of the objects there are of each class, and what all maps and sets hold. */
const countByClass = `function () {
  const counts = {};
  const mapSize = Object.getOwnPropertyDescriptor(Map.prototype, 'size').get;
  const setSize = Object.getOwnPropertyDescriptor(Set.prototype, 'size').get;
  const add = (what, more) => (counts[what] = (counts[what] ?? 0) + more);
  for (const object of this) {
    let name = '';
    try {
      for (let holder = Object.getPrototypeOf(object); holder !== null && name === ''; holder = Object.getPrototypeOf(holder))
        name = Object.getOwnPropertyDescriptor(holder, 'constructor')?.value?.name ?? '';
    } catch {}
    add(name, 1);
    try { add('entries of Map', mapSize.call(object)); } catch {}
    try { add('entries of Set', setSize.call(object)); } catch {}
  }
  return counts;
}`;

/**
 * Writes a program that starts Node with its inspector on a free port, to be given to the launcher in place of Node.
 * `HostHeap.connect` finds the port in a file beside it.
 */
export function inspectedNode(folder: string): string {
  const program = join(folder, 'inspected-node');
  const text = `#!/bin/sh\nexec '${process.execPath}' --inspect=127.0.0.1:0 "$@" 2>'${program}.err'\n`;
  writeFileSync(program, text, { mode: 0o755 });
  return program;
}

/** The JavaScript heap of a shim host, seen through Node's inspector. */
export class HostHeap {
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, PromiseWithResolvers<object>>();
  #calls = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#take(JSON.parse(String(data)) as Answer));
  }

  /** `program`: what `inspectedNode` gave, by which the host runs. */
  static async connect(program: string): Promise<HostHeap> {
    const find = (): string | undefined => /ws:\/\/\S+/.exec(readFileSync(`${program}.err`, 'utf8'))?.[0];
    const socket = new WebSocket(await waitFor("the address of the host's inspector", find));
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', reject);
    });
    return new HostHeap(socket);
  }

  close(): void {
    this.#socket.close();
  }

  /**
   * Live objects, after a collection, by the name of their class, functions and arrays among them; and what all maps and
   * all sets hold, as `entries of Map` and `entries of Set`. Text in arrays is not seen: their lengths vary by themselves.
   */
  async objects(): Promise<ReadonlyMap<string, number>> {
    // What registries of finalization keep of an object goes in a turn after the collection that takes the object.
    await this.#call('HeapProfiler.collectGarbage', {});
    await this.#call('Runtime.evaluate', {
      expression: 'new Promise((resolve) => setTimeout(resolve))',
      awaitPromise: true,
    });
    const prototype = await this.#object('Runtime.evaluate', { expression: 'Object.prototype' }, 'result');
    const all = await this.#object(
      'Runtime.queryObjects',
      { prototypeObjectId: prototype.objectId },
      'objects',
    );
    const counts = await this.#object(
      'Runtime.callFunctionOn',
      { objectId: all.objectId, functionDeclaration: countByClass, returnByValue: true },
      'result',
    );
    await this.#call('Runtime.releaseObjectGroup', {});
    return new Map(Object.entries(counts.value as Record<string, number>));
  }

  async #object(method: string, parameters: object, key: 'result' | 'objects'): Promise<RemoteObject> {
    const answer = (await this.#call(method, parameters)) as Readonly<Record<string, RemoteObject>>;
    const object = answer[key];
    if (object === undefined) throw new Error(`${method} gave nothing`);
    return object;
  }

  #call(method: string, parameters: object): Promise<object> {
    const id = ++this.#calls;
    const pending = Promise.withResolvers<object>();
    this.#pending.set(id, pending);
    this.#socket.send(JSON.stringify({ id, method, params: { objectGroup, ...parameters } }));
    return pending.promise;
  }

  #take({ id, result, error }: Answer): void {
    const pending = this.#pending.get(id ?? 0);
    this.#pending.delete(id ?? 0);
    if (error === undefined) pending?.resolve(result ?? {});
    else pending?.reject(new Error(error.message));
  }
}
