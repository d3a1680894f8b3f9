import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { type ErrorCode, ShimError } from '../error.ts';
import type { MethodCodec } from '../ttrpc/service.ts';

/** Longest wait for one unary call to containerd, milliseconds. */
const defaultCallTimeoutMs = 10_000;

/** gRPC status → code; what is missing is `internal`. */
const codesByStatus = new Map<number, ErrorCode>([
  [3, 'invalid-argument'],
  [4, 'deadline-exceeded'],
  [5, 'not-found'],
  [6, 'already-exists'],
  [7, 'permission-denied'],
  [8, 'resource-exhausted'],
  [9, 'failed-precondition'],
  [12, 'unimplemented'],
  [14, 'unavailable'],
  [16, 'unauthenticated'],
]);

/** A connection to containerd's gRPC socket, for one containerd namespace. Connects at the first call. */
export class GrpcConnection {
  readonly #client: Client;
  readonly #metadata = new Metadata();

  /** `address`: absolute path of the socket, with or without `unix://`. */
  constructor(address: string, namespace: string) {
    const path = address.replace(/^unix:\/\//, '');
    // A message of content is at most 16 MiB: containerd's own limit.
    this.#client = new Client(`unix:${path}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': 16 * 1024 * 1024,
    });
    this.#metadata.set('containerd-namespace', namespace);
  }

  /** One unary call. Throws ShimError with the code that containerd's status stands for. */
  call<Req, Res>(service: string, method: string, codec: MethodCodec<Req, Res>, request: Req): Promise<Res> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${service}/${method}`,
        (value: Req) => Buffer.from(codec.requestSerialize(value)),
        (bytes) => codec.responseDeserialize(bytes),
        request,
        this.#metadata,
        { deadline: Date.now() + defaultCallTimeoutMs },
        (error, response) => {
          if (error !== null) reject(fromGrpc(error, `${service}/${method}`));
          else if (response === undefined)
            reject(new ShimError('internal', `${service}/${method}: empty reply`));
          else resolve(response);
        },
      );
    });
  }

  /** One call with a stream of replies; leaving the iteration cancels it. Throws ShimError like `call`. */
  async *stream<Req, Res>(
    service: string,
    method: string,
    codec: MethodCodec<Req, Res>,
    request: Req,
  ): AsyncIterable<Res> {
    const stream = this.#client.makeServerStreamRequest(
      `/${service}/${method}`,
      (value: Req) => Buffer.from(codec.requestSerialize(value)),
      (bytes) => codec.responseDeserialize(bytes),
      request,
      this.#metadata,
    );
    try {
      for await (const message of stream) yield message as Res;
    } catch (thrown) {
      throw fromGrpc(thrown, `${service}/${method}`);
    } finally {
      stream.cancel();
    }
  }

  close(): void {
    this.#client.close();
  }
}

function fromGrpc(thrown: unknown, what: string): ShimError {
  const { code, details } = thrown as Partial<ServiceError>;
  const meaning = codesByStatus.get(code ?? -1) ?? 'internal';
  const why = details !== undefined && details !== '' ? details : String(thrown);
  return new ShimError(meaning, `containerd answered ${what}: ${why}`, { cause: thrown });
}
