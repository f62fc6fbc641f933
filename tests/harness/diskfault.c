/* A disk that fails, for one process: what writes to files under DISKFAULT_UNDER gets the error, or the delay, that the
   file DISKFAULT says (three 32-bit integers: errno, milliseconds a sync, bytes a write takes at most where it takes more
   than that). A read-only file system says so in statvfs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static volatile int32_t *fault;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("DISKFAULT");
    int fd = file ? open(file, O_RDONLY) : -1;
    void *place = fd < 0 ? MAP_FAILED : mmap(NULL, 12, PROT_READ, MAP_SHARED, fd, 0);
    fault = place == MAP_FAILED ? NULL : place;
    if (fd >= 0) close(fd);
}

static int is_under(int fd) {
    char link[64], path[4096];
    const char *under = getenv("DISKFAULT_UNDER");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!under || length < 0) return 0;
    path[length] = 0;
    return strncmp(path, under, strlen(under)) == 0;
}

static int fails(int fd) {
    if (!fault || !fault[0] || !is_under(fd)) return 0;
    errno = fault[0];
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A write may take less than it was given (write(2)): whoever believes otherwise loses the rest. */
static size_t taken(int fd, size_t size) {
    size_t most = fault ? (size_t)fault[2] : 0;
    return most && size > most && is_under(fd) ? most : size;
}

ssize_t write(int fd, const void *data, size_t size) {
    return fails(fd) ? -1 : REAL(write)(fd, data, taken(fd, size));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return fails(fd) ? -1 : REAL(pwrite)(fd, data, taken(fd, size), at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return fails(fd) ? -1 : REAL(pwrite64)(fd, data, taken(fd, size), at);
}

static void wait_for_disk(int fd) {
    if (fault && fault[1] && is_under(fd)) {
        struct timespec wait = {fault[1] / 1000, fault[1] % 1000 * 1000000L};
        nanosleep(&wait, NULL);
    }
}

int fsync(int fd) { wait_for_disk(fd); return fails(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { wait_for_disk(fd); return fails(fd) ? -1 : REAL(fdatasync)(fd); }

int statvfs(const char *path, struct statvfs *said) {
    int found = REAL(statvfs)(path, said);
    if (fault && fault[0] == EROFS) said->f_flag |= ST_RDONLY;
    return found;
}
int statvfs64(const char *path, struct statvfs64 *said) {
    int found = REAL(statvfs64)(path, said);
    if (fault && fault[0] == EROFS) said->f_flag |= ST_RDONLY;
    return found;
}
