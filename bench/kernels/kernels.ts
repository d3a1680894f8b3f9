/** The kernels of the sample app `bench-guest` (fixtures/bench-guest/src/kernels.ts) in plain JavaScript. */

function fib(n: number): number {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

function sieve(n: number): number {
  const composite = new Uint8Array(n + 1);
  let count = 0;
  for (let i = 2; i <= n; i++) {
    if (composite[i]) continue;
    count++;
    for (let j = i * i; j <= n; j += i) composite[j] = 1;
  }
  return count;
}

function mandelbrot(n: number): number {
  let sum = 0;
  for (let y = 0; y < n; y++) {
    for (let x = 0; x < n; x++) {
      const cr = (x / n) * 3 - 2;
      const ci = (y / n) * 2 - 1;
      let zr = 0;
      let zi = 0;
      let k = 0;
      while (k < 200 && zr * zr + zi * zi < 4) {
        const next = zr * zr - zi * zi + cr;
        zi = 2 * zr * zi + ci;
        zr = next;
        k++;
      }
      sum += k;
    }
  }
  return sum;
}

function matmul(n: number): number {
  const a = Float64Array.from({ length: n * n }, (_, index) => index % 7);
  const b = Float64Array.from({ length: n * n }, (_, index) => index % 5);
  const c = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const value = a[i * n + k] as number;
      for (let j = 0; j < n; j++) {
        const at = i * n + j;
        c[at] = (c[at] as number) + value * (b[k * n + j] as number);
      }
    }
  }
  return c.reduce((sum, value) => sum + value, 0);
}

/** Each by its name in a path. */
export const kernels: ReadonlyMap<string, (n: number) => number> = new Map([
  ['fib', fib],
  ['sieve', sieve],
  ['mandelbrot', mandelbrot],
  ['matmul', matmul],
]);
