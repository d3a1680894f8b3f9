/**
 * Bare node:http on the loopback port given as the argument: what the sample apps do, without a guest. `/` is `hello`;
 * `/consume`, `/produce/BYTES` and the kernels are `bench-guest`, with chunks of the same size.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { kernels } from './kernels/kernels.ts';

const greeting = 'Hello from Spin!\n';
const chunk = Buffer.alloc(65_536, 'x');

function consume(request: IncomingMessage, response: ServerResponse): void {
  let total = 0;
  request.on('data', (bytes: Buffer) => {
    total += bytes.length;
  });
  request.on('end', () => response.end(String(total)));
}

/** Writes as long as the socket takes more, and goes on when it has room again. */
function produce(response: ServerResponse, total: number): void {
  let left = total;
  const more = (): void => {
    while (left > 0) {
      const bytes = chunk.subarray(0, Math.min(left, chunk.length));
      left -= bytes.length;
      if (!response.write(bytes)) return;
    }
    response.off('drain', more);
    response.end();
  };
  response.on('drain', more);
  more();
}

createServer((request, response) => {
  const [, name = '', size = '0'] = (request.url ?? '/').split('/');
  if (name === 'consume') {
    consume(request, response);
    return;
  }
  request.resume();
  const kernel = kernels.get(name);
  if (name === 'produce') produce(response, Number(size));
  else if (kernel !== undefined) response.end(String(kernel(Number(size))));
  else {
    response.setHeader('content-type', 'text/plain');
    response.end(greeting);
  }
}).listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('listening\n'));
