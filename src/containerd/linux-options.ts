import { parse } from 'smol-toml';
import type { AnyMessage } from './messages.ts';
import {
  anyCodec,
  bootstrapCodec,
  findOptions,
  isOf,
  parseBootstrapParams,
  type RuntimeOptions,
} from './options.ts';
import { ProtoFile } from './proto-file.ts';

/** What the Linux shim is told about the runtime it calls; field for field as in proto/runc_options.proto. */
export type RuncOptions = {
  /** The OCI runtime's executable; the shim's default is `runc`. */
  readonly binaryName?: string;
  /** Where the OCI runtime keeps its state. */
  readonly root?: string;
  readonly systemdCgroup?: boolean;
};

/** The name under which they travel, without a prefix: containerd 1.6 knows it only so. */
const runcOptionsType = 'containerd.runc.v1.Options';
const runcOptionsCodec = new ProtoFile('runc_options.proto').message<RuncOptions>(runcOptionsType);

/**
 * The options of our containerd runtime that concern Linux containers. Where they say nothing of systemd, `systemd`
 * decides: whether the container's cgroup path is a systemd unit.
 */
export function runcOptionsOf({ configBody, systemdCgroup }: RuntimeOptions, systemd: boolean): RuncOptions {
  const table = new Map(Object.entries(parseTable(configBody ?? '')));
  const binaryName = table.get('BinaryName');
  const root = table.get('Root');
  return {
    ...(typeof binaryName === 'string' && binaryName !== '' ? { binaryName } : {}),
    ...(typeof root === 'string' && root.startsWith('/') ? { root } : {}),
    ...((systemdCgroup ?? systemd) ? { systemdCgroup: true } : {}),
  };
}

/** Options that are not TOML count as none: containerd's are not ours to refuse. */
function parseTable(toml: string): object {
  try {
    return parse(toml);
  } catch {
    return {};
  }
}

function encodeRuncOptions(options: RuncOptions): AnyMessage | null {
  if (Object.keys(options).length === 0) return null;
  return { type_url: runcOptionsType, value: runcOptionsCodec.serialize(options) };
}

/**
 * The options of Create for the Linux shim; null for none. Where `given` are its own already, as a client's are or those of
 * containerd's for a pod in a user namespace, they go before ours; the fields that they do not have stay.
 */
export function createOptions(given: AnyMessage | null, options: RuncOptions): AnyMessage | null {
  const own = encodeRuncOptions(options);
  if (given === null || !isOf(runcOptionsType)(given)) return own;
  // Of messages one after the other, the last that has a field counts.
  return { ...given, value: Buffer.concat([own?.value ?? Buffer.alloc(0), given.value]) };
}

/** Whom a `start` is for. */
export type StartTarget = {
  readonly id: string;
  /** The id under which the Linux shim is booted. */
  readonly groupName: string;
  readonly namespace: string;
  /** Where the Linux shim sends its events. */
  readonly ttrpcAddress: string;
};

/**
 * Standard input for the Linux shim's `start`: what containerd wrote to ours, with our runtime's options replaced, unless a
 * client gave those of the Linux runtime itself, which know more than we do. Its form stays what it was (containerd.md 1.4), since both shims come from the same node.
 */
export function startInput(
  bytes: Buffer,
  { id, groupName, namespace, ttrpcAddress }: StartTarget,
  options: RuncOptions,
): Uint8Array {
  const any = findOptions(bytes, { id, namespace }, isOf(runcOptionsType)) ?? encodeRuncOptions(options);
  const bootstrap = parseBootstrapParams(bytes, id, namespace);
  if (bootstrap !== undefined) {
    const extensions = any === null ? [] : [{ value: any }];
    return bootstrapCodec.serialize({
      ...bootstrap,
      instanceId: groupName,
      containerdTtrpcAddress: ttrpcAddress,
      extensions,
    });
  }
  return any === null ? new Uint8Array() : anyCodec.serialize(any);
}
