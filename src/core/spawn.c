/* How a spawned program comes to life without ever being able to run unrecorded; the states stand in spawn.h.
 *
 *   daemon                                     child
 *     clone3 ------------------------------->  close all that is not its own, new session
 *                                              prepare()
 *                                              stdio to 0..2, fds to 3.., nothing else open but two pipes
 *     prepared() <---- status: {0} ----------  wait for the go pipe
 *     spawn_release() -- go: a message ----->  execve
 *     done(NULL) <---- status: end of file --  (the pipe is close-on-exec)
 *     done(error) <--- status: {errno, step}   _exit, from any step
 *
 * What must hold:
 * - Only the daemon has the writing end of the go pipe, so that its death is the pipe's end of file. Every other child
 *   of the daemon's closes its copy as its first act, and the child itself its own.
 * - The daemon's death may also come while the child is busy for long, or stopped by the user who it has become: so the
 *   kernel kills it (PR_SET_PDEATHSIG) until it is released, when this is taken back, since a recorded program outlives
 *   the daemon. A change of identity in prepare() ends it too, until the child is held.
 * - A child that must go is killed, and done() comes once it is gone; but not later than GRACE_USEC, since one that is
 *   stuck in the kernel on a user's FUSE would otherwise hold its owner's operation for ever. */
#include "core/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define GRACE_USEC (1000 * 1000)
#define GO         'g' /* the first byte of the message; what follows is the late argument */

/* SPAWN_IDLE is where nothing is to be done: before the start, and after done(). */
enum { SPAWN_IDLE, SPAWN_PREPARING, SPAWN_HELD, SPAWN_RELEASED, SPAWN_REAPING };

/* Shorter than PIPE_BUF, hence read as it was written. */
typedef struct Status {
        int error; /* 0: prepared; else a positive errno */
        char step[124];
} Status;

void spawn_init(Spawn *s) {
        *s = (Spawn){
                .become_uid = (uid_t)-1,
                .become_gid = (gid_t)-1,
                .stdio = { -1, -1, -1 },
                .pidfd = -1,
                .status_fd = -1,
                .go_fd = -1,
                .state = SPAWN_IDLE,
        };
}

/* ---- in the child ---- */

/* The child's ends of the pipes, and what it opened itself. */
typedef struct ChildEnds {
        int status, go, null;
} ChildEnds;

static _Noreturn void child_fail(int status_fd, int error, const char *step) {
        Status status = { .error = error < 0 ? -error : error ? error : EIO };
        snprintf(status.step, sizeof status.step, "%s", step);
        (void)!write(status_fd, &status, sizeof status);
        _exit(EXIT_FAILURE);
}

/* Duplicates to numbers that no target has, close-on-exec, so that no dup2() below hits a source. */
static int lift(int *fd, int above) {
        int lifted = fcntl(*fd, F_DUPFD_CLOEXEC, above);
        if (lifted < 0)
                return -errno;
        *fd = lifted;
        return 0;
}

static int wanted_source(const Spawn *s, const ChildEnds *ends, int target) {
        if (target >= 3)
                return s->fds[target - 3];
        return s->stdio[target] >= 0 ? s->stdio[target] : ends->null;
}

/* Put everything where the program expects it, and the two pipes right behind; close the rest. */
static int lay_out(const Spawn *s, ChildEnds *ends) {
        int n = 3 + (int)s->n_fds;
        int *sources = calloc((size_t)n, sizeof *sources);
        if (!sources)
                return -ENOMEM;

        int r = lift(&ends->status, n + 2);
        if (r == 0)
                r = lift(&ends->go, n + 2);
        for (int i = 0; r == 0 && i < n; i++) {
                sources[i] = wanted_source(s, ends, i);
                r = lift(&sources[i], n + 2);
        }
        for (int i = 0; r == 0 && i < n; i++)
                if (dup2(sources[i], i) < 0)
                        r = -errno;
        free(sources);
        if (r < 0)
                return r;

        if (dup3(ends->status, n, O_CLOEXEC) < 0 || dup3(ends->go, n + 1, O_CLOEXEC) < 0)
                return -errno;
        *ends = (ChildEnds){ .status = n, .go = n + 1, .null = -1 };
        return close_range((unsigned)n + 2, ~0U, 0) < 0 ? -errno : 0;
}

/* Its own descriptors, in four lists; own holds the child's ends of the pipes. */
static void list_own(const Spawn *s, const int own[2], ChildFds ret[4]) {
        ret[0] = (ChildFds){ own, 2 };
        ret[1] = (ChildFds){ s->stdio, 3 };
        ret[2] = (ChildFds){ s->fds, s->n_fds };
        ret[3] = (ChildFds){ s->keep, s->n_keep };
}

/* First of all, before anything can block: see above. */
static int close_strangers(const Spawn *s, const ChildEnds *ends) {
        const int own[] = { ends->status, ends->go };
        ChildFds kept[4];
        list_own(s, own, kept);
        return child_close_others(kept, ARRAY_LEN(kept));
}

static _Noreturn void child_execute(const Spawn *s, int status_fd) {
        static const char *const plain[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", NULL };
        char *const *envp = s->envp ? s->envp : (char *const *)(uintptr_t)plain;

        execve(s->path, s->argv, envp);

        int saved_errno = errno;
        char step[sizeof((Status *)NULL)->step];
        snprintf(step, sizeof step, "execute %s", s->path);
        child_fail(status_fd, saved_errno, step);
}

static void wait_for_go(int go_fd, char late_argument[SPAWN_LATE_MAX]) {
        char message[SPAWN_LATE_MAX + 1] = "";
        ssize_t n;
        do
                n = read(go_fd, message, sizeof message - 1);
        while (n < 0 && errno == EINTR);
        if (n < 1 || message[0] != GO)
                _exit(EXIT_FAILURE);
        memcpy(late_argument, message + 1, SPAWN_LATE_MAX);
}

/* The array is the child's own copy. */
static void put_late_argument(const Spawn *s, char *late_argument) {
        char **argv = (char **)(uintptr_t)s->argv;
        while (argv[1])
                argv++;
        *argv = late_argument;
}

static _Noreturn void spawn_child(const Spawn *s, ChildEnds ends) {
        int r = close_strangers(s, &ends);
        if (r < 0)
                child_fail(ends.status, r, "close descriptors");
        if (setsid() < 0)
                child_fail(ends.status, errno, "start a session");
        if (chdir("/") < 0) /* not where the daemon was started, which may be below what its new owner may not enter */
                child_fail(ends.status, errno, "go to the root directory");
        r = child_unshare(s->clone_flags);
        if (r < 0)
                child_fail(ends.status, r, "make its namespaces");
        ends.null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (ends.null < 0)
                child_fail(ends.status, errno, "open /dev/null");

        const char *step = "prepare";
        r = s->prepare ? s->prepare(s->prepare_data, &step) : 0;
        if (r < 0)
                child_fail(ends.status, r, step);
        r = lay_out(s, &ends);
        if (r < 0)
                child_fail(ends.status, r, "arrange descriptors");
        r = child_die_with_parent();
        if (r < 0)
                child_fail(ends.status, r, "die with the daemon");

        const Status prepared = { .error = 0 };
        if (write(ends.status, &prepared, sizeof prepared) != (ssize_t)sizeof prepared)
                _exit(EXIT_FAILURE);
        char late_argument[SPAWN_LATE_MAX];
        wait_for_go(ends.go, late_argument);
        if (*late_argument)
                put_late_argument(s, late_argument);
        r = child_outlive_parent();
        if (r < 0)
                child_fail(ends.status, r, "outlive the daemon");
        child_execute(s, ends.status);
}

/* ---- in the daemon ---- */

/* Let go of all but the pidfd. */
static void spawn_quiet(Spawn *s) {
        s->status_source = sd_event_source_disable_unref(s->status_source);
        s->deadline_source = sd_event_source_disable_unref(s->deadline_source);
        s->exit_source = sd_event_source_disable_unref(s->exit_source);
        fd_drop(&s->status_fd);
        fd_drop(&s->go_fd);
}

void spawn_stop(Spawn *s) {
        spawn_quiet(s);
        if (s->pidfd >= 0)
                process_abandon(s->event, fd_take(&s->pidfd), &s->lingering);
        s->event = sd_event_unref(s->event);
        error_clear(&s->error);
        s->state = SPAWN_IDLE;
}

/* The end, either way; the last thing that anybody does with s. */
static void spawn_finish(Spawn *s) {
        AUTO(error_clear) Error e = ERROR_INIT;
        error_move(&e, &s->error);
        if (!error_is_set(&e)) {
                spawn_quiet(s);
                s->state = SPAWN_IDLE; /* event and pidfd stay for spawn_take_pidfd() or spawn_stop() */
                s->done(s, NULL);
                return;
        }
        spawn_stop(s);
        s->done(s, &e);
}

static int on_gone(sd_event_source *source UNUSED, int fd, uint32_t revents UNUSED, void *userdata) {
        Spawn *s = userdata;
        ChildExit exit = { CHILD_UNKNOWN, 0 };
        if (process_reap(fd, &exit) == 0) {
                /* Dead, but a tracer has to see it first, and the source would wake the loop until then. */
                s->exit_source = sd_event_source_disable_unref(s->exit_source);
                return 0;
        }

        char how[CHILD_EXIT_TEXT_MAX];
        error_set(&s->error, ERROR_INTERNAL, "%s %s before it was started", s->what, child_exit_format(&exit, how));
        /* The source before its descriptor: a child that has just been forked still holds a copy, and closed first it
         * would go on waking the loop for a source that is no more. */
        s->exit_source = sd_event_source_disable_unref(s->exit_source);
        fd_drop(&s->pidfd);
        spawn_finish(s);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);

/* Kill it and wait, for GRACE_USEC at most. The error may be set already; if not, how it ended will be the reason. */
static void spawn_reap(Spawn *s) {
        spawn_quiet(s);
        s->state = SPAWN_REAPING;

        Process process = { .pidfd = s->pidfd };
        process_kill(&process);
        int r = sd_event_add_io(s->event, &s->exit_source, s->pidfd, EPOLLIN, on_gone, s);
        if (r >= 0)
                r = sd_event_add_time_relative(s->event, &s->deadline_source, CLOCK_MONOTONIC, GRACE_USEC, 0,
                                               on_deadline, s);
        if (r < 0) {
                error_set_errno(&s->error, r, "cannot wait for %s to end", s->what);
                spawn_finish(s);
        }
}

static int on_deadline(sd_event_source *source UNUSED, uint64_t usec UNUSED, void *userdata) {
        static const char *const doing[] = {
                [SPAWN_PREPARING] = "prepared", [SPAWN_HELD] = "recorded", [SPAWN_RELEASED] = "executed"
        };
        Spawn *s = userdata;
        if (s->state == SPAWN_REAPING) {
                error_set(&s->error, ERROR_INTERNAL, "%s died before it was started", s->what);
                spawn_finish(s);
                return 0;
        }
        error_set(&s->error, ERROR_TIMEOUT, "%s was not %s within %.1f s", s->what, doing[s->state],
                  (double)s->deadline_usec / 1e6);
        spawn_reap(s);
        return 0;
}

/* The child has said something, or its end of the pipe is closed. */
static int on_status(sd_event_source *source UNUSED, int fd, uint32_t revents UNUSED, void *userdata) {
        Spawn *s = userdata;
        Status status;
        ssize_t n = read(fd, &status, sizeof status);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;

        if (n == (ssize_t)sizeof status && status.error == 0 && s->state == SPAWN_PREPARING) {
                s->state = SPAWN_HELD;
                s->prepared(s);
        } else if (n == (ssize_t)sizeof status && status.error != 0) {
                s->child_errno = abs(status.error);
                error_set_errno(&s->error, status.error, "cannot start %s: cannot %.*s", s->what,
                                (int)sizeof status.step, status.step);
                spawn_reap(s);
        } else if (n == 0 && s->state == SPAWN_RELEASED) {
                spawn_finish(s);
        } else {
                spawn_reap(s); /* it is dead, and how it died is told there */
        }
        return 0;
}

typedef struct Pipes {
        int status[2], go[2];
} Pipes;

static int pipes_open(Pipes *p) {
        *p = (Pipes){ { -1, -1 }, { -1, -1 } };
        /* The second is a socket, since writing to a pipe that nobody reads any more would raise SIGPIPE here. */
        if (pipe2(p->status, O_CLOEXEC) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->go) < 0)
                return -errno;
        /* Only the daemon's ends: the child's are to block. */
        int r = fd_set_nonblock(p->status[0], true);
        return r < 0 ? r : fd_set_nonblock(p->go[1], true);
}

static void pipes_close(Pipes *p) {
        for (int i = 0; i < 2; i++) {
                fd_drop(&p->status[i]);
                fd_drop(&p->go[i]);
        }
}

static int spawn_watch(Spawn *s) {
        int r = sd_event_add_io(s->event, &s->status_source, s->status_fd, EPOLLIN, on_status, s);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(s->event, &s->deadline_source, CLOCK_MONOTONIC, s->deadline_usec, 0, on_deadline,
                                       s);
        return r < 0 ? r : 0;
}

static pid_t fork_child(Spawn *s, const Pipes *p) {
        const int own[] = { p->status[1], p->go[0] };
        ChildFds kept[4];

        if (s->become_uid == (uid_t)-1)
                return child_fork(s->clone_flags, &s->pidfd);
        list_own(s, own, kept);
        return child_fork_as(s->become_uid, s->become_gid, s->clone_flags, kept, ARRAY_LEN(kept), &s->pidfd);
}

int spawn_start(Spawn *s, sd_event *event, Error *e) {
        AUTO(pipes_close) Pipes p;
        int r = pipes_open(&p);
        if (r < 0)
                return error_set_errno(e, r, "cannot start %s", s->what);

        s->event = sd_event_ref(event);
        s->child_errno = 0;
        pid_t pid = fork_child(s, &p);
        if (pid == 0)
                spawn_child(s, (ChildEnds){ .status = p.status[1], .go = p.go[0], .null = -1 });

        r = pid < 0 ? pid : process_identify_child(pid, &s->id);
        s->status_fd = fd_take(&p.status[0]);
        s->go_fd = fd_take(&p.go[1]);
        if (r == 0)
                r = spawn_watch(s);
        if (r < 0) {
                spawn_stop(s);
                return error_set_errno(e, r, "cannot start %s", s->what);
        }
        s->state = SPAWN_PREPARING;
        return 0;
}

void spawn_release(Spawn *s) {
        if (s->state != SPAWN_HELD)
                return;
        s->state = SPAWN_RELEASED;
        /* If it has died meanwhile this fails, and the status pipe tells. Closing what was written to loses nothing. */
        char message[SPAWN_LATE_MAX] = { GO };
        size_t length = 1;
        if (s->late_argument)
                length += strnlen(s->late_argument, sizeof message - 1);
        if (length > 1)
                memcpy(message + 1, s->late_argument, length - 1);
        if (send(s->go_fd, message, length, MSG_NOSIGNAL) != (ssize_t)length)
                s->state = SPAWN_HELD;
        fd_drop(&s->go_fd);
}

bool spawn_is_ending(const Spawn *s) {
        struct pollfd dead = { .fd = s->pidfd, .events = POLLIN };
        return s->state == SPAWN_REAPING || (s->pidfd >= 0 && poll(&dead, 1, 0) > 0);
}

int spawn_set_deadline(Spawn *s, uint64_t usec) {
        int r = sd_event_source_set_time_relative(s->deadline_source, usec);
        if (r < 0)
                return r;
        s->deadline_usec = usec;
        return 0;
}

int spawn_take_pidfd(Spawn *s) {
        s->event = sd_event_unref(s->event);
        return fd_take(&s->pidfd);
}
