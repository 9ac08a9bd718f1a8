/* Stands in for MariaDB's auth_pam_tool, the program that its plugin auth_pam starts for each login. MariaDB's own must be
 * root and asks the PAM services in /etc/pam.d; this one asks the check of tokens at once, so a test needs no root and
 * writes nothing outside its scratch folder. Its server starts it as PLUGIN_DIR/auth_pam_tool_dir/auth_pam_tool with no
 * argument and no environment; the check's rules are in PLUGIN_DIR/../iam.conf.
 *
 * Read on descriptor 0: a byte (verbose), user, service; then the answer to each question. Written to 1: 'C' and a
 * question (a byte for its kind, text), 'A' and the name logged in as, 'E' when all is well. Strings: 16 bits of length,
 * big-endian, and the bytes. The plugin takes 10,240 bytes at most.
 */
#include "rds_iam_core.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#define LAST_PASSWORD 5
#define LONGEST 65536

static int take(void *into, size_t len) {
  for (char *p = into; len > 0;) {
    ssize_t n = read(0, p, len);
    if (n <= 0) return -1;
    p += n;
    len -= n;
  }
  return 0;
}
static int take_string(char into[LONGEST]) {
  uint8_t len[2];
  if (take(len, 2)) return -1;
  int n = len[0] << 8 | len[1];
  into[n] = 0;
  return take(into, n) ? -1 : n;
}
static int say(char kind, const char *text, size_t len) {
  char out[1024] = {kind, (char)(len >> 8), (char)len};
  if (len > sizeof out - 3) return -1;
  memcpy(out + 3, text, len);
  return write(1, out, len + 3) == (ssize_t)(len + 3) ? 0 : -1;
}

int main(void) {
  static char verbose, user[LONGEST], service[LONGEST], token[LONGEST], rules[4096], why[RDS_REASON];
  static const char question[] = {LAST_PASSWORD, 'T', 'o', 'k', 'e', 'n', ':', ' '};
  ssize_t n = readlink("/proc/self/exe", rules, sizeof rules - 1);
  if (n <= 0) return 1;
  for (int up = 0; up < 3; up++) {
    char *slash = strrchr(rules, '/');
    if (!slash) return 1;
    *slash = 0;
  }
  if (strlen(rules) + sizeof "/iam.conf" > sizeof rules) return 1;
  strcat(rules, "/iam.conf");
  if (take(&verbose, 1) || take_string(user) < 0 || take_string(service) < 0) return 1;
  if (say('C', question, sizeof question)) return 1;
  int len = take_string(token);
  if (len < 0) return 1;
  if (len > 0 && !token[len - 1]) len--;
  if (rds_iam_verify(rules, user, token, len, "auth_pam", why)) return 1;
  return say('A', user, strlen(user)) || write(1, "E", 1) != 1;
}
