/* Part of `thread-calls.so`: waits for eventfds. The kernel tells of some things by these alone (want of memory in a cgroup
   of version 1), and Node waits for sockets, pipes and files only; so a thread waits for all of them and writes the number
   of each that was signalled into a socket. The host loads it through node:ffi. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 16

static int waiting = -1;
static int out;

static void tell(uint32_t number)
{
  while (write(out, &number, sizeof number) < 0) {
    struct pollfd room = {.fd = out, .events = POLLOUT};
    if (errno != EAGAIN && errno != EINTR)
      return;
    poll(&room, 1, -1);
  }
}

static void *run(void *unused)
{
  (void)unused;
  struct epoll_event events[BATCH];
  for (;;) {
    int count = epoll_wait(waiting, events, BATCH, -1);
    if (count < 0 && errno != EINTR)
      return NULL;
    for (int i = 0; i < count; i++)
      tell(events[i].data.u32);
  }
}

/* Starts the thread, which writes into the stream socket `socket`, 4 bytes for each event. Once per process. Gives 0 or an errno. */
int events_start(int socket)
{
  sigset_t all, before;
  pthread_t thread;
  out = socket;
  waiting = epoll_create1(EPOLL_CLOEXEC);
  if (waiting < 0)
    return errno;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread, NULL, run, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error == 0)
    pthread_detach(thread);
  return error;
}

/* A new eventfd of which the thread tells by `number`, until it is closed. Gives the negated errno when there is none. It is
   never read, each signal is an edge: what is read after a close might be somebody else's descriptor. */
int events_add(uint32_t number)
{
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = number};
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0)
    return -errno;
  if (epoll_ctl(waiting, EPOLL_CTL_ADD, fd, &event) == 0)
    return fd;
  int error = errno;
  close(fd);
  return -error;
}
