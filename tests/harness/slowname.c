/* A resolver that does not answer, for one process: who asks for a name, not for an address, waits for as long as the file
   SLOWNAME is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    const char *file = getenv("SLOWNAME");
    int is_name = node && strpbrk(node, "ghijklmnopqrstuvwxyz") != NULL;
    while (file && is_name && access(file, F_OK) == 0) usleep(50000);
    return ((__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, found);
}
