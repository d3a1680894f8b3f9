/* What the launcher's source files share. */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RUN_DIR_DEFAULT "/run/spinshim"

/* One call by containerd: flags as in its shim command line, "" where a flag was not given. */
struct call {
  const char *namespace_name;
  const char *address;
  const char *publish_binary;
  const char *id;
  const char *bundle;
  bool debug;
};

/* Each verb returns the process's exit status. */
int start_verb(const struct call *call);
int delete_verb(const struct call *call);
int pause_verb(int argc, char **argv);
int engine_verb(int argc, char **argv);
int print_info(void);

/* Prints one line to stderr. The text says what, where, why and what to do; control characters become '?'. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* report(), then exit status 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes all of it or returns -1 with errno. */
int write_all(int fd, const void *data, size_t size);

/* SPINSHIM_RUN_DIR or the default; always absolute. */
const char *run_dir(void);

/* Milliseconds of the monotonic clock. */
int64_t now_ms(void);

void nap_ms(long ms);

/* Gives the flag's value if `*argv` is `-name value`, `-name=value` or the same with two dashes, and steps to the last
   argument it used; NULL if it is another flag. Fails if the value is missing. */
const char *string_flag(char ***argv, const char *name);

/* Every signal to its default and unblocked: a parent's SIG_IGN and mask outlive exec. */
void reset_signals(void);

/* SHA-256 (FIPS 180-4). */
struct sha256 {
  uint32_t state[8];
  uint64_t length;
  unsigned char block[64];
};
void sha256_init(struct sha256 *hash);
void sha256_update(struct sha256 *hash, const void *data, size_t size);
void sha256_final(struct sha256 *hash, unsigned char digest[32]);

#endif
