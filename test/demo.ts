/**
 * `make demo`: Spin apps in pods of a containerd and from a registry of its own. Prints each step with its time; the
 * last line is `demo: ok` or `demo: failed at STEP: REASON`, and the exit status follows it. Everything is cleaned up
 * in either case.
 */
import { isBuilt, pushSampleApp, type SampleApp } from './support/apps.ts';
import { PrivateContainerd } from './support/containerd.ts';
import { leftovers } from './support/footprint.ts';
import { logLines, Pod } from './support/pod.ts';
import { PrivateRegistry } from './support/registry.ts';
import { shimUnderTest } from './support/shim.ts';
import { waitFor } from './support/wait.ts';

type AppShow = { readonly app: SampleApp; readonly path: string; readonly answer: string };

const shows: readonly AppShow[] = [
  { app: 'hello', path: '/', answer: 'Hello from Spin!\n' },
  isBuilt('js-api')
    ? { app: 'js-api', path: '/hello/demo', answer: 'Hello, demo!\n' }
    : { app: 'rust-http', path: '/hello/demo', answer: 'Hello, demo, from Rust\n' },
];

/** The step that is under way, for the last line. */
let current = 'start';
/** Its work, which goes on for a moment when the demo is interrupted. */
let pending: Promise<unknown> = Promise.resolve();
let registry: PrivateRegistry | undefined;
let containerd: PrivateContainerd | undefined;

let interrupt: (reason: Error) => void = () => {};
const interrupted = new Promise<never>((_, reject) => {
  interrupt = reject;
});
interrupted.catch(() => {});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => interrupt(new Error(`ended by ${signal}`)));

/** Runs one step and prints what came of it with the time it took. */
async function step<T>(name: string, work: () => Promise<T>, result?: (value: T) => string): Promise<T> {
  current = name;
  const start = performance.now();
  const working = work();
  pending = working.catch(() => {});
  const value = await Promise.race([working, interrupted]);
  const time = `${(performance.now() - start).toFixed(0)} ms`;
  const said = result === undefined ? '' : `: ${result(value)}`;
  process.stdout.write(`${time.padStart(9)}  ${name}${said}\n`);
  return value;
}

async function showApp(node: PrivateContainerd, store: PrivateRegistry, show: AppShow): Promise<void> {
  const { app, path, answer } = show;
  const reference = await step(
    `spinshim push ${app}`,
    () => pushSampleApp(shimUnderTest(), store, app),
    (name) => name,
  );
  await step(`pull ${app} through CRI`, () => node.cri.pull(reference));
  const pod = await step(
    `run ${app} with runtime_handler spin-v2`,
    () => Pod.run(node, { name: `demo-${app}`, image: reference }),
    ({ ip, id }) => `pod ${id.slice(0, 12)} has the address ${ip}`,
  );
  await step(
    `request http://${pod.ip}${path}`,
    async () => {
      const { status, text } = await pod.request(path);
      if (status !== 200 || text !== answer) throw new Error(`answered ${status} ${JSON.stringify(text)}`);
      return `${status} ${JSON.stringify(text)}`;
    },
    (said) => said,
  );
  await step(
    `read the log of ${app}`,
    () => waitFor('the log', () => logLines(pod.log(), 'stdout').find((line) => line.startsWith('Serving'))),
    (line) => JSON.stringify(line),
  );
  await step(
    `stop ${app}`,
    async () => {
      await pod.stop(10);
      const { exit_code } = await pod.status();
      if (exit_code !== 0) throw new Error(`the container ended with ${exit_code}`);
      return exit_code;
    },
    (code) => `exit code ${code}`,
  );
  await step(`remove the pod of ${app}`, async () => {
    await pod.remove();
    const pods = await node.cri.listPods();
    if (pods.length > 0) throw new Error(`${pods.length} pods are left`);
  });
}

async function cleanUp(): Promise<void> {
  await pending;
  const report = await containerd?.cleanup();
  await registry?.stop();
  if (containerd === undefined || report === undefined) return;
  const left = leftovers(containerd);
  if (left.length > 0) throw new Error(left.join(', '));
  const forced = [
    ...report.failures,
    ...report.killed.map((pid) => `process ${pid} had to be killed`),
    ...report.unmounted.map((point) => `"${point}" had to be unmounted`),
  ];
  if (forced.length > 0) throw new Error(forced.join(', '));
}

/** The reason of a failure on one line. */
function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().replaceAll(/\s*\n\s*/g, ' | ');
}

async function demo(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('containerd, mounts and network namespaces need root: run it as root');
  const store = await step(
    'start a registry',
    async () => {
      registry = await PrivateRegistry.start();
      return registry;
    },
    ({ host }) => host,
  );
  const { kind, containerd: options } = shimUnderTest();
  const node = await step(
    'start containerd',
    async () => {
      containerd = await PrivateContainerd.start({ ...options, registries: [store.host] });
      return containerd;
    },
    ({ folder }) => `everything of it is below ${folder}; the shim is the ${kind}`,
  );
  for (const show of shows) await showApp(node, store, show);
}

const start = performance.now();
let failure: string | undefined;
try {
  await demo();
} catch (error) {
  failure = `demo: failed at ${current}: ${oneLine(error)}`;
}
try {
  const begun = performance.now();
  await cleanUp();
  const time = `${(performance.now() - begun).toFixed(0)} ms`;
  process.stdout.write(`${time.padStart(9)}  clean up: nothing is left behind\n`);
} catch (error) {
  failure ??= `demo: failed at clean up: ${oneLine(error)}`;
}
process.stdout.write(`${`${(performance.now() - start).toFixed(0)} ms`.padStart(9)}  in all\n`);
process.stdout.write(`${failure ?? 'demo: ok'}\n`);
process.exit(failure === undefined ? 0 : 1);
