/* `start`: answers containerd with the address of the node's host and boots the host if none answers.

   The host's name in the file system says that it is alive: a new host gets a socket bound under another name, and only
   after it has said "ok" is that renamed to the address. So a plain connect() tells a live host from a dead or a booting one. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* From fork to the host's "ok": a node that boots, or has too much to do, takes long for it, and ending a host that is almost
   there makes the next one begin anew. containerd itself waits as long as its caller does; kubelet waits 240 s for a sandbox,
   into which another launcher's wait and our own fit. An engine has as long. */
#define READY_TIMEOUT_MS 100000
#define READY_TIMEOUT_VARIABLE "SPINSHIM_READY_TIMEOUT_MS"
#define READY_TIMEOUT_DIGITS 7
#define LOCK_MARGIN_S 10        /* what another launcher may take beyond its host's boot */
#define STDIN_TIMEOUT_MS 5000   /* silence on a stdin that stays open */
#define END_TIMEOUT_MS 2000     /* from SIGKILL, or from a closed ready pipe, to the host's end */
#define OPTIONS_MAX (64 * 1024) /* bytes of runtime options on stdin */
#define READY_LINE_MAX 1024     /* bytes of the host's answer */
#define SOCKET_PATH_MAX 106     /* bytes; containerd's libraries refuse longer ones */
#define BOOTING_SUFFIX ".new"
#define LOCK_SUFFIX ".lock"
#define OPTIONS_FILE "options.pb"
#define LISTEN_FD 3 /* as the host sees them */
#define READY_FD 4
/* A host makes garbage by the pod, and dead objects hold native ones: V8 looks for them often in a small young space, seldom in
   one that it lets grow, and glibc gives each thread a heap that keeps the most it ever held. */
#define SMALL_YOUNG_SPACE "--max-semi-space-size=1" /* MiB, of which the young space is three */
#define ONE_MALLOC_ARENA "MALLOC_ARENA_MAX=1"
#define CHECK_HINT "see the host's log beside its socket"

struct paths {
  struct sockaddr_un socket;
  struct sockaddr_un booting;
  char lock[sizeof((struct sockaddr_un *)0)->sun_path + sizeof LOCK_SUFFIX];
};

/* `<run dir>/<32 hex of SHA-256(address NUL namespace NUL version)>.sock`: another containerd, namespace or version of
   ours is another host. */
static void find_paths(struct paths *paths, const struct call *call) {
  struct sha256 hash;
  unsigned char digest[32];
  sha256_init(&hash);
  sha256_update(&hash, call->address, strlen(call->address) + 1);
  sha256_update(&hash, call->namespace_name, strlen(call->namespace_name) + 1);
  sha256_update(&hash, VERSION, strlen(VERSION));
  sha256_final(&hash, digest);
  char name[33];
  for (int i = 0; i < 16; i++) snprintf(name + 2 * i, 3, "%02x", digest[i]);

  const char *dir = run_dir();
  size_t length = strlen(dir) + strlen("/") + strlen(name) + strlen(".sock" BOOTING_SUFFIX);
  if (length > SOCKET_PATH_MAX)
    fail("run directory \"%s\" is too long: its socket path would have %zu bytes and may have %d; set SPINSHIM_RUN_DIR "
         "to a path %zu bytes shorter",
         dir, length, SOCKET_PATH_MAX, length - SOCKET_PATH_MAX);
  paths->socket.sun_family = paths->booting.sun_family = AF_UNIX;
  snprintf(paths->socket.sun_path, sizeof paths->socket.sun_path, "%s/%s.sock", dir, name);
  snprintf(paths->booting.sun_path, sizeof paths->booting.sun_path, "%s/%s.sock" BOOTING_SUFFIX, dir, name);
  snprintf(paths->lock, sizeof paths->lock, "%s" LOCK_SUFFIX, paths->socket.sun_path);
}

/* Whoever can write here could pose as the host, so the directory must be ours alone. */
static void check_run_dir(void) {
  const char *dir = run_dir();
  struct stat status;
  if (mkdir(dir, 0700) < 0 && errno != EEXIST)
    fail("cannot make run directory \"%s\": %s; make its parent or set SPINSHIM_RUN_DIR", dir, strerror(errno));
  if (lstat(dir, &status) < 0) fail("cannot read run directory \"%s\": %s", dir, strerror(errno));
  if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 022) != 0)
    fail("run directory \"%s\" must be a directory owned by uid %u that nobody else can write; remove it or chmod it to 0700",
         dir, geteuid());
}

static bool host_answers(const struct paths *paths) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("cannot make a unix socket: %s", strerror(errno));
  int error = connect(fd, (const struct sockaddr *)&paths->socket, sizeof paths->socket) < 0 ? errno : 0;
  close(fd);
  /* EAGAIN is a full backlog: somebody listens. */
  if (error == 0 || error == EAGAIN) return true;
  if (error == ENOENT || error == ECONNREFUSED) return false;
  fail("cannot connect to the host at \"%s\": %s; " CHECK_HINT, paths->socket.sun_path, strerror(error));
}

/* Writes a file of mode 0600 into the bundle that appears complete or not at all; 0, or -1 with errno. */
static int write_file(const char *name, const void *data, size_t size) {
  char temporary[64];
  snprintf(temporary, sizeof temporary, ".%s.%d", name, getpid());
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  int result = write_all(fd, data, size);
  if (close(fd) < 0) result = -1;
  if (result == 0) result = rename(temporary, name);
  if (result < 0) {
    int error = errno;
    unlink(temporary);
    errno = error;
  }
  return result;
}

/* Keeps containerd's runtime options, unread, for the host. A file of an earlier start must not speak for this one. */
static void keep_options(void) {
  static char payload[OPTIONS_MAX + 1];
  size_t size = 0;
  while (!isatty(STDIN_FILENO) && size < sizeof payload) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = poll(&input, 1, STDIN_TIMEOUT_MS);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) fail("stdin is still open after %d ms without a byte; close it or give /dev/null", STDIN_TIMEOUT_MS);
    ssize_t got = read(STDIN_FILENO, payload + size, sizeof payload - size);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) fail("cannot read the runtime options from stdin: %s", strerror(errno));
    if (got == 0) break;
    size += (size_t)got;
  }
  if (size > OPTIONS_MAX)
    fail("runtime options on stdin have more than %d bytes; shorten the runtime's options in containerd's configuration",
         OPTIONS_MAX);
  if (size == 0 && unlink(OPTIONS_FILE) < 0 && errno != ENOENT)
    fail("cannot remove an old \"" OPTIONS_FILE "\" from the bundle: %s", strerror(errno));
  if (size > 0 && write_file(OPTIONS_FILE, payload, size) < 0)
    fail("cannot write \"" OPTIONS_FILE "\" into the bundle: %s", strerror(errno));
}

static void on_alarm(int number) { (void)number; }

/* How long a host may take to boot, milliseconds. */
static int ready_timeout(void) {
  const char *given = secure_getenv(READY_TIMEOUT_VARIABLE);
  if (given == NULL || *given == '\0') return READY_TIMEOUT_MS;
  size_t digits = strspn(given, "0123456789");
  if (given[digits] != '\0' || digits > READY_TIMEOUT_DIGITS || atoi(given) == 0)
    fail(READY_TIMEOUT_VARIABLE " is \"%s\"; give milliseconds, 1 or more, of at most %d digits", given, READY_TIMEOUT_DIGITS);
  return atoi(given);
}

/* The lock is the process's: its end releases it, and the file stays because unlinking it would race. */
static void take_lock(const char *path, int ready_timeout_ms) {
  int timeout_s = ready_timeout_ms / 1000 + LOCK_MARGIN_S;
  int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot open lock \"%s\": %s", path, strerror(errno));
  struct sigaction interrupt = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &interrupt, NULL);
  alarm((unsigned)timeout_s);
  if (flock(fd, LOCK_EX) < 0)
    fail("cannot lock \"%s\": %s; another start has held it for up to %d s, see whether a host hangs while booting", path,
         strerror(errno), timeout_s);
  alarm(0);
}

/* The two variables come from containerd's own environment, which is root's unit file: whoever sets them could as well
   replace the files beside this program. */
static void find_program(char path[PATH_MAX], const char *variable, const char *file, int access_mode) {
  const char *given = secure_getenv(variable);
  if (given != NULL && *given != '\0') {
    if (*given != '/' || strlen(given) >= PATH_MAX) fail("%s is \"%s\"; it must be an absolute path", variable, given);
    strcpy(path, given);
  } else {
    char self[PATH_MAX] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) fail("cannot read /proc/self/exe: %s", strerror(errno));
    *strrchr(self, '/') = '\0';
    if (snprintf(path, PATH_MAX, "%s/../lib/spinshim/%s", self, file) >= PATH_MAX)
      fail("the path of \"%s\" beside \"%s\" is too long", file, self);
  }
  if (access(path, access_mode) < 0)
    fail("cannot use \"%s\", a part of the host: %s; install it or set %s", path, strerror(errno), variable);
}

/* Our environment with the host's own variables set and without those meant for this process alone. Never freed: exec
   or our end follows. */
static char **host_environment(const char *socket_path) {
  static const char *const dropped[] = {"GOMAXPROCS=", "MALLOC_ARENA_MAX=", "SPINSHIM_LISTEN_FD=", "SPINSHIM_READY_FD=", "SPINSHIM_SOCKET="};
  size_t count = 0, kept = 0;
  while (environ[count] != NULL) count++;
  char **result = calloc(count + 5, sizeof *result);
  static char listen_fd[32], ready_fd[32], path[PATH_MAX];
  if (result == NULL) fail("out of memory while copying the environment");
  for (size_t i = 0; i < count; i++) {
    bool drop = false;
    for (size_t j = 0; j < sizeof dropped / sizeof *dropped; j++)
      drop |= strncmp(environ[i], dropped[j], strlen(dropped[j])) == 0;
    if (!drop) result[kept++] = environ[i];
  }
  snprintf(listen_fd, sizeof listen_fd, "SPINSHIM_LISTEN_FD=%d", LISTEN_FD);
  snprintf(ready_fd, sizeof ready_fd, "SPINSHIM_READY_FD=%d", READY_FD);
  snprintf(path, sizeof path, "SPINSHIM_SOCKET=%s", socket_path);
  result[kept++] = ONE_MALLOC_ARENA;
  result[kept++] = listen_fd;
  result[kept++] = ready_fd;
  result[kept] = path;
  return result;
}

/* So that the kernel, short of memory, ends the host before containerd. */
static void raise_oom_score(void) {
  char text[16] = "";
  int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  if (read(fd, text, sizeof text - 1) > 0) {
    int score = atoi(text);
    int length = snprintf(text, sizeof text, "%d", score < 1000 ? score + 1 : 1000);
    if (pwrite(fd, text, (size_t)length, 0) < 0) { /* The score stays containerd's: the host is no worse off. */ }
  }
  close(fd);
}

/* In the new process: becomes the host, or says on the ready pipe why it cannot. */
static _Noreturn void become_host(char **argv, char **environment, int listener, int ready) {
  const char *step = "set up descriptors";
  int listen_copy = fcntl(listener, F_DUPFD, READY_FD + 1);
  int ready_copy = fcntl(ready, F_DUPFD, READY_FD + 1);
  int null = open("/dev/null", O_RDWR);
  if (listen_copy >= 0 && ready_copy >= 0 && null >= 0 && dup2(ready_copy, READY_FD) >= 0 && (ready = READY_FD) > 0 &&
      dup2(listen_copy, LISTEN_FD) >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0 &&
      syscall(SYS_close_range, READY_FD + 1, ~0U, 0) == 0) {
    step = "go to /";
    if (chdir("/") == 0) {
      raise_oom_score();
      reset_signals();
      umask(0022);
      step = argv[0];
      execve(argv[0], argv, environment);
    }
  }
  dprintf(ready, "error: cannot run the host (%s): %s\n", step, strerror(errno));
  _exit(127);
}

struct host {
  pid_t pid;
  pid_t group;
};

/* Starts the host in a session of its own, as no leader of it, so that it can never get a terminal. As the subreaper we
   become its parent when the leader ends; never reaped by us, its pid and group cannot become another process's. */
static struct host spawn_host(char **argv, char **environment, int listener, int ready) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  pid_t *pid = mmap(NULL, sizeof *pid, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t leader = pid == MAP_FAILED ? -1 : fork();
  if (leader == 0) {
    setsid();
    pid_t host = fork();
    if (host == 0) become_host(argv, environment, listener, ready);
    *pid = host;
    _exit(0);
  }
  while (leader > 0 && waitpid(leader, NULL, 0) < 0 && errno == EINTR) continue;
  if (leader < 0 || *pid <= 0) fail("cannot start the host: fork failed; the node may be out of processes or memory");
  return (struct host){*pid, leader};
}

/* True once the host has ended, with the way it did. */
static bool host_ended(const struct host *host, siginfo_t *end, int timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  for (;;) {
    end->si_pid = 0;
    if (waitid(P_PID, (id_t)host->pid, end, WEXITED | WNOHANG | WNOWAIT) == 0 && end->si_pid == host->pid) return true;
    if (now_ms() >= deadline) return false;
    nap_ms(2);
  }
}

static void describe_end(char *reason, size_t size, const siginfo_t *end) {
  if (end->si_code == CLD_EXITED)
    snprintf(reason, size, "it ended with exit code %d before it was ready", end->si_status);
  else
    snprintf(reason, size, "it was killed by signal %d before it was ready", end->si_status);
}

/* Waits for the host's one line; true for "ok", else `reason` says why not. */
static bool host_is_ready(const struct host *host, int ready, int timeout_ms, char *reason, size_t size) {
  char line[READY_LINE_MAX + 1];
  size_t length = 0;
  siginfo_t end_info;
  int64_t deadline = now_ms() + timeout_ms;
  while (length < READY_LINE_MAX && memchr(line, '\n', length) == NULL) {
    int64_t left = deadline - now_ms();
    if (left <= 0) {
      snprintf(reason, size, "it was not ready within %d ms", timeout_ms);
      return false;
    }
    /* A child of the host may hold the pipe open after it, so its end is looked for as well. */
    struct pollfd input = {.fd = ready, .events = POLLIN};
    if (poll(&input, 1, left < 100 ? (int)left : 100) <= 0) {
      if (!host_ended(host, &end_info, 0)) continue;
      describe_end(reason, size, &end_info);
      return false;
    }
    ssize_t got = read(ready, line + length, READY_LINE_MAX - length);
    if (got < 0) continue;
    if (got > 0) {
      length += (size_t)got;
      continue;
    }
    if (length > 0) break;
    if (host_ended(host, &end_info, END_TIMEOUT_MS))
      describe_end(reason, size, &end_info);
    else
      snprintf(reason, size, "it closed its ready pipe without an answer");
    return false;
  }
  char *end = memchr(line, '\n', length);
  line[end != NULL ? (size_t)(end - line) : length] = '\0';
  if (end != NULL && strcmp(line, "ok") == 0) return true;
  if (strncmp(line, "error: ", 7) == 0)
    snprintf(reason, size, "%s", line + 7);
  else
    snprintf(reason, size, "it answered \"%s\" where \"ok\" was due", line);
  return false;
}

static void boot_host(const struct call *call, const struct paths *paths) {
  int timeout_ms = ready_timeout();
  take_lock(paths->lock, timeout_ms);
  if (host_answers(paths)) return;

  char node[PATH_MAX], program[PATH_MAX], ttrpc[PATH_MAX];
  find_program(node, "SPINSHIM_NODE", "node", X_OK);
  find_program(program, "SPINSHIM_HOST", "host.mjs", R_OK);
  const char *given = getenv("TTRPC_ADDRESS");
  int length = snprintf(ttrpc, sizeof ttrpc, "%s%s", given != NULL && *given != '\0' ? given : call->address,
                        given != NULL && *given != '\0' ? "" : ".ttrpc");
  if (length >= (int)sizeof ttrpc) fail("containerd's ttrpc address has %d bytes, which no socket path can have", length);
  char *argv[] = {node, SMALL_YOUNG_SPACE, program, "-address", (char *)call->address, "-namespace",
                  (char *)call->namespace_name, "-ttrpc-address", ttrpc, "-publish-binary", (char *)call->publish_binary,
                  call->debug ? "-debug" : NULL, NULL};

  const char *booting = paths->booting.sun_path;
  if (unlink(booting) < 0 && errno != ENOENT) fail("cannot remove \"%s\": %s", booting, strerror(errno));
  int ready[2];
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  umask(0177);
  if (listener < 0 || bind(listener, (const struct sockaddr *)&paths->booting, sizeof paths->booting) < 0 ||
      listen(listener, SOMAXCONN) < 0 || pipe2(ready, O_CLOEXEC) < 0)
    fail("cannot listen at \"%s\": %s", booting, strerror(errno));
  umask(0022);

  struct host host = spawn_host(argv, host_environment(paths->socket.sun_path), listener, ready[1]);
  close(listener);
  close(ready[1]);
  char reason[READY_LINE_MAX + 64];
  bool alive = host_is_ready(&host, ready[0], timeout_ms, reason, sizeof reason);
  if (alive && rename(booting, paths->socket.sun_path) < 0) {
    snprintf(reason, sizeof reason, "its socket cannot be renamed to \"%s\": %s", paths->socket.sun_path, strerror(errno));
    alive = false;
  }
  if (alive) return;
  siginfo_t end;
  kill(-host.group, SIGKILL);
  host_ended(&host, &end, END_TIMEOUT_MS);
  unlink(booting);
  unlink(paths->socket.sun_path);
  fail("the host did not start: %s; " CHECK_HINT " (host: \"%s\" \"%s\")", reason, node, program);
}

int start_verb(const struct call *call) {
  if (*call->namespace_name == '\0') fail("no containerd namespace given; pass -namespace");
  if (*call->id == '\0') fail("no container id given; pass -id");
  if (*call->address == '\0') fail("no containerd address given; pass -address");
  reset_signals();
  umask(0022);
  struct paths paths = {0};
  find_paths(&paths, call);
  check_run_dir();
  keep_options();
  if (!host_answers(&paths)) boot_host(call, &paths);

  char address[sizeof "unix://\n" + sizeof paths.socket.sun_path];
  int length = snprintf(address, sizeof address, "unix://%s\n", paths.socket.sun_path);
  if (write_file("address", address, (size_t)length - 1) < 0)
    fail("cannot write \"address\" into the bundle (the working directory): %s", strerror(errno));
  if (write_all(STDOUT_FILENO, address, (size_t)length) < 0) fail("cannot write the address to stdout: %s", strerror(errno));
  return 0;
}
