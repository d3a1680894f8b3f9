/* `-info`: prints a RuntimeInfo {name 1, version 2 {version 1, revision 2}, features 4 Any {type_url 1, value 2}}, for which
   containerd 2.0 and later asks at its start.

   The one feature told of is that mounts can be read-only with all that is mounted below them. Our own containers have
   volumes no other way; for Linux containers it is the OCI runtime's to say, which would take an option that it does not
   know for none. User namespaces are none: files of volumes are not mapped for our own containers. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNTIME_NAME "io.containerd.spin.v2"
#define FEATURES_TYPE "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
/* Without "linux" containerd would follow a null pointer when a client asks for id-mapped mounts. */
#define FEATURES                                                                                                      \
  "{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.2.1\",\"mountOptions\":[\"bind\",\"rbind\",\"ro\",\"rro\",\"rw\"]," \
  "\"linux\":{}}"

#define INPUT_MAX (64 * 1024)   /* bytes of options, or of an OCI runtime's answer, that are looked at */
#define INPUT_TIMEOUT_MS 2000   /* for either to come to its end */

/* Reads to the end; 0 for what is longer, or does not end in time. */
static size_t read_whole(int fd, char *data) {
  size_t size = 0;
  const int64_t deadline = now_ms() + INPUT_TIMEOUT_MS;
  for (;;) {
    struct pollfd input = {.fd = fd, .events = POLLIN};
    int64_t left = deadline - now_ms();
    int ready = left <= 0 ? 0 : poll(&input, 1, (int)left);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || size == INPUT_MAX) return 0;
    ssize_t got = read(fd, data + size, INPUT_MAX - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0 ? size : 0;
    size += (size_t)got;
  }
}

/* Whether the `runc` of the PATH says that it knows the mount option `rro`. */
static bool runc_knows_rro(void) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  pid_t child = fork();
  if (child == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    reset_signals();
    execlp("runc", "runc", "features", (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  static char answer[INPUT_MAX];
  size_t size = child < 0 ? 0 : read_whole(ends[0], answer);
  close(ends[0]);
  if (child < 0) return false;
  if (size == 0) kill(child, SIGKILL);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
    ;
  return memmem(answer, size, "\"rro\"", 5) != NULL;
}

/* Whether the options on standard input name another OCI runtime than `runc`; so they may if they cannot be read. */
static bool names_another_runtime(void) {
  static char options[INPUT_MAX];
  if (isatty(STDIN_FILENO)) return false;
  size_t size = read_whole(STDIN_FILENO, options);
  return memmem(options, size, "BinaryName", 10) != NULL;
}

/* Appends a field of bytes: its tag, its length in one or two bytes, and what is in it unless that comes by itself. */
static char *put(char *at, char tag, size_t size, const char *bytes) {
  *at++ = tag;
  if (size > 127) *at++ = (char)((size & 127) | 128);
  *at++ = (char)(size > 127 ? size >> 7 : size);
  if (bytes != NULL) memcpy(at, bytes, size);
  return bytes == NULL ? at : at + size;
}

int print_info(void) {
  const size_t version = strlen(VERSION), revision = strlen(REVISION);
  const size_t type = strlen(FEATURES_TYPE), features = strlen(FEATURES);
  _Static_assert(sizeof RUNTIME_NAME + sizeof VERSION + sizeof REVISION < 120, "a length would need a second byte");
  _Static_assert(sizeof FEATURES_TYPE < 128 && sizeof FEATURES < 128, "a length would need a second byte");
  char message[2048];
  char *end = put(message, '\x0a', strlen(RUNTIME_NAME), RUNTIME_NAME);
  end = put(end, '\x12', version + revision + 4, NULL);
  end = put(end, '\x0a', version, VERSION);
  end = put(end, '\x12', revision, REVISION);
  if (!names_another_runtime() && runc_knows_rro()) {
    end = put(end, '\x22', type + features + 4, NULL);
    end = put(end, '\x0a', type, FEATURES_TYPE);
    end = put(end, '\x12', features, FEATURES);
  }
  return write_all(STDOUT_FILENO, message, (size_t)(end - message)) == 0 ? 0 : 1;
}
