import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { ShimError } from '../error.ts';

/** The shim that runs Linux containers: containerd's own. */
const linuxShimName = 'containerd-shim-runc-v2';

/** Names another binary for it. */
const linuxShimVariable = 'SPINSHIM_LINUX_SHIM';

/** How long its verbs may take, milliseconds; `start` boots a process, `delete` ends and removes a container. */
const startTimeoutMs = 30_000;
const deleteTimeoutMs = 10_000;

/** Most bytes of a verb's answer, and of its complaint, that are kept. */
const maxAnswerBytes = 64 * 1024;
const maxComplaintBytes = 2048;

/** Variables of ours that are nothing to a program of someone else's. */
const ownVariables = ['NODE_COMPILE_CACHE'];

/** What a shim is told of the containerd it serves. */
export type ContainerdSite = {
  /** gRPC and ttrpc sockets. */
  readonly address: string;
  readonly ttrpcAddress: string;
  readonly namespace: string;
  /** containerd's own executable. */
  readonly publishBinary: string;
  readonly debug: boolean;
};

/**
 * Finds the Linux shim: what SPINSHIM_LINUX_SHIM names, else beside containerd (of one release with it), else on the
 * PATH. Throws `not-found`.
 */
export function findLinuxShim(
  { publishBinary }: Pick<ContainerdSite, 'publishBinary'>,
  environment: NodeJS.ProcessEnv = process.env,
): string {
  const given = environment[linuxShimVariable];
  const folders = [
    ...(isAbsolute(publishBinary) ? [dirname(publishBinary)] : []),
    ...(environment.PATH ?? '').split(':').filter((folder) => isAbsolute(folder)),
  ];
  const candidates = given ? [given] : folders.map((folder) => join(folder, linuxShimName));
  const found = candidates.find((path) => isAbsolute(path) && isExecutable(path));
  if (found !== undefined) return found;
  const where = given ? `at "${given}"` : `in any of "${folders.join('", "')}"`;
  throw new ShimError(
    'not-found',
    `this is a Linux container, and the shim that runs those is not ${where}: install "${linuxShimName}" (it comes with containerd) or set ${linuxShimVariable} to its path`,
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** How a shim is booted. */
export type LinuxShimStart = {
  /** Its working directory. */
  readonly directory: string;
  /**
   * The id it is booted with: that of its group, whichever container comes first. From containerd 2.0 on a shim finds
   * the sockets that it has to remove at its end by this id alone.
   */
  readonly name: string;
  /** Its standard input. */
  readonly input: Uint8Array;
};

/** The Linux shim's command line for one container, as containerd would use it (containerd.md 1). */
export class LinuxShim {
  readonly binary: string;
  readonly #site: ContainerdSite;
  readonly #id: string;
  readonly #bundle: string;

  constructor(binary: string, site: ContainerdSite, id: string, bundle: string) {
    this.binary = binary;
    this.#site = site;
    this.#id = id;
    this.#bundle = bundle;
  }

  /** Boots the shim, or finds the one of its pod. Gives the answer as it is. */
  start({ directory, name, input }: LinuxShimStart, signal: AbortSignal): Promise<Buffer> {
    return this.#run('start', name, directory, input, startTimeoutMs, signal);
  }

  /** Ends and removes what is left of the container. Gives a DeleteResponse as it is. */
  delete(): Promise<Buffer> {
    return this.#run('delete', this.#id, this.#bundle, new Uint8Array(), deleteTimeoutMs);
  }

  #run(
    verb: 'start' | 'delete',
    id: string,
    directory: string,
    input: Uint8Array,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const { address, namespace, publishBinary, debug } = this.#site;
    const args = [
      ...['-namespace', namespace, '-address', address, '-publish-binary', publishBinary, '-id', id],
      ...(verb === 'delete' ? ['-bundle', this.#bundle] : []),
      ...(debug ? ['-debug'] : []),
      verb,
    ];
    const child = spawn(this.binary, args, {
      cwd: directory,
      // A process group of its own, as under containerd.
      detached: true,
      env: this.#environment(),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // It may end without having read everything.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    return finished(child, `"${this.binary}" ${verb}`, timeoutMs, signal);
  }

  #environment(): NodeJS.ProcessEnv {
    const { address, ttrpcAddress, namespace } = this.#site;
    const inherited = Object.entries(process.env).filter(([name]) => !ownVariables.includes(name));
    return {
      ...Object.fromEntries(inherited),
      GOMAXPROCS: '2',
      MAX_SHIM_VERSION: '2',
      TTRPC_ADDRESS: ttrpcAddress,
      GRPC_ADDRESS: address,
      NAMESPACE: namespace,
    };
  }
}

/** Standard output of a process that ends with 0. Rejects with what it said otherwise, and kills it when time is up. */
function finished(
  child: ChildProcess,
  what: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    let size = 0;
    let complaint = '';
    const settle = (outcome: Buffer | ShimError): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      if (outcome instanceof ShimError) {
        child.kill('SIGKILL');
        reject(outcome);
      } else resolve(outcome);
    };
    const onAbort = (): void => settle(new ShimError('unavailable', `${what} was given up by its caller`));
    const timer = setTimeout(
      () => settle(new ShimError('deadline-exceeded', `${what} took longer than ${timeoutMs} ms`)),
      timeoutMs,
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    child.stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxAnswerBytes) output.push(chunk);
      else settle(new ShimError('internal', `${what} answered more than ${maxAnswerBytes} bytes`));
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString('utf8')).slice(-maxComplaintBytes);
    });
    child.once('error', (cause) =>
      settle(new ShimError('unavailable', `${what} cannot be run: ${cause.message}`, { cause })),
    );
    child.once('close', (code, killedBy) => {
      if (code === 0) {
        settle(Buffer.concat(output));
        return;
      }
      const said = complaint.trim() || Buffer.concat(output).toString('utf8').trim() || 'it said nothing';
      settle(new ShimError('internal', `${what} ended with ${killedBy ?? `exit code ${code}`}: ${said}`));
    });
  });
}
