/* Preloaded into the hub: two numbers of nanoseconds that a test writes into a file. By the first its wall clock is
   stepped: the monotonic clock is left alone, as it is by a real step. By the second time passes for it: both clocks go
   on by so much, and what it waits for is nearer by so much when it next looks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *shift; /* wall clock's step, time passed */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCKSHIFT");
    int fd = path ? open(path, O_RDONLY) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ, MAP_SHARED, fd, 0);
    shift = page == MAP_FAILED ? 0 : page;
}

static void add(struct timespec *at, int64_t by) {
    int64_t ns = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + by;
    at->tv_sec = ns / 1000000000;
    at->tv_nsec = ns % 1000000000;
}

int clock_gettime(clockid_t id, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, out);
    if (!answer && shift && id == CLOCK_REALTIME) add(out, shift[0] + shift[1]);
    if (!answer && shift && id == CLOCK_MONOTONIC) add(out, shift[1]);
    return answer;
}

/* A deadline is of the clock that the caller knows; the kernel's has not moved. */
int sem_clockwait(sem_t *sem, clockid_t id, const struct timespec *until) {
    static int (*real)(sem_t *, clockid_t, const struct timespec *);
    if (!real) real = (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec at = *until;
    if (shift && id == CLOCK_MONOTONIC) add(&at, -shift[1]);
    if (shift && id == CLOCK_REALTIME) add(&at, -shift[0] - shift[1]);
    return real(sem, id, &at);
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
