/* `delete`: ends what is left of a container whose host no longer answers for it.

   The host keeps three lists in the bundle and removes them when the task is deleted in the ordinary way; then there is
   nothing to do here. containerd calls this at the end of every task, two at once after a crash, and with a bundle half
   gone, so every step passes over what is missing already.
     pids     `<pid> <start time>` a line: start time in clock ticks, field 22 of /proc/<pid>/stat
     mounts   an absolute mount point a line, in the order they were mounted
     cgroups  an absolute cgroup directory a line, parents first
   A Linux container, which another shim runs for us, has two more files of one line each:
     runc-shim     that shim's absolute path; its own `delete` is run as the last step, and answers in our place
     runc-address  `unix://` and the path of its socket */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* containerd waits 5 s for this verb as a whole. */
#define KILL_TIMEOUT_MS 2000   /* from SIGKILL to the end of all processes */
#define CGROUP_TIMEOUT_MS 1000 /* while a cgroup is still busy with its last process's end */
#define LIST_MAX (64 * 1024)   /* bytes of one list; the rest is not read */
#define LINE_COUNT_MAX 4096    /* lines of one list; the rest is not read */
#define KILL_BATCH 128         /* processes awaited at once: one descriptor each */
#define ROOTFS_LAYERS_MAX 16   /* mounts stacked on the rootfs */
#define CGROUP_ROOT "/sys/fs/cgroup"
#define EXIT_STATUS_KILLED 137

struct list {
  char text[LIST_MAX + 1];
  char *lines[LINE_COUNT_MAX];
  size_t count;
};

static const char *const LIST_NAMES[] = {"pids", "mounts", "cgroups", "runc-shim", "runc-address"};
enum { PIDS, MOUNTS, CGROUPS, LINUX_SHIM, LINUX_ADDRESS, LIST_COUNT };

/* Reads whole lines only; false if there is no such file. */
static bool read_list(int bundle, const char *name, struct list *list) {
  list->count = 0;
  int fd = openat(bundle, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) report("cannot open \"%s\" in the bundle: %s", name, strerror(errno));
  if (fd < 0) return errno != ENOENT;
  struct stat status;
  size_t size = 0;
  ssize_t got = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? 1 : 0;
  while (got > 0 && size < LIST_MAX) {
    got = read(fd, list->text + size, LIST_MAX - size);
    if (got > 0) size += (size_t)got;
  }
  close(fd);
  char *line = list->text, *end;
  while (list->count < LINE_COUNT_MAX && (end = memchr(line, '\n', size - (size_t)(line - list->text))) != NULL) {
    *end = '\0';
    if (strlen(line) == (size_t)(end - line) && end > line) list->lines[list->count++] = line;
    line = end + 1;
  }
  return true;
}

/* 0 if there is no such process. The command name in field 2 may hold blanks and parentheses, hence the last one. */
static unsigned long long start_time(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = '\0';
  char *field = strrchr(text, ')');
  for (int number = 2; field != NULL && number < 22; number++) field = strchr(field + 1, ' ');
  return field == NULL ? 0 : strtoull(field + 1, NULL, 10);
}

static bool parse_process(const char *line, pid_t *pid, unsigned long long *started) {
  char *end;
  if (*line < '0' || *line > '9') return false;
  errno = 0;
  unsigned long number = strtoul(line, &end, 10);
  if (errno != 0 || *end != ' ' || number <= 1 || number > INT_MAX || end[1] < '0' || end[1] > '9') return false;
  *started = strtoull(end + 1, &end, 10);
  *pid = (pid_t)number;
  return errno == 0 && *end == '\0' && *started != 0;
}

/* Kills the process if it is the one listed and gives a descriptor that becomes readable at its end, else -1. The
   descriptor is opened before the check: a pid that is reused in between fails the check. */
static int kill_process(pid_t pid, unsigned long long started) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) {
    if (errno != ESRCH) report("cannot open process %d: pidfd_open: %s; it is left running", pid, strerror(errno));
    return -1;
  }
  if (start_time(pid) == started) {
    if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0) return fd;
    if (errno != ESRCH) report("cannot kill process %d: %s; it is left running", pid, strerror(errno));
  }
  close(fd);
  return -1;
}

/* Kills and awaits what is listed; returns the pid of the first line, which is the container's own process. */
static pid_t kill_processes(const struct list *pids) {
  struct pollfd waiting[KILL_BATCH];
  pid_t first = 0;
  int64_t deadline = now_ms() + KILL_TIMEOUT_MS;
  for (size_t next = 0; next < pids->count;) {
    nfds_t count = 0;
    for (; next < pids->count && count < KILL_BATCH; next++) {
      pid_t pid;
      unsigned long long started;
      if (!parse_process(pids->lines[next], &pid, &started)) continue;
      if (first == 0) first = pid;
      int fd = kill_process(pid, started);
      if (fd >= 0) waiting[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    for (nfds_t left = count; left > 0;) {
      int64_t rest = deadline - now_ms();
      int ready = poll(waiting, count, rest > 0 ? (int)rest : 0);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) {
        report("%lu killed processes have not ended after %d ms; containerd's clean-up goes on without them",
               (unsigned long)left, KILL_TIMEOUT_MS);
        break;
      }
      for (nfds_t i = 0; i < count; i++)
        if (waiting[i].fd >= 0 && waiting[i].revents != 0) {
          close(waiting[i].fd);
          waiting[i].fd = -1;
          left--;
        }
    }
    for (nfds_t i = 0; i < count; i++)
      if (waiting[i].fd >= 0) close(waiting[i].fd);
  }
  return first;
}

/* The part of `path` below `base`, or NULL if it is not below it or could leave it by "..". */
static const char *part_below(const char *path, const char *base) {
  size_t length = strlen(base);
  if (length < 2 || strlen(path) >= PATH_MAX || strncmp(path, base, length) != 0 || path[length] != '/') return NULL;
  for (const char *name = path + length; name != NULL; name = strchr(name + 1, '/')) {
    size_t size = strcspn(name + 1, "/");
    if (size == 0 || (size == 1 && name[1] == '.') || (size == 2 && name[1] == '.' && name[2] == '.')) return NULL;
  }
  return path + length + 1;
}

/* Unmounts `base`/`part`; 0, or an errno. The guest may have written below a rootfs, so no link on the way is followed. */
static int unmount_below(const char *base, const char *part) {
  char parent[PATH_MAX];
  strcpy(parent, part);
  char *slash = strrchr(parent, '/');
  const char *leaf = slash == NULL ? part : part + (slash - parent) + 1;
  strcpy(slash == NULL ? parent : slash, slash == NULL ? "." : "");
  int error = 0;
  int base_fd = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (base_fd < 0) return errno;
  struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
  int parent_fd = (int)syscall(SYS_openat2, base_fd, parent, &how, sizeof how);
  if (parent_fd < 0 || fchdir(parent_fd) < 0 || umount2(leaf, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) error = errno;
  close(base_fd);
  if (parent_fd >= 0) close(parent_fd);
  return error;
}

static void unmount_all(const struct list *mounts, const char *const bases[], size_t base_count) {
  for (size_t i = mounts->count; i-- > 0;) {
    const char *path = mounts->lines[i], *part = NULL, *base = NULL;
    for (size_t j = 0; part == NULL && j < base_count; j++) part = part_below(path, base = bases[j]);
    if (part == NULL) {
      report("mount \"%.256s\" is neither in the bundle nor in the run directory; it is left alone", path);
      continue;
    }
    int error = unmount_below(base, part);
    /* EINVAL: no mount point, so another delete was faster. */
    if (error != 0 && error != EINVAL && error != ENOENT) report("cannot unmount \"%.1024s\": %s", path, strerror(error));
  }
  for (int layer = 0; layer < ROOTFS_LAYERS_MAX; layer++)
    if (unmount_below(bases[0], "rootfs") != 0) break;
}

static void remove_cgroups(const struct list *cgroups) {
  int64_t deadline = now_ms() + CGROUP_TIMEOUT_MS;
  for (size_t i = cgroups->count; i-- > 0;) {
    const char *path = cgroups->lines[i];
    if (part_below(path, CGROUP_ROOT) == NULL) {
      report("cgroup \"%.256s\" is not below " CGROUP_ROOT "; it is left alone", path);
      continue;
    }
    int error;
    while ((error = rmdir(path) < 0 ? errno : 0) == EBUSY && now_ms() < deadline) nap_ms(5);
    if (error != 0 && error != ENOENT) report("cannot remove cgroup \"%.1024s\": %s", path, strerror(error));
  }
}

static size_t put_varint(unsigned char *out, uint64_t value) {
  size_t size = 0;
  for (; value >= 0x80; value >>= 7) out[size++] = (unsigned char)(value | 0x80);
  out[size++] = (unsigned char)value;
  return size;
}

static size_t put_field(unsigned char *out, unsigned number, uint64_t value) {
  out[0] = (unsigned char)(number << 3);
  return 1 + put_varint(out + 1, value);
}

/* containerd.task.v2.DeleteResponse {pid 1, exit_status 2, exited_at 3 {seconds 1, nanos 2}}. */
static void print_response(pid_t pid) {
  unsigned char message[64], timestamp[32];
  size_t size = 0, timestamp_size = 0;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (pid > 0) size += put_field(message, 1, (uint64_t)pid);
  size += put_field(message + size, 2, EXIT_STATUS_KILLED);
  timestamp_size += put_field(timestamp, 1, (uint64_t)now.tv_sec);
  timestamp_size += put_field(timestamp + timestamp_size, 2, (uint64_t)now.tv_nsec);
  message[size++] = 3 << 3 | 2;
  message[size++] = (unsigned char)timestamp_size;
  memcpy(message + size, timestamp, timestamp_size);
  if (write_all(STDOUT_FILENO, message, size + timestamp_size) < 0)
    report("cannot write the answer to stdout: %s", strerror(errno));
}

/* Removes the socket that the Linux shim left when it was killed. One that answers is another one's. */
static void remove_socket(const struct list *addresses) {
  const char prefix[] = "unix:///";
  struct sockaddr_un socket_address = {.sun_family = AF_UNIX};
  if (addresses->count == 0 || strncmp(addresses->lines[0], prefix, strlen(prefix)) != 0) return;
  const char *path = addresses->lines[0] + strlen(prefix) - 1;
  if (strlen(path) >= sizeof socket_address.sun_path) return;
  strcpy(socket_address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  bool refused = connect(fd, (const struct sockaddr *)&socket_address, sizeof socket_address) < 0 && errno == ECONNREFUSED;
  close(fd);
  if (refused && unlink(path) < 0 && errno != ENOENT) report("cannot remove socket \"%s\": %s", path, strerror(errno));
}

/* Becomes the Linux shim's `delete`, called as we were. Returns if that cannot be. */
static void become_linux_shim(const struct list *shim, const struct call *call, const char *bundle, int directory) {
  if (shim->count == 0) return;
  const char *program = shim->lines[0];
  const char *argv[] = {program,        "-namespace",         call->namespace_name, "-address",
                        call->address,  "-publish-binary",    call->publish_binary, "-id",
                        call->id,       "-bundle",            bundle,               call->debug ? "-debug" : "delete",
                        call->debug ? "delete" : NULL, NULL};
  signal(SIGPIPE, SIG_DFL);
  errno = EINVAL;
  if (*program == '/' && fchdir(directory) == 0) execve(program, (char *const *)argv, environ);
  report("cannot run \"%.1024s\" delete: %s; what it ran may be left", program, strerror(errno));
}

int delete_verb(const struct call *call) {
  static struct list lists[LIST_COUNT];
  const char *bundle = *call->bundle != '\0' ? call->bundle : ".";
  reset_signals();
  signal(SIGPIPE, SIG_IGN);
  int directory = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    if (errno != ENOENT) report("cannot open bundle \"%s\": %s; nothing is cleaned up", bundle, strerror(errno));
    return 0;
  }
  bool any = false;
  for (int i = 0; i < LIST_COUNT; i++) any |= read_list(directory, LIST_NAMES[i], &lists[i]);
  if (!any) return 0;

  pid_t pid = kill_processes(&lists[PIDS]);
  char real[PATH_MAX];
  if (realpath(bundle, real) != NULL) {
    const char *const bases[] = {real, run_dir(), bundle};
    unmount_all(&lists[MOUNTS], bases, *bundle == '/' ? 3 : 2);
  }
  remove_cgroups(&lists[CGROUPS]);
  for (int i = 0; i < LIST_COUNT; i++) unlinkat(directory, LIST_NAMES[i], 0);
  remove_socket(&lists[LINUX_ADDRESS]);
  become_linux_shim(&lists[LINUX_SHIM], call, bundle, directory);
  print_response(pid);
  return 0;
}
