import type { AnyMessage } from './messages.ts';
import { ProtoFile } from './proto-file.ts';

/** Most bytes of a runtime's options that are read. */
export const maxOptionsBytes = 1024 * 1024;

/** What the operator wrote in the `options` table of the containerd runtime. */
export type RuntimeOptions = {
  /** Absolute path of our configuration file. */
  readonly configPath?: string;
  /** The table itself as TOML (containerd 1.7 and later, where no ConfigPath was given). */
  readonly configBody?: string;
  /** Undefined if the options do not say; then the form of the cgroup path decides. */
  readonly systemdCgroup?: boolean;
};

type RuntimeOptionsMessage = {
  readonly typeUrl: string;
  readonly configPath: string;
  readonly configBody: Uint8Array;
};
/** What containerd 2.3 and later write to the standard input of `start`; the rest of its fields are kept as they come. */
export type BootstrapParams = {
  readonly instanceId: string;
  readonly namespace: string;
  readonly containerdTtrpcAddress: string;
  readonly extensions: readonly { readonly value: AnyMessage | null }[];
};

const optionsCodec = new ProtoFile('runtime_options.proto').message<RuntimeOptionsMessage>(
  'runtimeoptions.v1.Options',
);
const bootstrapFile = new ProtoFile('bootstrap.proto');
export const bootstrapCodec = bootstrapFile.message<BootstrapParams>(
  'containerd.runtime.bootstrap.v1.BootstrapParams',
);
export const anyCodec = bootstrapFile.message<AnyMessage>('google.protobuf.Any');

/** Type under which our options travel. */
const optionsTypeName = 'runtimeoptions.v1.Options';

/**
 * Reads what containerd wrote to the standard input of `start`: nothing, an Any, or BootstrapParams (containerd 2.3
 * and later). The last two parse as each other; it is BootstrapParams if its first two fields are this container's id
 * and namespace (containerd.md 1.4). Options that make no sense count as none: containerd's are not ours to refuse.
 */
export function parseRuntimeOptions(bytes: Buffer, id: string, namespace: string): RuntimeOptions {
  if (bytes.length === 0 || bytes.length > maxOptionsBytes) return {};
  const any = findOptions(bytes, { id, namespace }, isOf(optionsTypeName));
  if (any === undefined) return {};
  const message = attempt(() => optionsCodec.deserialize(Buffer.from(any.value)));
  if (message === undefined) return {};
  const configBody = Buffer.from(message.configBody).toString('utf8');
  const systemdCgroup = readSystemdCgroup(configBody);
  return {
    ...(message.configPath.startsWith('/') ? { configPath: message.configPath } : {}),
    ...(configBody === '' ? {} : { configBody }),
    ...(systemdCgroup === undefined ? {} : { systemdCgroup }),
  };
}

/** Reads standard input of `start` as BootstrapParams; undefined if it is something else. */
export function parseBootstrapParams(
  bytes: Buffer,
  id: string,
  namespace: string,
): BootstrapParams | undefined {
  const bootstrap = attempt(() => bootstrapCodec.deserialize(bytes));
  return bootstrap?.instanceId === id && bootstrap.namespace === namespace ? bootstrap : undefined;
}

/** The first options in the standard input of a container's `start` that are what is looked for. */
export function findOptions(
  bytes: Buffer,
  { id, namespace }: { readonly id: string; readonly namespace: string },
  isWanted: (options: AnyMessage) => boolean,
): AnyMessage | undefined {
  const candidates = parseBootstrapParams(bytes, id, namespace)?.extensions.map(
    (extension) => extension.value,
  ) ?? [attempt(() => anyCodec.deserialize(bytes)) ?? null];
  return candidates.find((any) => any !== null && isWanted(any)) ?? undefined;
}

/** Whether options are of a type, with a prefix to its name or without. */
export function isOf(typeName: string): (options: AnyMessage) => boolean {
  return ({ type_url }) => type_url.slice(type_url.lastIndexOf('/') + 1) === typeName;
}

/** `SystemdCgroup = true` on a line of its own, which is how containerd writes the table. */
function readSystemdCgroup(toml: string): boolean | undefined {
  for (const line of toml.split('\n')) {
    const equals = line.indexOf('=');
    if (equals < 0 || line.slice(0, equals).trim() !== 'SystemdCgroup') continue;
    const value = line.slice(equals + 1).trim();
    if (value === 'true' || value === 'false') return value === 'true';
  }
  return undefined;
}

function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
