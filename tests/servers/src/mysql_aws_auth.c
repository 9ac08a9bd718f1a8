/* A server plugin for a genuine mysqld with the name and the wire behaviour of RDS's AWSAuthenticationPlugin: the client is
 * to use mysql_clear_password, its password is the token. The check's rules are in the file $RDSGATE_IAM_CONF of the server.
 *   CREATE USER u IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS';
 * The structures are those of MySQL's plugin interface 0x010B, authentication 0x0201 (mysql/plugin.h, plugin_auth.h).
 */
#include "rds_iam_core.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vio {
  int (*read_packet)(struct vio *, unsigned char **);
  int (*write_packet)(struct vio *, const unsigned char *, int);
  void (*info)(struct vio *, void *);
};
struct login {
  char *user_name;
  unsigned user_name_length;
  const char *auth_string;
  unsigned long auth_string_length;
  char authenticated_as[97], external_user[512];
  int password_used;
  const char *host_or_ip;
  unsigned host_or_ip_length;
};
struct authentication {
  int interface_version;
  const char *client_plugin;
  int (*authenticate)(struct vio *, struct login *);
  int (*generate)(char *, unsigned *, const char *, unsigned);
  int (*validate)(char *, unsigned);
  int (*set_salt)(const char *, unsigned, unsigned char *, unsigned char *);
  unsigned long flags;
  int (*compare)(const char *, unsigned long, const char *, unsigned long, int *);
};
struct plugin {
  int type;
  void *info;
  const char *name, *author, *description;
  int license;
  int (*init)(void *), (*check_uninstall)(void *), (*deinit)(void *);
  unsigned version;
  void *status_variables, *system_variables, *reserved;
  unsigned long flags;
};
enum { AUTHENTICATION = 7, LICENSE_GPL = 1, ACCEPTED = -1, REFUSED = 0 };

static int authenticate(struct vio *vio, struct login *login) {
  unsigned char *packet;
  int len = vio->read_packet(vio, &packet);
  const char *rules = getenv("RDSGATE_IAM_CONF");
  char user[200], why[RDS_REASON];
  if (len < 0 || !rules) return REFUSED;
  if (len > 0 && !packet[len - 1]) len--;
  login->password_used = 1;
  snprintf(user, sizeof user, "%.*s", (int)login->user_name_length, login->user_name);
  return rds_iam_verify(rules, user, (char *)packet, len, "AWSAuthenticationPlugin", why) ? REFUSED : ACCEPTED;
}
/* What CREATE USER asks about the string after AS. */
static int generate(char *out, unsigned *out_len, const char *in, unsigned in_len) {
  if (*out_len < in_len) return 1;
  memcpy(out, in, in_len);
  *out_len = in_len;
  return 0;
}
static int validate(char *text, unsigned len) { return len != 3 || memcmp(text, "RDS", 3); }
static int set_salt(const char *text, unsigned len, unsigned char *salt, unsigned char *salt_len) {
  *salt_len = 0;
  return 0;
}

static struct authentication handler = {0x0201, "mysql_clear_password", authenticate, generate, validate, set_salt, 0, 0};
int _mysql_plugin_interface_version_ = 0x010B;
int _mysql_sizeof_struct_st_plugin_ = sizeof(struct plugin);
struct plugin _mysql_plugin_declarations_[] = {
    {AUTHENTICATION, &handler, "AWSAuthenticationPlugin", "rdsgate", "RDS tokens", LICENSE_GPL, 0, 0, 0, 0x0100, 0, 0, 0, 0},
    {0}};
