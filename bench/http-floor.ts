/** Bare node:http with the answer of the sample app `hello`, on the loopback port given as the argument. */
import { createServer } from 'node:http';

const body = 'Hello from Spin!\n';
createServer((request, response) => {
  request.resume();
  response.setHeader('content-type', 'text/plain');
  response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('listening\n'));
