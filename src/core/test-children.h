/* What the tests of processes, spawned programs, workers and jails share. Include after cmocka.h. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/macros.h"
#include "base/time-util.h"
#include "core/process.h"

/* Turn the loop until *flag, for ten seconds at most; returns *flag. */
static inline bool loop_until(sd_event *event, const bool *flag) {
        uint64_t end = now_monotonic_usec() + 10 * USEC_PER_SEC;
        while (!*flag && now_monotonic_usec() < end)
                assert_true(sd_event_run(event, 100 * USEC_PER_MSEC) >= 0);
        return *flag;
}

/* Turn the loop for that long. */
static inline void loop_for(sd_event *event, uint64_t usec) {
        uint64_t end = now_monotonic_usec() + usec;
        while (now_monotonic_usec() < end)
                assert_true(sd_event_run(event, 10 * USEC_PER_MSEC) >= 0);
}

/* Has the process ended within five seconds? A zombie counts as ended. */
static inline bool seen_gone(const ProcessId *id) {
        AUTO(fd_drop) int pidfd = -1;
        int r = process_open(id, &pidfd);
        if (r < 0)
                return r == -ESRCH;
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 5000) == 1;
}

static inline bool is_alive(const ProcessId *id) {
        AUTO(fd_drop) int pidfd = -1;
        return process_open(id, &pidfd) == 0;
}

static inline size_t count_open_fds(void) {
        DIR *dir = opendir("/proc/self/fd");
        assert_non_null(dir);
        size_t n = 0;
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

/* Zombies count: false when all were reaped. */
static inline bool has_children(void) {
        siginfo_t info;
        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* As each test's set-up and tear-down: nothing may be left of it. */
typedef struct Baseline {
        sd_event *event;
        size_t fds;
} Baseline;

static inline int baseline_setup(void **state) {
        static Baseline b;
        assert_true(sd_event_new(&b.event) >= 0);
        b.fds = count_open_fds();
        *state = &b;
        return 0;
}

static inline int baseline_teardown(void **state) {
        Baseline *b = *state;
        uint64_t end = now_monotonic_usec() + 5 * USEC_PER_SEC;
        while (has_children() && now_monotonic_usec() < end)
                loop_for(b->event, USEC_PER_MSEC);
        assert_false(has_children());
        b->event = sd_event_unref(b->event);
        assert_int_equal(count_open_fds(), b->fds - 1);
        return 0;
}
