#include "base/time-util.h"

#include <time.h>

static uint64_t now_usec(clockid_t clock) {
        struct timespec now = { 0 };

        /* Fails only for a clock that does not exist. */
        (void)clock_gettime(clock, &now);
        return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

uint64_t now_monotonic_usec(void) {
        return now_usec(CLOCK_MONOTONIC);
}

uint64_t now_realtime_usec(void) {
        return now_usec(CLOCK_REALTIME);
}
