/**
 * A small HTTP load generator, for machines without wrk: `load-generator.ts PORT PATH CONNECTIONS MILLISECONDS` keeps
 * that many connections busy with one request each at a time and prints `{"requests", "seconds", "p50Ms", "p99Ms"}`.
 */
import { connect } from 'node:net';
import { answerLength } from '../test/support/http-answer.ts';
import { quantile } from './statistics.ts';

const [port, path = '/', connections, milliseconds] = process.argv.slice(2);
const head = Buffer.from(`GET ${path} HTTP/1.1\r\nhost: bench\r\n\r\n`);
const latencies: number[] = [];
const begun = performance.now();
const end = begun + Number(milliseconds);

function busyConnection(): Promise<void> {
  return new Promise((resolve, reject) => {
    let received: Buffer = Buffer.alloc(0);
    let sent = 0;
    const socket = connect(Number(port), '127.0.0.1');
    const send = (): void => {
      sent = performance.now();
      if (sent >= end) socket.end();
      else socket.write(head);
    };
    socket.setNoDelay();
    socket.on('connect', send);
    socket.on('error', reject);
    socket.on('close', () => resolve());
    socket.on('data', (chunk: Buffer) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      const length = answerLength(received);
      if (length === undefined) return;
      received = received.subarray(length);
      latencies.push(performance.now() - sent);
      send();
    });
  });
}

await Promise.all(Array.from({ length: Number(connections) }, busyConnection));
const [p50Ms, p99Ms] = [quantile(latencies, 0.5), quantile(latencies, 0.99)];
const seconds = (performance.now() - begun) / 1000;
process.stdout.write(`${JSON.stringify({ requests: latencies.length, seconds, p50Ms, p99Ms })}\n`);
