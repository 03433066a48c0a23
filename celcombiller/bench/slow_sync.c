/* Makes every fsync and fdatasync of a process take CELCOMBILLER_SYNC_MS milliseconds longer: a slower disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int file)
{
    int (*true_one)(int) = (int (*)(int)) dlsym(RTLD_NEXT, name);
    const char *text = getenv("CELCOMBILLER_SYNC_MS");
    long ms = text ? atol(text) : 0;
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&wait, NULL);
    return true_one(file);
}

int fsync(int file)
{
    return slowly("fsync", file);
}

int fdatasync(int file)
{
    return slowly("fdatasync", file);
}
