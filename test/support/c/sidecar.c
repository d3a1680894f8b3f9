/* A Linux container's program, as a sidecar or an init container has it: `sidecar VERB ARGUMENTS`.

     wait               says "ready" and ends with 0 at SIGTERM
     ask PORT PATH      asks the pod's localhost until it answers, prints the answer's body, then as wait
     fetch PORT PATH    asks once, prints the body; 1 if nobody answers
     exit N             ends with N
     say TEXT STATUS    prints TEXT on both streams and ends with STATUS
     env NAME           prints a variable of the environment
     echo               copies its input to its output until the input ends
     tty COLUMNS        says whether it has a terminal and of what size, anew with every change, until it is so wide
     eat MEBIBYTES      takes and touches that much memory, says "full", then as wait
     processes          prints the pids it sees */
#include <ctype.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal) {
  (void)signal;
  _exit(0);
}

static _Noreturn void wait_for_end(const char *line) {
  puts(line);
  for (;;) pause();
}

/* One request to localhost; -1 if it failed. */
static int fetch(const char *port, const char *path) {
  int peer = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  char answer[65536];
  size_t size = 0;
  ssize_t got = -1;
  if (connect(peer, (struct sockaddr *)&address, sizeof address) == 0 &&
      dprintf(peer, "GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", path) > 0)
    while ((got = read(peer, answer + size, sizeof answer - 1 - size)) > 0) size += got;
  close(peer);
  answer[size] = 0;
  char *body = strstr(answer, "\r\n\r\n");
  if (got < 0 || body == NULL) return -1;
  puts(body + 4);
  return 0;
}

static int echo(void) {
  char bytes[4096];
  ssize_t got;
  while ((got = read(0, bytes, sizeof bytes)) > 0)
    if (write(1, bytes, got) != got) return 1;
  return 0;
}

static int eat(size_t mebibytes) {
  for (size_t i = 0; i < mebibytes; i++) {
    char *block = malloc(1 << 20);
    if (block == NULL) return 1;
    memset(block, 1, 1 << 20);
  }
  wait_for_end("full");
}

static int processes(void) {
  DIR *folder = opendir("/proc");
  if (folder == NULL) return 1;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
    if (isdigit((unsigned char)entry->d_name[0])) puts(entry->d_name);
  return 0;
}

int main(int argc, char **argv) {
  const char *verb = argc > 1 ? argv[1] : "", *first = argc > 2 ? argv[2] : "", *second = argc > 3 ? argv[3] : "";
  signal(SIGTERM, end);
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  if (strcmp(verb, "wait") == 0) wait_for_end("ready");
  if (strcmp(verb, "ask") == 0) {
    while (fetch(first, second) < 0) usleep(20000);
    wait_for_end("ready");
  }
  if (strcmp(verb, "fetch") == 0) return fetch(first, second) < 0;
  if (strcmp(verb, "exit") == 0) return atoi(first);
  if (strcmp(verb, "say") == 0) {
    puts(first);
    fprintf(stderr, "%s\n", first);
    return atoi(second);
  }
  if (strcmp(verb, "env") == 0) return puts(getenv(first) != NULL ? getenv(first) : "") < 0;
  if (strcmp(verb, "echo") == 0) return echo();
  if (strcmp(verb, "tty") == 0) {
    struct winsize size = {0};
    sigset_t changed;
    sigemptyset(&changed);
    sigaddset(&changed, SIGWINCH);
    sigprocmask(SIG_BLOCK, &changed, NULL);
    ioctl(0, TIOCGWINSZ, &size);
    for (int signal; size.ws_col != atoi(first); ioctl(0, TIOCGWINSZ, &size)) {
      printf("terminal %d, %d by %d\n", isatty(0), size.ws_col, size.ws_row);
      sigwait(&changed, &signal);
    }
    return 0;
  }
  if (strcmp(verb, "eat") == 0) return eat(atoi(first));
  if (strcmp(verb, "processes") == 0) return processes();
  fprintf(stderr, "unknown verb \"%s\"\n", verb);
  return 64;
}
