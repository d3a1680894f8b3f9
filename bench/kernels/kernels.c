/*
 * The kernels of the sample app `bench-guest` (fixtures/bench-guest/src/kernels.ts), native: `kernels NAME N` runs one
 * and prints its result and the milliseconds it took.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static int64_t sieve(int n) {
  uint8_t *composite = calloc(n + 1, 1);
  int64_t count = 0;
  for (int i = 2; i <= n; i++) {
    if (composite[i]) continue;
    count++;
    for (int64_t j = (int64_t)i * i; j <= n; j += i) composite[j] = 1;
  }
  free(composite);
  return count;
}

static int64_t mandelbrot(int n) {
  int64_t sum = 0;
  for (int y = 0; y < n; y++) {
    for (int x = 0; x < n; x++) {
      double cr = (double)x / n * 3 - 2, ci = (double)y / n * 2 - 1, zr = 0, zi = 0;
      int k = 0;
      while (k < 200 && zr * zr + zi * zi < 4) {
        double next = zr * zr - zi * zi + cr;
        zi = 2 * zr * zi + ci;
        zr = next;
        k++;
      }
      sum += k;
    }
  }
  return sum;
}

static int64_t matmul(int n) {
  double *a = malloc(sizeof(double) * n * n), *b = malloc(sizeof(double) * n * n);
  double *c = calloc((size_t)n * n, sizeof(double)), sum = 0;
  for (int i = 0; i < n * n; i++) {
    a[i] = i % 7;
    b[i] = i % 5;
  }
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < n; k++) {
      double value = a[i * n + k];
      for (int j = 0; j < n; j++) c[i * n + j] += value * b[k * n + j];
    }
  }
  for (int i = 0; i < n * n; i++) sum += c[i];
  free(a);
  free(b);
  free(c);
  return (int64_t)sum;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int64_t (*run)(int);
  } kernels[] = {{"fib", fib}, {"sieve", sieve}, {"mandelbrot", mandelbrot}, {"matmul", matmul}};
  if (argc != 3) return 2;
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(argv[1], kernels[i].name) != 0) continue;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int64_t result = kernels[i].run(atoi(argv[2]));
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("%lld %.3f\n", (long long)result,
           (after.tv_sec - before.tv_sec) * 1e3 + (after.tv_nsec - before.tv_nsec) / 1e6);
    return 0;
  }
  return 2;
}
