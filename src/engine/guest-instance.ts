import type { InstanceScope } from '../host/scope.ts';

/** The imports object of an instance: interface name → its functions and classes. */
export type ImportObject = Readonly<Record<string, object>>;

/** The host objects of an instance. They stay with it; what is exchanged is the scope they work in. */
export type InstanceHosts = {
  readonly imports: ImportObject;
  /** From now on they work for this request. */
  enter(scope: InstanceScope): void;
  /** The request is over: until the next one they give the guest nothing. */
  leave(): void;
};

/** Makes the host objects of a new instance. An instance that was made for one maker gets new ones for another. */
export type HostMaker = () => InstanceHosts;

/** An instance for one request, whichever way it came about. */
export type GuestInstance = {
  /** The scope its host objects work in, when it is not the request's: an instance may serve several, one by one. */
  readonly scope?: InstanceScope;
  /**
   * Calls an exported function, named as in WIT (`wasi:http/incoming-handler@0.2.0`, `handle`). Rejects with what was
   * thrown when the guest traps.
   */
  call(interfaceName: string, name: string, args: readonly unknown[]): Promise<unknown>;
  /**
   * Settles when nothing the call began runs any more; a function with the async ABI may go on after it has returned.
   * Rejects when the guest traps in that time.
   */
  ended(): Promise<void>;
  /** Gives it back when the request's scope has ended; `clean` tells that the call returned. */
  release(clean: boolean): void;
};

/** A component loaded into this worker, ready for any number of requests. */
export type ComponentRuntime = {
  readonly id: string;
  /** Instances in their first state that wait for a request. */
  readonly idle: number;
  /**
   * An instance in its first state for one request, at once where one waits. Rejects when the guest's own start-up code
   * traps.
   */
  acquire(scope: InstanceScope, makeHosts: HostMaker): GuestInstance | Promise<GuestInstance>;
  /** Functions the component imports that the given host objects lack, `interface#function`; empty when nobody can tell. */
  missingFunctions(imports: ImportObject): readonly string[];
};
