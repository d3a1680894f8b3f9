/* HTTP server of the runc comparison pod: answers every request head with 200 "hello\n", with keep-alive. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

static void end(int signal) {
  (void)signal;
  _exit(0);
}

/* One answer per blank line; a head split over two reads is recognised by its last bytes only. */
static int serve(int peer) {
  char input[65536];
  ssize_t got = read(peer, input, sizeof input - 1);
  if (got <= 0) return -1;
  input[got] = 0;
  for (char *at = input; (at = strstr(at, "\r\n\r\n")); at += 4)
    if (write(peer, answer, sizeof answer - 1) < 0) return -1;
  return 0;
}

int main(void) {
  signal(SIGTERM, end);
  signal(SIGPIPE, SIG_IGN);
  const char *port = getenv("PORT");
  int on = 1, poll = epoll_create1(0), door = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 80)};
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 4096)) {
    perror("listen");
    return 1;
  }
  struct epoll_event event = {.events = EPOLLIN, .data.fd = door}, ready[64];
  epoll_ctl(poll, EPOLL_CTL_ADD, door, &event);
  puts("listening");
  fflush(stdout);
  for (;;) {
    int count = epoll_wait(poll, ready, 64, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      if (fd == door) {
        event.data.fd = accept(door, 0, 0);
        if (event.data.fd >= 0) epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
      } else if (serve(fd)) {
        close(fd);
      }
    }
  }
}
