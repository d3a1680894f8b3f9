import { SpinNode } from './test/support/spin-node.ts';
import { httpImage } from './test/support/images.ts';
import { httpGet } from './test/support/http-get.ts';
import { waitFor } from './test/support/wait.ts';
import { Pod } from './test/support/pod.ts';
const spin = await SpinNode.start(['hello'], {});
await spin.import(await httpImage(), 'spinshim.test/http:1');
const one = async (s: string, name: string) => { const image = s === 'runc' ? 'spinshim.test/http:1' : spin.image('hello');
  const pod = await Pod.run(spin.containerd, { name, image, runtimeHandler: s === 'runc' ? 'runc' : 'spin-v2' } as any);
  await waitFor('x', async () => (await httpGet(`http://${pod.ip}:80/`)).status < 500, { intervalMs: 1 }); return pod; };
await (await one('hello', 'w')).remove(); await (await one('runc', 'w2')).remove();
const out: Record<string, number[]> = {};
for (let r = 0; r < Number(process.argv[2] ?? 3); r++) for (const s of ['runc', 'hello']) {
  const t = performance.now();
  await Promise.all(Array.from({ length: 10 }, (_, i) => one(s, `${s}-${r}-${i}`)));
  (out[s] ??= []).push(performance.now() - t);
  await spin.removePods();
}
for (const [k, v] of Object.entries(out)) console.log(k, v.map((x) => x.toFixed(0)).join(' '));
await spin.stop();
