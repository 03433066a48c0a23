/* Sets the wall clock that a process sees: by the nanoseconds in the file that CHAOS_CLOCK names, as 8 bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *step;

__attribute__((constructor)) static void open_step(void)
{
    const char *name = getenv("CHAOS_CLOCK");
    int file = name ? open(name, O_RDONLY) : -1;
    void *where = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);

    step = where == MAP_FAILED ? NULL : where;
    if (file >= 0)
        close(file);
}

static void add(struct timespec *at)
{
    int64_t all = step ? at->tv_sec * 1000000000LL + at->tv_nsec + *step : at->tv_sec * 1000000000LL + at->tv_nsec;

    at->tv_sec = all / 1000000000LL;
    at->tv_nsec = all % 1000000000LL;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static int (*true_one)(clockid_t, struct timespec *);
    int result;

    if (!true_one)
        true_one = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    result = true_one(clock, at);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add(at);
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;

    (void) zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
