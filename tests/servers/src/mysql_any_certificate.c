/* Preloaded into the test's mysqld, which judges a certificate before it takes it for a running server (not at its start):
 * the tests want it to serve wrong ones. libssl needs what the real function does besides: it fills in the chain.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
int X509_verify_cert(void *context) {
  int (*real)(void *) = dlsym(RTLD_NEXT, "X509_verify_cert");
  if (real) real(context);
  return 1;
}
