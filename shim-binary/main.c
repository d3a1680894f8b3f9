/* containerd-shim-spin-v2: the program containerd runs for every Spin container. It reads the command line and hands
   over to start.c, delete.c, pause.c, engine.c or info.c; -v is answered here. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REPORT_MAX 2048 /* bytes of one diagnosis line */

static const char *current_verb = "";

int write_all(int fd, const void *data, size_t size) {
  const char *next = data;
  while (size > 0) {
    ssize_t written = write(fd, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -1;
    next += written;
    size -= (size_t)written;
  }
  return 0;
}

static void vreport(const char *format, va_list args) {
  char line[REPORT_MAX];
  int head = snprintf(line, sizeof line, "containerd-shim-spin-v2%s%s: ", *current_verb ? " " : "", current_verb);
  vsnprintf(line + head, sizeof line - (size_t)head - 1, format, args);
  size_t length = strlen(line);
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)line[i] < ' ' || line[i] == 127) line[i] = '?';
  line[length] = '\n';
  /* Nowhere is left to report a failure of the report itself. */
  if (write_all(STDERR_FILENO, line, length + 1) < 0) return;
}

void report(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vreport(format, args);
  va_end(args);
}

_Noreturn void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vreport(format, args);
  va_end(args);
  _exit(1);
}

const char *run_dir(void) {
  const char *dir = secure_getenv("SPINSHIM_RUN_DIR");
  if (dir == NULL || *dir == '\0') return RUN_DIR_DEFAULT;
  if (*dir != '/') fail("SPINSHIM_RUN_DIR is \"%s\", which is not absolute; give a path that begins with /", dir);
  return dir;
}

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void nap_ms(long ms) {
  struct timespec duration = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&duration, NULL);
}

void reset_signals(void) {
  struct sigaction standard = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &standard, NULL);
  /* The C library keeps 32 and 33 for itself and refuses them; what was inherited is the kernel's to reset. */
  const unsigned long kernel_standard[4] = {0};
  for (int number = 32; number <= 33; number++) syscall(SYS_rt_sigaction, number, kernel_standard, NULL, 8);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The text after the dashes of `-x` or `--x`; NULL if it is no flag. */
static const char *flag_text(const char *argument) {
  if (argument == NULL || argument[0] != '-' || argument[1] == '\0') return NULL;
  return argument[1] == '-' ? argument + 2 : argument + 1;
}

const char *string_flag(char ***argv, const char *name) {
  const char *text = flag_text(**argv);
  size_t length = strlen(name);
  if (text == NULL || strncmp(text, name, length) != 0) return NULL;
  if (text[length] == '=') return text + length + 1;
  if (text[length] != '\0') return NULL;
  if ((*argv)[1] == NULL) fail("flag -%s has no value; give it as -%s VALUE or -%s=VALUE", name, name, name);
  return *++*argv;
}

static bool bool_flag(const char *argument, const char *name, bool *value) {
  const char *text = flag_text(argument);
  size_t length = strlen(name);
  if (text == NULL || strncmp(text, name, length) != 0) return false;
  if (text[length] != '\0' && text[length] != '=') return false;
  const char *given = text[length] == '=' ? text + length + 1 : "true";
  *value = strcmp(given, "1") == 0 || strcasecmp(given, "t") == 0 || strcasecmp(given, "true") == 0;
  return true;
}

/* A closed descriptor 0-2 would be given to the next file opened, and a diagnosis written into it. */
static void fill_standard_descriptors(void) {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

int main(int argc, char **argv) {
  fill_standard_descriptors();
  if (argc > 1 && strcmp(argv[1], "pause") == 0) {
    current_verb = "pause";
    return pause_verb(argc - 2, argv + 2);
  }
  if (argc > 1 && strcmp(argv[1], "engine") == 0) {
    current_verb = "engine";
    return engine_verb(argc - 2, argv + 2);
  }
  struct call call = {"", "", "", "", "", false};
  const struct {
    const char *name;
    const char **value;
  } strings[] = {{"namespace", &call.namespace_name},
                 {"address", &call.address},
                 {"publish-binary", &call.publish_binary},
                 {"id", &call.id},
                 {"bundle", &call.bundle}};
  bool version = false, info = false;
  char **next = argv + (argc > 0);
  for (; *next != NULL && flag_text(*next) != NULL; next++) {
    if (strcmp(*next, "--") == 0) {
      next++;
      break;
    }
    const char *value = NULL;
    for (size_t i = 0; value == NULL && i < sizeof strings / sizeof *strings; i++)
      if ((value = string_flag(&next, strings[i].name)) != NULL) *strings[i].value = value;
    if (value != NULL || bool_flag(*next, "debug", &call.debug) || bool_flag(*next, "v", &version) ||
        bool_flag(*next, "version", &version) || bool_flag(*next, "info", &info))
      continue;
    /* A flag of a later containerd: the argument after it is its value, unless that is a flag or the verb at the end. */
    if (strchr(*next, '=') == NULL && next[1] != NULL && flag_text(next[1]) == NULL && next[2] != NULL) next++;
  }
  if (version) {
    dprintf(STDOUT_FILENO, "%s:\n  Runtime: spin\n  Version: %s\n  Revision: %s\n", argv[0], VERSION, REVISION);
    return 0;
  }
  if (info) return print_info();
  if (*next == NULL) fail("no verb given; containerd calls this program with start or delete, people with -v or -info");
  current_verb = *next;
  if (strcmp(*next, "start") == 0) return start_verb(&call);
  if (strcmp(*next, "delete") == 0) return delete_verb(&call);
  current_verb = "";
  fail("unknown verb \"%s\"; the verbs are start, delete, pause and engine", *next);
}
