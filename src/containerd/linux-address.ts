import { ShimError } from '../error.ts';
import { taskServiceNames } from './messages.ts';
import { ProtoFile } from './proto-file.ts';

/** Where a shim serves its tasks, and under which name. */
export type ShimAddress = {
  /** Absolute path of the ttrpc socket. */
  readonly path: string;
  readonly service: (typeof taskServiceNames)[number];
};

type BootstrapResult = { readonly version: number; readonly address: string; readonly protocol: string };

const resultCodec = new ProtoFile('bootstrap_result.proto').message<BootstrapResult>(
  'containerd.runtime.bootstrap.v1.BootstrapResult',
);

/**
 * Reads what a shim's `start` printed: a bare address (containerd 1.6 and 1.7), JSON (2.0 to 2.2) or a BootstrapResult
 * (2.3 and later; containerd.md 1.5). Throws `unsupported` for what cannot be served here.
 */
export function parseShimAddress(output: Buffer): ShimAddress {
  const { version, address, protocol } = parseAnswer(output);
  const service = taskServiceNames[version - 2];
  const path = address.startsWith('unix://') ? address.slice('unix://'.length) : address;
  if (service === undefined || protocol !== 'ttrpc' || !path.startsWith('/')) {
    const what = `version ${version}, address "${address}", protocol "${protocol}"`;
    throw new ShimError(
      'unsupported',
      `the shim for Linux containers answered ${what}: ttrpc of version 2 or 3 on a unix socket is needed`,
    );
  }
  return { path, service };
}

function parseAnswer(output: Buffer): BootstrapResult {
  const text = output.toString('utf8').trim();
  if (text.startsWith('unix:')) return { version: 2, address: text, protocol: 'ttrpc' };
  try {
    return text.startsWith('{') ? parseJson(text) : resultCodec.deserialize(output);
  } catch (cause) {
    const start = JSON.stringify(text.slice(0, 200));
    throw new ShimError(
      'unsupported',
      `the shim for Linux containers answered ${start}, which is no address: is it "containerd-shim-runc-v2"?`,
      { cause },
    );
  }
}

function parseJson(text: string): BootstrapResult {
  const { version, address, protocol } = JSON.parse(text) as Record<string, unknown>;
  return {
    version: typeof version === 'number' ? version : 0,
    address: typeof address === 'string' ? address : '',
    protocol: typeof protocol === 'string' ? protocol : '',
  };
}
