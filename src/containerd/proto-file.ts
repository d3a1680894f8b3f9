import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { ShimError } from '../error.ts';
import type { MethodCodec } from '../ttrpc/service.ts';

/** Bytes ↔ values of one message. */
export type MessageCodec<T> = {
  readonly serialize: (value: T) => Uint8Array;
  readonly deserialize: (bytes: Buffer) => T;
};

/** The definitions of one .proto file, by full name. */
export class ProtoFile {
  readonly #name: string;
  readonly #definitions: PackageDefinition;

  /** Reads `proto/<name>`; throws `internal` if the installation lacks it. */
  constructor(name: string) {
    this.#name = name;
    // Numbers lose digits above 2^53; nothing read here comes near (sizes, seconds, pids).
    const options = { longs: Number, defaults: true, oneofs: true, includeDirs: [protoDirectory()] };
    this.#definitions = loadSync(name, options);
  }

  /** A service as `@grpc/grpc-js` takes it. */
  service(name: string): Extract<PackageDefinition[string], { readonly [method: string]: unknown }> {
    const definition = this.#definitions[name];
    if (definition === undefined || 'format' in definition) throw this.#missing(`service ${name}`);
    return definition as Extract<PackageDefinition[string], { readonly [method: string]: unknown }>;
  }

  /** The codec of one method. The caller names the types, which the .proto file must bear out. */
  method<Req, Res>(service: string, method: string): MethodCodec<Req, Res> {
    const found = new Map(Object.entries(this.service(service))).get(method);
    if (found === undefined) throw this.#missing(`method ${service}/${method}`);
    return found as unknown as MethodCodec<Req, Res>;
  }

  /** The codec of one message, for what travels inside an Any. */
  message<T>(name: string): MessageCodec<T> {
    const definition = this.#definitions[name];
    if (definition === undefined || !('serialize' in definition)) throw this.#missing(`message ${name}`);
    return definition as unknown as MessageCodec<T>;
  }

  #missing(what: string): ShimError {
    return new ShimError('internal', `${this.#name} defines no ${what}: the installation is damaged`);
  }
}

/** The installation's `proto` folder: the nearest one above this file, whether run from source or from a bundle. */
function protoDirectory(): string {
  for (let directory = import.meta.dirname; ; directory = dirname(directory)) {
    const candidate = join(directory, 'proto');
    if (existsSync(join(candidate, 'task.proto'))) return candidate;
    if (directory === dirname(directory)) break;
  }
  throw new ShimError(
    'internal',
    `no "proto" folder above "${import.meta.dirname}": the installation is damaged`,
  );
}
