import { open } from 'node:fs/promises';
import { ShimError } from '../error.ts';

/** The first eight bytes of a core module and of a component (WebAssembly core and component model binary formats). */
const preambles: readonly string[] = ['0061736d01000000', '0061736d0d000100'];

const headBytes = 4096;

/** Throws `invalid-component` unless a file begins like a component, a core module, or WebAssembly text. */
export async function checkWasmSource(path: string, componentId: string): Promise<void> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0);
  const head = buffer.subarray(0, bytesRead);
  if (preambles.includes(head.toString('hex', 0, 8))) return;
  const text = head.toString('latin1').trimStart();
  // A parenthesis opens a module, a component or a block comment; two semicolons a line comment.
  if (text.startsWith('(') || text.startsWith(';;')) return;
  throw new ShimError(
    'invalid-component',
    `source of component "${componentId}", "${path}", is neither a WebAssembly component, module nor text: build the app first`,
  );
}
