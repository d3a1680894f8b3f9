/* `thread-calls.so`: makes system calls on every thread of the process.

   Capabilities, the bounding set, no_new_privs and Landlock domains belong to threads, and a Node process has a dozen of
   them before its first line of JavaScript runs. The C library passes setuid(2) and its kin on to every thread by a
   signal; this does the same for the calls it has nothing for. The engine loads it through node:ffi. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 10000000L /* pause between two looks at whether the threads still live */
#define SLICES_MAX 500     /* 5 s */

/* An argument that stands for the descriptor that the last openat of the list has given this thread. */
#define OPENED LONG_MIN

/* One system call; what it does not take is 0. */
struct call {
  long number;
  long arguments[5];
};

/* One thread, and what came of it: WAITING, RUNNING, 0, or the errno of the first call that failed. */
struct thread {
  int id;
  _Atomic int outcome;
};

enum { WAITING = -1, RUNNING = -2 };

static struct thread *threads;
static int threads_count;
static const struct call *calls;
static int calls_count;
/* Threads that have not answered; what the caller waits on. */
static _Atomic int unanswered;

static int run(const struct call *list, int count)
{
  long opened = -1;
  for (int i = 0; i < count; i++) {
    long a[5];
    for (int j = 0; j < 5; j++)
      a[j] = list[i].arguments[j] == OPENED ? opened : list[i].arguments[j];
    long result = syscall(list[i].number, a[0], a[1], a[2], a[3], a[4]);
    if (result < 0)
      return errno;
    if (list[i].number == SYS_openat)
      opened = result;
  }
  return 0;
}

static void answer(struct thread *thread, int outcome)
{
  atomic_store(&thread->outcome, outcome);
  if (atomic_fetch_sub(&unanswered, 1) == 1)
    syscall(SYS_futex, &unanswered, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void on_signal(int number)
{
  (void)number;
  int saved = errno;
  int id = (int)syscall(SYS_gettid);
  for (int i = 0; i < threads_count; i++) {
    int expected = WAITING;
    if (threads[i].id == id && atomic_compare_exchange_strong(&threads[i].outcome, &expected, RUNNING))
      answer(&threads[i], run(calls, calls_count));
  }
  errno = saved;
}

/* Gives up on those that do not answer: with `error`, or with ESRCH where they are gone. */
static void settle(int error)
{
  for (int i = 0; i < threads_count; i++) {
    int expected = WAITING;
    int gone = syscall(SYS_tgkill, getpid(), threads[i].id, 0) < 0;
    if ((gone || error != 0) && atomic_compare_exchange_strong(&threads[i].outcome, &expected, RUNNING))
      answer(&threads[i], gone ? ESRCH : error);
  }
}

/* Runs the calls of `list` on every thread of `list_of_threads`, all at once and in order, each up to the first that fails. An
   outcome of ESRCH is a thread that was gone, ETIMEDOUT one that takes no signal. Gives 0, or the errno with which the whole
   failed. For one caller at a time, which is not itself among the threads. */
int thread_calls(struct thread *list_of_threads, int thread_count, const struct call *list, int count)
{
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  /* Stays: a signal that is late must not meet the default action, which ends the process. */
  if (sigaction(SIGRTMAX, &action, NULL) < 0)
    return errno;
  calls = list;
  calls_count = count;
  threads = list_of_threads;
  threads_count = thread_count;
  atomic_store(&unanswered, thread_count);
  for (int i = 0; i < thread_count; i++)
    atomic_store(&threads[i].outcome, WAITING);
  for (int i = 0; i < thread_count; i++)
    if (syscall(SYS_tgkill, getpid(), threads[i].id, SIGRTMAX) < 0)
      settle(0);
  for (int slice = 1;; slice++) {
    int left = atomic_load(&unanswered);
    if (left == 0)
      break;
    const struct timespec pause = {0, SLICE_NS};
    syscall(SYS_futex, &unanswered, FUTEX_WAIT_PRIVATE, left, &pause, NULL, 0);
    settle(slice >= SLICES_MAX ? ETIMEDOUT : 0);
  }
  threads_count = 0;
  return 0;
}

/* The same on the calling thread. */
int own_calls(const struct call *list, int count)
{
  return run(list, count);
}
