import { chmodSync } from 'node:fs';
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { startDeadline } from './deadline.ts';
import { defaultMaxFrameBytes } from './frame.ts';
import { type ConnectionLimits, ServerConnection } from './server-connection.ts';
import type { BoundMethod, ServiceMethods } from './service.ts';
import { assertSocketPath } from './socket-path.ts';
import { quote, StatusCode, TtrpcError } from './status.ts';

/** Limits that hold unless the options say otherwise; see {@link ConnectionLimits}. */
export const defaultConnectionLimits: ConnectionLimits = {
  maxFrameBytes: defaultMaxFrameBytes,
  maxConcurrentCalls: 10_000,
  maxHeldRequestBytes: 64 * 1024 * 1024,
  pauseReadsAboveBytes: 4 * 1024 * 1024,
  maxUnsentBytes: 64 * 1024 * 1024,
};

/** How long `close` waits for calls in flight, milliseconds. */
export const defaultCloseGraceMs = 5_000;

export type TtrpcServerOptions = Partial<ConnectionLimits> & {
  readonly closeGraceMs?: number;
  /** What to tell the peer of a thrown value. Default: `TtrpcError.from`. A code outside the closed set turns Unknown. */
  readonly toStatus?: (thrown: unknown) => { readonly code: number; readonly message: string };
  /** Whether to serve a fresh connection, for instance by the peer's uid. A throw counts as no. Default: yes. */
  readonly admit?: (socket: Socket) => boolean;
  /** Told of what no caller can be told: socket errors, and handler failures answered as Unknown or Internal. */
  readonly onError?: (error: unknown, where: string) => void;
};

/** Serves unary ttrpc calls on any number of sockets. */
export class TtrpcServer {
  readonly #limits: ConnectionLimits;
  readonly #closeGraceMs: number;
  readonly #toStatus: (thrown: unknown) => { readonly code: number; readonly message: string };
  readonly #admit: (socket: Socket) => boolean;
  readonly #onError: (error: unknown, where: string) => void;
  readonly #services = new Map<string, ServiceMethods>();
  readonly #connections = new Set<ServerConnection>();
  readonly #listeners = new Set<Server>();
  #closing: Promise<void> | undefined;
  #allClosed: () => void = () => {};

  constructor(options: TtrpcServerOptions = {}) {
    const { closeGraceMs, toStatus, admit, onError, ...limits } = options;
    this.#limits = { ...defaultConnectionLimits, ...limits };
    this.#closeGraceMs = closeGraceMs ?? defaultCloseGraceMs;
    this.#toStatus = toStatus ?? ((thrown) => TtrpcError.from(thrown));
    this.#admit = admit ?? (() => true);
    this.#onError = onError ?? (() => {});
  }

  /**
   * Adds a service by its full name (`containerd.task.v2.Task`). The same methods may serve several names.
   *
   * @throws TtrpcError AlreadyExists if the name is taken
   */
  register(service: string, methods: ServiceMethods): void {
    if (this.#services.has(service)) {
      throw new TtrpcError(StatusCode.AlreadyExists, `service ${quote(service)} is registered already`);
    }
    this.#services.set(service, methods);
  }

  /** Serves a connected socket until it closes. */
  handleConnection(socket: Socket): void {
    if (this.#closing !== undefined || !this.#isAdmitted(socket)) {
      // The peer's reset may still come in; nobody is to hear of it.
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const connection = new ServerConnection(socket, this.#limits, {
      lookup: (service, method) => this.#lookup(service, method),
      toStatus: this.#toStatus,
      onError: this.#onError,
      onClose: () => {
        this.#connections.delete(connection);
        if (this.#connections.size === 0) this.#allClosed();
      },
    });
    this.#connections.add(connection);
  }

  /**
   * Listens on a unix socket of mode 0600 at `path`; its directory must exist. Close removes it. The process' umask
   * is changed while the socket is bound; a worker thread cannot, there the mode is set right after.
   *
   * @throws TtrpcError InvalidArgument for a path the kernel cannot take; the system's error (EADDRINUSE …) as it is
   */
  async listen(path: string): Promise<void> {
    assertSocketPath(path);
    const umask = isMainThread ? process.umask(0o177) : undefined;
    let listening: Promise<void>;
    try {
      // Binds before it returns, hence under the umask.
      listening = this.#listen({ path });
    } finally {
      if (umask !== undefined) process.umask(umask);
    }
    await listening;
    if (!isMainThread) chmodSync(path, 0o600);
  }

  /** Listens on an inherited descriptor that is bound and listening already, such as one of systemd's. */
  async listenFd(fd: number): Promise<void> {
    await this.#listen({ fd });
  }

  /**
   * Stops listening, refuses new calls, and closes each connection after its replies in flight. What is not done
   * within `closeGraceMs` is cut off, its signals abort. Resolves when all is closed; calling again gives the same.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const listenersClosed = [...this.#listeners].map(
      (listener) => new Promise<void>((resolve) => listener.close(() => resolve())),
    );
    const drained = new Promise<void>((resolve) => {
      this.#allClosed = resolve;
    });
    if (this.#connections.size === 0) this.#allClosed();
    for (const connection of [...this.#connections]) connection.drain();
    const callOff = startDeadline(this.#closeGraceMs, () => {
      for (const connection of [...this.#connections]) connection.destroy();
    });
    await drained;
    callOff();
    await Promise.all(listenersClosed);
  }

  #listen(options: ListenOptions & { readonly fd?: number }): Promise<void> {
    const closed = new TtrpcError(StatusCode.FailedPrecondition, 'the server is closed: make a new one');
    if (this.#closing !== undefined) throw closed;
    const listener = createServer((socket) => this.handleConnection(socket));
    return new Promise((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(options, () => {
        listener.off('error', reject);
        listener.on('error', (error) => this.#onError(error, 'listener'));
        if (this.#closing !== undefined) {
          listener.close();
          reject(closed);
          return;
        }
        this.#listeners.add(listener);
        resolve();
      });
    });
  }

  #isAdmitted(socket: Socket): boolean {
    try {
      return this.#admit(socket);
    } catch (thrown) {
      this.#onError(thrown, 'admit');
      return false;
    }
  }

  #lookup(service: string, method: string): BoundMethod {
    const methods = this.#services.get(service);
    if (methods === undefined) {
      throw new TtrpcError(StatusCode.Unimplemented, `service ${quote(service)} is not known here`);
    }
    const bound = methods.get(method);
    if (bound === undefined) {
      const name = `${quote(service)} has no method ${quote(method)}`;
      throw new TtrpcError(StatusCode.Unimplemented, `service ${name}`);
    }
    return bound;
  }
}
