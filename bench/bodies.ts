import type { Bench } from './bench.ts';
import { rawHttp, textOf } from './raw-http.ts';
import type { PartResult } from './results.ts';
import { startFloor, startPod } from './servers.ts';
import { Rounds } from './statistics.ts';

const roundCount = 7;
/** Bytes of each body. */
const bodyBytes = 64 * 1024 * 1024;

export const bodyQuantities = { up: '64 MiB up to the server', down: '64 MiB down from the server' } as const;

/** One large body up to a server that counts it, and one down from a server that makes it, 64 KiB at a time. */
export async function measureBodies(bench: Bench): Promise<PartResult> {
  const servers = [await startFloor()];
  try {
    servers.push(await startPod(await bench.node(), 'bench-guest'));
    const rounds = new Rounds();
    const once = async (record: boolean): Promise<void> => {
      for (const { name, port } of servers) {
        let start = performance.now();
        const up = await rawHttp({ port, path: '/consume', bodyBytes });
        const upSeconds = (performance.now() - start) / 1000;
        if (textOf(up) !== String(bodyBytes))
          throw new Error(`${name} counted "${textOf(up)}", not ${bodyBytes}`);
        start = performance.now();
        const down = await rawHttp({ port, path: `/produce/${bodyBytes}` });
        const downSeconds = (performance.now() - start) / 1000;
        if (down.bodyBytes < bodyBytes)
          throw new Error(`${name} sent ${down.bodyBytes} of ${bodyBytes} bytes`);
        if (!record) continue;
        rounds.add(bodyQuantities.up, name, 'MB/s', bodyBytes / 1e6 / upSeconds);
        rounds.add(bodyQuantities.down, name, 'MB/s', bodyBytes / 1e6 / downSeconds);
      }
    };
    for (let warmUp = 0; warmUp < 2; warmUp++) await once(false);
    await bench.rounds(roundCount, () => once(true));
    return { measurements: rounds.summary(), failures: [] };
  } finally {
    for (const server of servers) await server.stop();
  }
}
