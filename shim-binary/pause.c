/* `pause`: the process that holds a pod's namespaces.

     pause [-hostname H] [-netns PATH | -net new|host|path:PATH] [-ipc new|host] [-uts new|host] [-pid new|host]
           [-sysctl K=V]... [-user UID] [-group GID]

   What is not said is new. Two processes: the parent enters and makes the namespaces, prints the child's pid as one line,
   closes its stdout and then passes SIGTERM and SIGINT on and ends as the child does; the child is the sandbox (pid 1 where
   the pid namespace is new): unprivileged, in an empty file system, reaping orphans until SIGTERM, SIGINT or the parent's
   end. Whoever joins the pod's pid namespace sees the child's /proc/1/root and /proc/1/exe, hence the empty file system and
   the read-only program. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOSTNAME_MAX 64 /* bytes, the kernel's limit */
#define SYSCTLS_MAX 64

/* linux/mount.h has the constants but no functions, and cannot be included together with every C library's sys/mount.h. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define MNT_DETACH 2

struct options {
  const char *hostname;
  const char *netns;
  int unshared; /* CLONE_NEW* */
  bool net_new;
  const char *sysctls[SYSCTLS_MAX];
  size_t sysctl_count;
  uid_t user;
  gid_t group;
};

static bool parse_new(const char *name, const char *value) {
  if (strcmp(value, "new") == 0) return true;
  if (strcmp(value, "host") != 0) fail("-%s is \"%s\"; it may be new or host", name, value);
  return false;
}

static uint32_t parse_id(const char *name, const char *value) {
  char *end;
  errno = 0;
  unsigned long long id = strtoull(value, &end, 10);
  /* The largest 32-bit number means "no change" to the kernel. */
  if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || id >= UINT32_MAX)
    fail("-%s is \"%s\"; it must be a number from 0 to %u", name, value, UINT32_MAX - 1);
  return (uint32_t)id;
}

static struct options parse_options(char **next) {
  struct options options = {.unshared = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID, .net_new = true};
  const struct {
    const char *name;
    int flag;
  } spaces[] = {{"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}, {"pid", CLONE_NEWPID}};
  const char *value, *net = NULL;
  for (; *next != NULL; next++) {
    bool known = false;
    for (size_t i = 0; !known && i < sizeof spaces / sizeof *spaces; i++)
      if ((known = (value = string_flag(&next, spaces[i].name)) != NULL) && !parse_new(spaces[i].name, value))
        options.unshared &= ~spaces[i].flag;
    if (known) continue;
    if ((value = string_flag(&next, "hostname")) != NULL) {
      options.hostname = value;
    } else if ((value = string_flag(&next, "netns")) != NULL) {
      options.netns = value;
    } else if ((value = string_flag(&next, "net")) != NULL) {
      net = value;
    } else if ((value = string_flag(&next, "user")) != NULL) {
      options.user = parse_id("user", value);
    } else if ((value = string_flag(&next, "group")) != NULL) {
      options.group = parse_id("group", value);
    } else if ((value = string_flag(&next, "sysctl")) != NULL) {
      if (options.sysctl_count == SYSCTLS_MAX) fail("-sysctl may be given at most %d times", SYSCTLS_MAX);
      options.sysctls[options.sysctl_count++] = value;
    } else {
      fail("unknown option \"%s\"", *next);
    }
  }
  if (net != NULL && options.netns != NULL) fail("-net and -netns are both given; give one of them");
  if (net != NULL && strncmp(net, "path:", 5) == 0)
    options.netns = net + 5;
  else if (net != NULL)
    options.net_new = parse_new("net", net);
  if (options.netns != NULL && *options.netns != '/')
    fail("the network namespace is \"%s\"; it must be an absolute path", options.netns);
  if (options.netns == NULL && options.net_new) options.unshared |= CLONE_NEWNET;
  if (options.hostname != NULL && !(options.unshared & CLONE_NEWUTS))
    fail("-hostname is \"%s\" but -uts is host: it would rename the node; leave one of them out", options.hostname);
  if (options.hostname != NULL && strlen(options.hostname) > HOSTNAME_MAX)
    fail("-hostname has %zu bytes and may have %d", strlen(options.hostname), HOSTNAME_MAX);
  return options;
}

/* Runs this program again from a read-only view of its own file, which /proc/<pid>/exe then leads to. A guest that gets
   hold of it cannot change what the node runs, even as root with every capability in its container. */
static void run_from_read_only_program(char **argv) {
  struct statvfs status;
  if (statvfs("/proc/self/exe", &status) == 0 && (status.f_flag & ST_RDONLY) != 0) return;
  int fd = (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
  if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &read_only, sizeof read_only) == 0)
    syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
  fail("cannot run from a read-only view of this program: %s; Linux 5.12 or later and root are needed", strerror(errno));
}

/* Changes with the namespace; 0 if it cannot be told. */
static ino_t namespace_identity(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 ? status.st_ino : 0;
}

static void write_to(const char *path, const char *value, const char *purpose) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, value, strlen(value)) != (ssize_t)strlen(value))
    fail("cannot %s: writing \"%s\" to \"%s\": %s", purpose, value, path, strerror(errno));
  close(fd);
}

static void bring_up_loopback(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  bool done = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags |= IFF_UP;
  if (!done || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
    fail("cannot bring up \"lo\" in the new network namespace: %s", strerror(errno));
  close(fd);
}

static bool begins_with(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

/* Only values that belong to a namespace of the pod's own; any other would change the node. */
static void apply_sysctl(const char *assignment, bool own_net, bool own_ipc) {
  char path[512] = "/proc/sys/";
  size_t key_length = strcspn(assignment, "=");
  bool net = begins_with(assignment, "net.");
  bool ipc = begins_with(assignment, "kernel.shm") || begins_with(assignment, "kernel.msg") ||
             begins_with(assignment, "kernel.sem=") || begins_with(assignment, "fs.mqueue.");
  if (assignment[key_length] != '=' || (!net && !ipc) || memchr(assignment, '/', key_length) != NULL ||
      key_length + strlen(path) >= sizeof path)
    fail("sysctl \"%s\" is refused; net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* may be set, as KEY=VALUE",
         assignment);
  if ((net && !own_net) || (ipc && !own_ipc))
    fail("sysctl \"%s\" is refused: the pod shares the node's %s namespace; remove it or give the pod its own", assignment,
         net ? "network" : "ipc");
  char *out = path + strlen(path);
  for (size_t i = 0; i < key_length; i++) *out++ = assignment[i] == '.' ? '/' : assignment[i];
  *out = '\0';
  write_to(path, assignment + key_length + 1, "set a sysctl");
}

static void enter_namespaces(const struct options *options) {
  ino_t node_net = namespace_identity("/proc/self/ns/net"), node_ipc = namespace_identity("/proc/self/ns/ipc");
  if (options->netns != NULL) {
    int fd = open(options->netns, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
      fail("cannot enter network namespace \"%s\": %s; it may be gone or no network namespace", options->netns,
           strerror(errno));
    close(fd);
  }
  if (unshare(options->unshared) < 0) fail("cannot make new namespaces: unshare: %s; this needs root", strerror(errno));
  if (options->unshared & CLONE_NEWNET) bring_up_loopback();
  if (options->hostname != NULL && sethostname(options->hostname, strlen(options->hostname)) < 0)
    fail("cannot set hostname \"%s\": %s", options->hostname, strerror(errno));
  bool own_net = namespace_identity("/proc/self/ns/net") != node_net;
  bool own_ipc = namespace_identity("/proc/self/ns/ipc") != node_ipc;
  for (size_t i = 0; i < options->sysctl_count; i++) apply_sysctl(options->sysctls[i], own_net, own_ipc);
}

/* Leaves the node's files for an empty read-only file system. /proc serves as the mount point because it exists everywhere;
   pivot_root onto itself stacks the old root on the new one, from where it is let go. */
static void enter_empty_root(void) {
  if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
      mount("tmpfs", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=0555") < 0 || chdir("/proc") < 0 ||
      syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
    fail("cannot put the sandbox into an empty file system: %s", strerror(errno));
}

static void drop_privileges(const struct options *options) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
    if (prctl(PR_CAPBSET_DROP, capability) < 0)
      fail("cannot drop capability %d from the sandbox's bounding set: %s", capability, strerror(errno));
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (setgroups(0, NULL) < 0 || setresgid(options->group, options->group, options->group) < 0 ||
      setresuid(options->user, options->user, options->user) < 0)
    fail("cannot become user %u, group %u: %s", options->user, options->group, strerror(errno));
  if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
      prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
    fail("cannot drop the sandbox's privileges: %s", strerror(errno));
}

static void silence(int null) {
  if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0) fail("cannot open /dev/null: %s", strerror(errno));
}

static _Noreturn void be_sandbox(const struct options *options, const sigset_t *awaited, int null, int parent) {
  enter_empty_root();
  drop_privileges(options);
  /* After the change of user, which would clear it. If the parent is gone already, send() fails. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) fail("cannot tie the sandbox to its parent: %s", strerror(errno));
  silence(null);
  if (send(parent, "", 1, MSG_NOSIGNAL) != 1) _exit(1);
  close(parent);
  close(null);
  for (;;) {
    int number = sigwaitinfo(awaited, NULL);
    if (number == SIGTERM || number == SIGINT) _exit(0);
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
  }
}

static int exit_status(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

/* Until the child ends; gives the exit status that tells how. */
static int mind(pid_t child, const sigset_t *awaited) {
  for (;;) {
    int status, number = sigwaitinfo(awaited, NULL);
    if (number == SIGTERM || number == SIGINT) kill(child, number);
    if (number == SIGCHLD && waitpid(child, &status, WNOHANG) == child) return exit_status(status);
  }
}

int pause_verb(int argc, char **argv) {
  if (argc < 0) return 1;
  /* argv begins after the verb; the whole command line is two back. */
  run_from_read_only_program(argv - 2);
  struct options options = parse_options(argv);
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) < 0) fail("cannot close descriptors: %s", strerror(errno));
  reset_signals();
  umask(0022);
  prctl(PR_SET_NAME, "spin-pause");
  int null = open("/dev/null", O_RDWR | O_CLOEXEC), pair[2];
  if (null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || chdir("/") < 0)
    fail("cannot open what the sandbox needs: %s", strerror(errno));
  enter_namespaces(&options);

  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGTERM);
  sigaddset(&awaited, SIGINT);
  sigaddset(&awaited, SIGCHLD);
  sigprocmask(SIG_BLOCK, &awaited, NULL);
  pid_t child = fork();
  if (child < 0) fail("cannot start the sandbox: fork: %s; the pod's pids limit or the node's may be reached", strerror(errno));
  if (child == 0) {
    close(pair[0]);
    be_sandbox(&options, &awaited, null, pair[1]);
  }
  close(pair[1]);
  char ready;
  int status;
  if (recv(pair[0], &ready, 1, 0) != 1) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    /* A child that gave up has said why. */
    if (WIFSIGNALED(status)) fail("the sandbox was killed by signal %d before it was ready", WTERMSIG(status));
    return 1;
  }
  close(pair[0]);
  if (dprintf(STDOUT_FILENO, "%d\n", child) < 0) {
    kill(child, SIGKILL);
    fail("cannot write the sandbox's pid to stdout: %s", strerror(errno));
  }
  silence(null);
  close(null);
  return mind(child, &awaited);
}
