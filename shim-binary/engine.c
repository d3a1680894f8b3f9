/* `engine PROGRAM [ARGUMENT]...`: becomes the program, which then has no io_uring and can gain no privileges.

   A ring of io_uring goes by every seccomp filter, opens sockets of any kind among other things, and libuv makes one for each
   event loop before any code of ours runs. It does without where the kernel has none. */
#include "launcher.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int engine_verb(int argc, char **argv) {
  if (argc < 1) fail("no program given; give it as engine PROGRAM [ARGUMENT]...");
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
  execv(argv[0], argv);
  fail("cannot run \"%s\": %s", argv[0], strerror(errno));
}
