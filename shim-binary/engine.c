/* `engine [-label LABEL] [-netns PATH] PROGRAM [ARGUMENT]...`: becomes the program, which then has no io_uring and can gain
   no privileges. With a label the kernel gives it that of SELinux, which a process with threads could not take any more;
   with a path it is in that network namespace, which the label may not let it enter.

   A ring of io_uring goes by every seccomp filter, opens sockets of any kind among other things, and libuv makes one for each
   event loop before any code of ours runs. It does without where the kernel has none. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void enter_network(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("cannot open the network namespace \"%s\": %s", path, strerror(errno));
  if (setns(fd, CLONE_NEWNET) < 0) fail("cannot enter the network namespace \"%s\": %s", path, strerror(errno));
}

/* SELinux gives it to what is executed next. */
static void take_label(const char *label) {
  int fd = open("/proc/self/attr/exec", O_WRONLY | O_CLOEXEC);
  if (fd >= 0 && write_all(fd, label, strlen(label)) == 0) return;
  fail("cannot take the SELinux label \"%s\": %s; %s", label, strerror(errno),
       errno == EINVAL ? "this node's policy has no such label" : "this node's policy does not allow it");
}

int engine_verb(int argc, char **argv) {
  const char *label = NULL, *network = NULL;
  for (; argc > 0 && **argv == '-'; argv++) {
    char **first = argv;
    const char *value;
    if ((value = string_flag(&argv, "label")) != NULL)
      label = value;
    else if ((value = string_flag(&argv, "netns")) != NULL)
      network = value;
    else
      fail("unknown flag \"%s\"; the flags are -label and -netns", *argv);
    argc -= (int)(argv - first) + 1;
  }
  if (argc < 1) fail("no program given; give it as engine [-label LABEL] [-netns PATH] PROGRAM [ARGUMENT]...");
  if (network != NULL) enter_network(network);
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail("cannot set no_new_privs: %s", strerror(errno));
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
    fail("cannot install a seccomp filter: %s; the kernel needs CONFIG_SECCOMP_FILTER", strerror(errno));
  if (label != NULL) take_label(label);
  execv(argv[0], argv);
  if (label != NULL && errno == EACCES)
    fail("cannot run \"%s\" with the SELinux label \"%s\": %s; this node's policy has to let that label be entered from it",
         argv[0], label, strerror(errno));
  fail("cannot run \"%s\": %s", argv[0], strerror(errno));
}
