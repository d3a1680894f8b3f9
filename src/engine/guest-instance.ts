/** The imports object of an instance: interface name → its functions and classes. */
export type ImportObject = Readonly<Record<string, object>>;

/** An instance for one request, whichever way it came about. */
export type GuestInstance = {
  /**
   * Calls an exported function, named as in WIT (`wasi:http/incoming-handler@0.2.0`, `handle`). Rejects with what was
   * thrown when the guest traps.
   */
  call(interfaceName: string, name: string, args: readonly unknown[]): Promise<unknown>;
  /** Gives it back when the request's scope has ended; `clean` tells that the call returned. */
  release(clean: boolean): void;
};

/** A component loaded into this worker, ready for any number of requests. */
export type ComponentRuntime = {
  readonly id: string;
  /** An instance in its first state over the given host objects. Rejects when the guest's own start-up code traps. */
  acquire(imports: ImportObject): Promise<GuestInstance>;
  /** Functions the component imports that the given host objects lack, `interface#function`; empty when nobody can tell. */
  missingFunctions(imports: ImportObject): readonly string[];
};
