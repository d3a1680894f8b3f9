import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { readRuntimeConfig } from '../app/runtime-config.ts';
import type { RuntimeConfig } from '../app/runtime-config-types.ts';
import { formatAddress } from '../engine/listen-address.ts';
import type { PrepareSource } from '../engine/prepare.ts';
import { type AppSource, findAppSource, insecureFlag, sourceFlags } from './app-source.ts';
import type { Flag, ParsedArguments } from './arguments.ts';
import { parseAssignment } from './assignment.ts';
import type { Command, CommandContext } from './command.ts';
import { findFreePort, resolveListen } from './listen-flag.ts';
import { type AppRun, runApp } from './run-app.ts';
import type { StateFolder } from './store-summary.ts';
import { readVariables } from './variable-values.ts';
import { writeWasmManifest } from './wasm-manifest.ts';
import { cacheFolder, openWorkFolder } from './work-folder.ts';

/** Where an app listens unless it is told otherwise, as with Spin. */
const defaultListen = '127.0.0.1:3000';

const flags = {
  ...sourceFlags,
  reference: {
    name: 'reference',
    value: 'NAME',
    summary: 'which image of an OCI layout, if it holds several',
  },
  insecure: insecureFlag,
  listen: {
    name: 'listen',
    value: 'HOST:PORT',
    env: 'SPIN_HTTP_LISTEN_ADDR',
    summary: `where to listen; default ${defaultListen}`,
  },
  findFreePort: { name: 'find-free-port', summary: 'take the next free port if that one is in use' },
  environment: {
    name: 'env',
    short: 'e',
    value: 'NAME=VALUE',
    repeatable: true,
    summary: 'environment variable for every component',
  },
  variable: {
    name: 'variable',
    value: 'NAME=VALUE',
    repeatable: true,
    summary: 'application variable; also NAME=@FILE, @FILE.json, @FILE.toml',
  },
  componentId: {
    name: 'component-id',
    short: 'c',
    value: 'ID',
    repeatable: true,
    summary: 'run only this component',
  },
  runtimeConfig: {
    name: 'runtime-config-file',
    value: 'FILE',
    env: 'RUNTIME_CONFIG_FILE',
    summary: 'stores, variable providers and other settings of the operator',
  },
  stateDir: {
    name: 'state-dir',
    value: 'DIR',
    summary: 'where key-value data is kept; default .spin beside the manifest',
  },
  temp: { name: 'temp', value: 'DIR', summary: 'folder for working files; kept at the end' },
  cacheDir: {
    name: 'cache-dir',
    value: 'DIR',
    summary: 'folder of the component cache; default $XDG_CACHE_HOME/spinshim or ~/.cache/spinshim',
  },
  directMounts: {
    name: 'direct-mounts',
    summary: 'give components their folders as they are, not a copy; sources must lie in the app folder',
  },
  quiet: { name: 'quiet', short: 'q', summary: 'do not show what components write' },
} as const satisfies Record<string, Flag>;

/** `spinshim up`: runs an app on this machine, without containerd and without root. */
export const upCommand: Command = {
  name: 'up',
  summary: 'run an app on this machine',
  positionals: [],
  optionalPositional: 'APP',
  flags: Object.values(flags),
  notes: [
    'APP is what --from takes: "spinshim up DIR" and "spinshim up --from DIR" are the same.',
    'SIGINT and SIGTERM end the app after the requests in progress; a second one ends it at once.',
    'Variables of the environment named SPIN_VARIABLE_NAME give application variables their values.',
  ],
  run: up,
};

async function up(args: ParsedArguments, context: CommandContext): Promise<number> {
  const { cwd, env } = context;
  const source = await findAppSource(args, cwd, args.positionals[0]);
  const environment = args.values(flags.environment).map((text) => parseAssignment(text, 'env'));
  const variables = await readVariables(args.values(flags.variable), cwd);
  const configFile = args.value(flags.runtimeConfig);
  const configPath = configFile === undefined ? undefined : resolve(cwd, configFile);
  const config = configPath === undefined ? undefined : readRuntimeConfig(configPath, configPath);
  const wanted = await resolveListen(args.value(flags.listen) ?? defaultListen);
  const listen = formatAddress(args.isSet(flags.findFreePort) ? await findFreePort(wanted) : wanted);
  const retain = args.values(flags.componentId);
  const caBundle = trustedCertificates(env);
  if (source.kind === 'manifest' && dirname(source.path) !== cwd && !args.isSet(flags.quiet))
    context.err(`Using "${source.path}"`);

  const work = await openWorkFolder(args.value(flags.temp), cwd);
  try {
    const run: AppRun = {
      job: {
        source: await prepareSource(source, args, work.path),
        storeDir: cacheFolder(args.value(flags.cacheDir), env, cwd),
        workDir: work.path,
        ...(retain.length === 0 ? {} : { retain }),
      },
      listen,
      environment,
      variables,
      config,
      state: stateFolder(source, args, config, cwd, work.path),
      quiet: args.isSet(flags.quiet),
      ...(configPath === undefined ? {} : { configPath }),
      ...(caBundle === undefined ? {} : { caBundle }),
    };
    return await runApp(run, context);
  } finally {
    await work.dispose();
  }
}

async function prepareSource(
  source: AppSource,
  args: ParsedArguments,
  workDir: string,
): Promise<PrepareSource> {
  switch (source.kind) {
    case 'manifest':
      return {
        kind: 'folder',
        manifest: source.path,
        mode: args.isSet(flags.directMounts) ? 'direct' : 'copy',
      };
    case 'wasm':
      return { kind: 'folder', manifest: await writeWasmManifest(source.path, workDir), mode: 'copy' };
    case 'layout': {
      const reference = args.value(flags.reference);
      return { kind: 'layout', path: source.path, ...(reference === undefined ? {} : { reference }) };
    }
    case 'registry':
      return { kind: 'registry', reference: source.reference, insecure: args.isSet(flags.insecure) };
    default:
      return source satisfies never;
  }
}

/** The flag, else the runtime configuration, else `.spin` beside the app, else with the working files. */
function stateFolder(
  source: AppSource,
  args: ParsedArguments,
  config: RuntimeConfig | undefined,
  cwd: string,
  workDir: string,
): StateFolder {
  const named = args.value(flags.stateDir) ?? config?.stateDir ?? undefined;
  if (named !== undefined) return { path: resolve(cwd, named), temporary: false };
  const hasFolder = source.kind === 'manifest' || source.kind === 'wasm';
  if (hasFolder && config?.stateDir !== null)
    return { path: join(dirname(source.path), '.spin'), temporary: false };
  return { path: join(workDir, '.spin'), temporary: args.value(flags.temp) === undefined };
}

/** The machine's own certificates, or those the environment names. */
function trustedCertificates(env: ReadonlyMap<string, string>): string | undefined {
  const candidates = [
    env.get('SSL_CERT_FILE'),
    env.get('NODE_EXTRA_CA_CERTS'),
    '/etc/ssl/certs/ca-certificates.crt',
    '/etc/pki/tls/certs/ca-bundle.crt',
  ];
  return candidates.find((path) => path !== undefined && path !== '' && existsSync(path));
}
