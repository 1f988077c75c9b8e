/* Programs that outlive the daemon.
 *
 * A spawned program must never run unrecorded: the child prepares itself (identity, namespaces, mounts: the caller's
 * prepare function), says so through a pipe and then waits. The daemon records its ProcessId in the store and only then
 * releases it; if the daemon dies first, the kernel kills the child. A failure at any step up to exec comes back
 * through the same pipe with the name of the step. A child may be held for long, when it was made before it was needed;
 * what its program is to be told that was not known then, it hears as it is released.
 *
 *   Idle --spawn_start()--> PREPARING --prepared--> HELD --spawn_release()--> RELEASED --exec--> (done, Idle)
 *                               |                    |                          |
 *                               +-- failure, death, deadline ---+---------------+
 *                                                               v
 *                                                            REAPING --gone--> (done with an error, Idle)
 *
 * See worker.h for the other kind of child, child.h for the steps that prepare functions share. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "core/child.h"
#include "core/process.h"
#include "core/worker.h"

typedef struct Spawn Spawn;

/* Runs in the child before it is held. Only async-signal-agnostic constraint: the parent is single-threaded, so
 * anything goes. Returns 0 or negative errno with *ret_step naming what failed ("mount /proc"). */
typedef int (*SpawnPrepare)(void *userdata, const char **ret_step);

#define SPAWN_LATE_MAX 64

struct Spawn {
        /* In: set by the caller, unchanged until done() has run. */
        const char *what; /* for messages: "dnsmasq", "qemu-system-x86_64" */
        const char *path; /* absolute path as the child sees it after prepare */
        char *const *argv;
        char *const *envp;    /* NULL: empty but for PATH and LANG=C */
        uint64_t clone_flags; /* CLONE_NEW*; the child is in these new namespaces when prepare() begins */
        /* (uid_t)-1: the child begins as the daemon is. Else it begins as this user, who then owns the user namespace
         * of clone_flags (its owner is whoever clones): a process in between becomes it and clones a sibling. */
        uid_t become_uid;
        gid_t become_gid;
        const int *fds; /* fds[i] becomes descriptor 3 + i of the program; all others are closed */
        size_t n_fds;
        const int *keep; /* what prepare needs beside fds and stdio; open until it has returned */
        size_t n_keep;
        int stdio[3];         /* -1: /dev/null */
        SpawnPrepare prepare; /* NULL: nothing */
        void *prepare_data;
        uint64_t deadline_usec; /* from start to exec; relative */
        Lingering lingering;    /* of one that failed */
        /* The child waits: record s->id, then call spawn_release() or spawn_stop(). May do so later, and may free the
         * Spawn after spawn_stop(). */
        void (*prepared)(Spawn *s);
        /* exec has happened (e is NULL and the watchable pidfd is the callee's through spawn_take_pidfd()), or it
         * failed and the child is gone (e says at which step and why; "gone" includes killed while stuck in the kernel,
         * from where it will not come back to run anything). The Spawn is Idle. May free it; nothing touches it
         * afterwards. */
        void (*done)(Spawn *s, const Error *e);
        void *userdata;
        /* NULL, or what takes the place of argv's last as the child is released, shorter than SPAWN_LATE_MAX: to be set
         * before that, at any time. */
        const char *late_argument;

        /* Out: valid inside prepared() and done(). */
        ProcessId id;
        int child_errno; /* in done() with an error: the errno of the step that failed in the child; 0: no step did */

        /* Private. */
        int pidfd, status_fd, go_fd, state;
        sd_event *event;
        sd_event_source *status_source, *deadline_source, *exit_source;
        Error error;
};

void spawn_init(Spawn *s); /* Undefined -> Idle */
/* Idle -> PREPARING. On failure stays Idle, e is set and no callback comes. Callbacks never run from inside. */
int spawn_start(Spawn *s, sd_event *event, Error *e);
void spawn_release(Spawn *s); /* HELD -> RELEASED */
/* The child has ended, or is killed, of which done() is yet to tell. */
bool spawn_is_ending(const Spawn *s);
/* PREPARING or HELD: not from start to exec, but from now to exec. On failure the former deadline stays. */
int spawn_set_deadline(Spawn *s, uint64_t usec);
/* In done() after success: the pidfd, owned by the caller from now on. */
int spawn_take_pidfd(Spawn *s);
/* Any state -> Idle; a live child that was not taken is killed, and reaped when it is gone. No callback comes. */
void spawn_stop(Spawn *s);
