import { readFile } from 'node:fs/promises';
import { get, request } from 'node:http';

/** Clients that stream, and clients that leave. */

/** Sends `total` bytes to a path that echoes and counts those that come back. */
export function streamThrough(port: number, total: number, path = '/echo'): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ port, host: '127.0.0.1', method: 'POST', path }, (response) => {
      let received = 0;
      response.on('data', (chunk: Buffer) => (received += chunk.length));
      response.on('end', () => resolve(received));
      response.on('error', reject);
    });
    outgoing.on('error', reject);
    const chunk = Buffer.alloc(64 * 1024, 0x61);
    let sent = 0;
    const more = (): void => {
      while (sent < total) {
        sent += chunk.length;
        if (!outgoing.write(chunk)) {
          outgoing.once('drain', more);
          return;
        }
      }
      outgoing.end();
    };
    more();
  });
}

/** Memory that a process has in use. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

/** Breaks the connection off when the response has begun. */
export function leaveAfterFirstByte(port: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = get({ port, host: '127.0.0.1', path }, (response) => {
      response.on('error', () => {});
      response.once('data', () => {
        outgoing.destroy();
        resolve();
      });
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNRESET') reject(error);
    });
  });
}
