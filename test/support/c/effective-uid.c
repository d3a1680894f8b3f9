/* Tells as whom it runs: as root when it is a setuid program and may gain privileges. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("Effective uid: %d\n", (int)geteuid());
  return 0;
}
