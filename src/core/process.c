/* A pid alone says little: it may be reused between the moment in which it was recorded and now. A pidfd cannot be
 * recorded. So the record holds the pid and the start time, and the way back is: open a pidfd first, then read the
 * start time. If it is the recorded one, the process that /proc showed is the one that the pidfd holds, since the
 * number cannot be given away again while it lives; and if it died in between, the pidfd says so. */
#include "core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define STAT_MAX     4096
#define BRIEFLY_MSEC 100 /* a killed process needs less than one */
/* PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h, which knows it since Linux 6.9. */
#define SIGNAL_PROCESS_GROUP (1U << 2)

const char *child_exit_format(const ChildExit *exit, char buffer[CHILD_EXIT_TEXT_MAX]) {
        switch (exit->how) {
        case CHILD_EXITED:
                snprintf(buffer, CHILD_EXIT_TEXT_MAX, "exited with status %d", exit->value);
                break;
        case CHILD_SIGNALED: {
                const char *text = sigdescr_np(exit->value);
                snprintf(buffer, CHILD_EXIT_TEXT_MAX, "was killed by signal %d (%s)", exit->value, text ? text : "?");
                break;
        }
        default:
                snprintf(buffer, CHILD_EXIT_TEXT_MAX, "ended");
        }
        return buffer;
}

/* Go behind the program's name, which may hold anything, parentheses and spaces included, but is not followed by a
 * further ')'. What comes next is "STATE PPID ..."; the start time is the 20th word from there. */
static int parse_stat(const char *text, char *ret_state, uint64_t *ret_start_time) {
        const char *p = strrchr(text, ')');
        if (!p || p[1] != ' ')
                return -EIO;
        p += 2;
        *ret_state = *p;

        for (int i = 0; i < 19; i++) {
                p = strchr(p, ' ');
                if (!p)
                        return -EIO;
                p++;
        }
        char *end;
        errno = 0;
        unsigned long long start_time = strtoull(p, &end, 10);
        if (errno != 0 || end == p || *end != ' ')
                return -EIO;

        *ret_start_time = start_time;
        return 0;
}

static int read_stat(pid_t pid, ProcessId *ret, bool *ret_ended) {
        if (pid <= 0)
                return -ESRCH;

        char path[32];
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        AUTO(string_drop) char *text = NULL;
        size_t length;
        int r = file_read_all(AT_FDCWD, path, STAT_MAX, &text, &length);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;

        char state;
        uint64_t start_time;
        r = parse_stat(text, &state, &start_time);
        if (r < 0)
                return r;

        *ret = (ProcessId){ .pid = pid, .start_time = start_time };
        *ret_ended = state == 'Z' || state == 'X' || state == 'x';
        return 0;
}

int process_identify_child(pid_t pid, ProcessId *ret) {
        bool unused;
        return read_stat(pid, ret, &unused);
}

int process_identify(pid_t pid, ProcessId *ret) {
        ProcessId id;
        bool ended;
        int r = read_stat(pid, &id, &ended);
        if (r < 0)
                return r;
        if (ended)
                return -ESRCH;

        *ret = id;
        return 0;
}

int process_open(const ProcessId *id, int *ret_pidfd) {
        if (id->pid <= 0)
                return -ESRCH;

        AUTO(fd_drop) int pidfd = (int)syscall(SYS_pidfd_open, id->pid, 0);
        if (pidfd < 0)
                /* EINVAL, and ENOENT on newer kernels: the number is that of some process's thread by now. */
                return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;

        ProcessId now;
        int r = process_identify(id->pid, &now);
        if (r < 0)
                return r;
        if (now.start_time != id->start_time)
                return -ESRCH;

        *ret_pidfd = fd_take(&pidfd);
        return 0;
}

static int send_kill(int pidfd) {
        return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
}

int process_reap(int pidfd, ChildExit *ret) {
        siginfo_t info = { 0 };
        int r;
        do
                r = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | __WALL);
        while (r < 0 && errno == EINTR);
        if (r < 0 && errno == ECHILD) {
                /* Not ours, so asked only once its pidfd has become readable; or reaped for us. */
                *ret = (ChildExit){ CHILD_UNKNOWN, 0 };
                return 1;
        }
        if (r < 0)
                return -errno;
        if (info.si_pid == 0)
                return 0;

        *ret = (ChildExit){ info.si_code == CLD_EXITED ? CHILD_EXITED : CHILD_SIGNALED, info.si_status };
        return 1;
}

/* A process that is traced ends like any other, and its pidfd tells so; but it stays a zombie until its tracer has seen
 * that, or is gone, and of this nothing tells its parent. A source on the pidfd would wake the loop again and again. */
#define TRACED_USEC (200 * USEC_PER_MSEC)

/* One that is dead or will be, and is reaped whenever it can be. The event source that waits for that owns it. */
typedef struct Leftover {
        int pidfd;
        Lingering lingering;
} Leftover;

static Leftover *leftover_new(const Lingering *lingering) {
        Leftover *l = calloc(1, sizeof *l);
        if (l) {
                l->pidfd = -1;
                l->lingering = lingering ? *lingering : (Lingering){ 0 };
        }
        return l;
}

/* For sd_event_source_set_destroy_callback(). */
static void leftover_free(void *userdata) {
        Leftover *l = userdata;

        fd_drop(&l->pidfd);
        free(l);
}

static void leftover_begun(const Leftover *l) {
        /* Without limits it cannot fail. */
        if (l->lingering.owner)
                (void)owner_charge(l->lingering.owner, l->lingering.charge, NULL, NULL);
}

static void leftover_over(const Leftover *l) {
        if (l->lingering.owner)
                owner_release(l->lingering.owner, l->lingering.charge);
}

/* The loop keeps the source, and with it the leftover, until the source is let go or the loop ends. */
static int leave_to_loop(sd_event_source *source) {
        int r = sd_event_source_set_floating(source, true);
        return r < 0 ? r : sd_event_source_set_destroy_callback(source, leftover_free);
}

static int on_look_again(sd_event_source *source, uint64_t usec UNUSED, void *userdata) {
        const Leftover *l = userdata;
        ChildExit unused;

        if (process_reap(l->pidfd, &unused) == 0 && sd_event_source_set_time_relative(source, TRACED_USEC) >= 0 &&
            sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) >= 0)
                return 0;
        leftover_over(l);
        sd_event_source_set_floating(source, false);
        return 0;
}

/* Takes the leftover. Without memory for a timer the zombie stays until the daemon ends. */
static void look_again_later(sd_event *event, Leftover *l) {
        sd_event_source *source = NULL;

        if (sd_event_add_time_relative(event, &source, CLOCK_MONOTONIC, TRACED_USEC, TRACED_USEC, on_look_again, l) <
                    0 ||
            leave_to_loop(source) < 0) {
                leftover_over(l);
                leftover_free(l);
        }
        sd_event_source_unref(source);
}

static int on_abandoned_gone(sd_event_source *source, int fd, uint32_t revents UNUSED, void *userdata) {
        Leftover *l = userdata;
        ChildExit unused;

        if (process_reap(fd, &unused) == 0) {
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
                sd_event_source_set_destroy_callback(source, NULL);
                look_again_later(sd_event_source_get_event(source), l);
        } else
                leftover_over(l);
        /* The loop held the last reference to the source. */
        sd_event_source_set_floating(source, false);
        return 0;
}

/* Without memory for an event source. One that is stuck in the kernel stays a zombie until the daemon ends, which costs
 * a table entry and nothing else. */
static void wait_briefly(int pidfd) {
        struct pollfd end = { .fd = pidfd, .events = POLLIN };
        ChildExit unused;

        if (poll(&end, 1, BRIEFLY_MSEC) == 1)
                (void)process_reap(pidfd, &unused);
}

void process_abandon(sd_event *event, int pidfd, const Lingering *lingering) {
        AUTO(fd_drop) int fd = pidfd;
        if (fd < 0)
                return;

        (void)send_kill(fd);
        ChildExit unused;
        int r = process_reap(fd, &unused);
        if (r != 0)
                return;

        Leftover *l = leftover_new(lingering);
        sd_event_source *source = NULL;
        if (!l || sd_event_add_io(event, &source, fd, EPOLLIN, on_abandoned_gone, l) < 0 || leave_to_loop(source) < 0) {
                sd_event_source_disable_unref(source);
                free(l);
                wait_briefly(fd);
                return;
        }
        l->pidfd = fd_take(&fd);
        leftover_begun(l);
        sd_event_source_unref(source);
}

static void process_unwatch(Process *p) {
        p->source = sd_event_source_disable_unref(p->source);
        fd_drop(&p->pidfd);
}

static int on_ended(sd_event_source *source, int fd, uint32_t revents UNUSED, void *userdata) {
        Process *p = userdata;
        ChildExit exit = { CHILD_UNKNOWN, 0 };

        /* 0: dead as it is, somebody traces it and has to see it first. How it ended is not worth the wait. */
        if (process_reap(fd, &exit) == 0) {
                Leftover *l = leftover_new(&p->lingering);
                exit = (ChildExit){ CHILD_UNKNOWN, 0 };
                if (l) {
                        sd_event *event = sd_event_source_get_event(source);
                        p->source = sd_event_source_disable_unref(p->source);
                        l->pidfd = fd_take(&p->pidfd);
                        leftover_begun(l);
                        look_again_later(event, l);
                }
        }
        process_unwatch(p);
        p->ended(p, &exit);
        return 0;
}

int process_watch(Process *p, sd_event *event, const ProcessId *id, int pidfd, ProcessEnded ended, void *userdata) {
        sd_event_source *source = NULL;
        int r = sd_event_add_io(event, &source, pidfd, EPOLLIN, on_ended, p);
        if (r < 0) {
                process_abandon(event, pidfd, NULL);
                return r;
        }
        *p = (Process){ .id = *id, .pidfd = pidfd, .source = source, .ended = ended, .userdata = userdata };
        return 0;
}

void process_kill(Process *p) {
        if (p->pidfd >= 0)
                (void)send_kill(p->pidfd);
}

void process_kill_group(Process *p) {
        if (p->pidfd >= 0 && syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, SIGNAL_PROCESS_GROUP) < 0)
                process_kill(p);
}

void process_drop(Process *p, sd_event *event) {
        p->source = sd_event_source_disable_unref(p->source);
        process_abandon(event, fd_take(&p->pidfd), &p->lingering);
}

void process_done(Process *p) {
        process_unwatch(p);
        p->id = (ProcessId){ 0 };
}
