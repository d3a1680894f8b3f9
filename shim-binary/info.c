/* `-info`: prints a RuntimeInfo {name 1, version 2 {version 1, revision 2}, features 4 Any {type_url 1, value 2}}, for which
   containerd 2.0 and later asks at its start.

   The features told of are that mounts can be read-only with all that is mounted below them, and user namespaces with volumes
   whose files have their ids. Our own containers have both; for Linux containers and the sandboxes of such pods it is the OCI
   runtime's to say, which would take an option that it does not know for none. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNTIME_NAME "io.containerd.spin.v2"
#define RUNC_OPTIONS "containerd.runc.v1.Options"
#define FEATURES_TYPE "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
/* Without "linux" containerd would follow a null pointer when a client asks for id-mapped mounts. */
#define FEATURES_WITH(options, linux)                                                                \
  "{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.2.1\",\"mountOptions\":[\"bind\",\"rbind\",\"ro\",\"rro\"," options \
  "\"rw\"],\"linux\":{" linux "}}"
#define FEATURES FEATURES_WITH("", "")
#define FEATURES_MAPPED                                                                                          \
  FEATURES_WITH("\"idmap\",\"ridmap\",",                                                                       \
                "\"namespaces\":[\"cgroup\",\"ipc\",\"mount\",\"network\",\"pid\",\"user\",\"uts\"]," \
                "\"mountExtensions\":{\"idmap\":{\"enabled\":true}}")

#define INPUT_MAX (64 * 1024)   /* bytes of options, or of an OCI runtime's answer, that are looked at */
#define INPUT_TIMEOUT_MS 2000   /* for either to come to its end */

/* Reads to the end; -1 for what is longer, or does not end in time. */
static ssize_t read_whole(int fd, char *data) {
  size_t size = 0;
  const int64_t deadline = now_ms() + INPUT_TIMEOUT_MS;
  for (;;) {
    struct pollfd input = {.fd = fd, .events = POLLIN};
    int64_t left = deadline - now_ms();
    int ready = left <= 0 ? 0 : poll(&input, 1, (int)left);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || size == INPUT_MAX) return -1;
    ssize_t got = read(fd, data + size, INPUT_MAX - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0 ? (ssize_t)size : -1;
    size += (size_t)got;
  }
}

/* Whether an answer of `runc features` says that it maps ids. */
static bool maps_ids(const char *answer, size_t size) {
  static const char key[] = "\"idmap\"", value[] = ":{\"enabled\":true";
  const char *const end = answer + size;
  for (const char *at = answer; (at = memmem(at, (size_t)(end - at), key, strlen(key))) != NULL;) {
    at += strlen(key);
    const char *next = value;
    /* It is a mount option's name as well. */
    for (const char *seen = at; seen < end && *next != '\0'; seen += 1) {
      if (strchr(" \t\r\n", *seen) != NULL) continue;
      if (*seen != *next) break;
      next += 1;
    }
    if (*next == '\0') return true;
  }
  return false;
}

/* What `runc` of the PATH and we have in common, of what our features tell; NULL for nothing. `mapped`: user namespaces too. */
static const char *common_features(bool mapped) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return NULL;
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
  ssize_t size = child < 0 ? 0 : read_whole(ends[0], answer);
  close(ends[0]);
  if (child < 0) return NULL;
  if (size <= 0) kill(child, SIGKILL);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
    ;
  if (size <= 0 || memmem(answer, (size_t)size, "\"rro\"", 5) == NULL) return NULL;
  return mapped && maps_ids(answer, (size_t)size) ? FEATURES_MAPPED : FEATURES;
}

/* What we can do with the handler's options, which are on standard input; NULL for nothing that is told of. */
static const char *features_with_options(void) {
  static char options[INPUT_MAX];
  ssize_t size = isatty(STDIN_FILENO) ? 0 : read_whole(STDIN_FILENO, options);
  if (size < 0 || memmem(options, (size_t)size, "BinaryName", 10) != NULL) return NULL;
  /* In pods with a user namespace containerd gives runc's options to every runtime, and fails where a handler has others. */
  return common_features(size == 0 || memmem(options, (size_t)size, RUNC_OPTIONS, strlen(RUNC_OPTIONS)) != NULL);
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
  const size_t type = strlen(FEATURES_TYPE);
  _Static_assert(sizeof RUNTIME_NAME + sizeof VERSION + sizeof REVISION < 120, "a length would need a second byte");
  _Static_assert(sizeof FEATURES_TYPE < 128, "a length would need a second byte");
  char message[2048];
  char *end = put(message, '\x0a', strlen(RUNTIME_NAME), RUNTIME_NAME);
  end = put(end, '\x12', version + revision + 4, NULL);
  end = put(end, '\x0a', version, VERSION);
  end = put(end, '\x12', revision, REVISION);
  const char *features = features_with_options();
  if (features != NULL) {
    const size_t size = strlen(features);
    end = put(end, '\x22', type + size + (size > 127 ? 5 : 4), NULL);
    end = put(end, '\x0a', type, FEATURES_TYPE);
    end = put(end, '\x12', size, features);
  }
  return write_all(STDOUT_FILENO, message, (size_t)(end - message)) == 0 ? 0 : 1;
}
