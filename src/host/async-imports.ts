import { keyValueAsyncImports } from './spin/key-value.ts';
import { variablesAsyncImports } from './spin/variables.ts';
import { httpAsyncImports } from './wasi/http/http.ts';
import { ioAsyncImports } from './wasi/io.ts';

/** Every host function that may wait, as jco's `asyncImports` names them. */
export const asyncImports: readonly string[] = [
  ...ioAsyncImports,
  ...httpAsyncImports,
  ...variablesAsyncImports,
  ...keyValueAsyncImports,
];
