/* The only place that forks.
 *
 * Two kinds of child. A *spawned program* outlives the daemon, so it must never run unrecorded: the child prepares
 * itself (identity, namespaces, mounts: the caller's prepare function), says so through a pipe and then waits. The
 * daemon records its ProcessId in the store and only then releases it; if the daemon dies first, the child reads
 * end-of-file and exits. A failure at any step up to exec comes back through the same pipe with the name of the step.
 *
 *   Idle --spawn_start()--> PREPARING --prepared--> HELD --spawn_release()--> RELEASED --exec--> (done, Idle)
 *                               |                    |                          |
 *                               +---- failure, deadline, spawn_stop(): killed and reaped ------> (done with an error,
 * Idle)
 *
 * A *worker* is a fork that runs one function of ours under the caller's identity or inside a network's namespaces,
 * answers with one message and descriptors, and exits. It dies with the daemon, and at its deadline. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/fd.h"
#include "core/process.h"

typedef struct Spawn Spawn;

/* Runs in the child before it is held. Only async-signal-agnostic constraint: the parent is single-threaded, so
 * anything goes. Returns 0 or negative errno with *ret_step naming what failed ("mount /proc"). */
typedef int (*SpawnPrepare)(void *userdata, const char **ret_step);

struct Spawn {
        /* In: set by the caller, unchanged until done() has run. */
        const char *what; /* for messages: "dnsmasq", "qemu-system-x86_64" */
        const char *path; /* absolute path as the child sees it after prepare */
        char *const *argv;
        char *const *envp;    /* NULL: empty but for PATH and LANG=C */
        uint64_t clone_flags; /* CLONE_NEW*; the child is created in the new namespaces */
        /* (uid_t)-1: the child begins as the daemon is. Else it begins as this user, who then owns the user namespace
         * of clone_flags (its owner is whoever clones): a process in between becomes it and clones a sibling. */
        uid_t become_uid;
        gid_t become_gid;
        const int *fds;       /* fds[i] becomes descriptor 3 + i of the program; all others are closed */
        size_t n_fds;
        int stdio[3];         /* -1: /dev/null */
        SpawnPrepare prepare; /* NULL: nothing */
        void *prepare_data;
        uint64_t deadline_usec; /* from start to exec; relative */
        /* The child waits: record s->id, then call spawn_release() or spawn_stop(). */
        void (*prepared)(Spawn *s);
        /* exec has happened (e is NULL and the watchable pidfd is the callee's through spawn_take()), or it failed and
         * the child is gone (e says at which step and why). May free the Spawn; nothing touches it afterwards. */
        void (*done)(Spawn *s, const Error *e);
        void *userdata;

        /* Out: valid inside prepared() and done(). */
        ProcessId id;

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
/* In done() after success: the pidfd, owned by the caller from now on. */
int spawn_take_pidfd(Spawn *s);
/* Any state -> Idle; a live child that was not taken is killed and reaped, without waiting on anything but the kernel.
 * No callback comes. */
void spawn_stop(Spawn *s);

/* Steps that several prepare functions share. Each returns 0 or negative errno. */
int child_become(uid_t uid, gid_t gid, const gid_t *groups,
                 size_t n_groups); /* all ids, no way back, no capabilities left unless uid is 0 */
int child_become_user(
        uid_t uid); /* the same with the user's own group and supplementary groups from the user database */
int child_map_root(uid_t outside_uid, gid_t outside_gid); /* in a new user namespace: ids 0 inside = these outside */
int child_die_with_parent(
        void); /* PR_SET_PDEATHSIG, and exit now if it is too late; call it after the last change of identity */
int child_drop_capabilities(void); /* all sets empty, no_new_privs */

typedef struct Worker Worker;
/* Runs in the child. Puts at most WORKER_REPLY_MAX bytes and FD_SET_MAX descriptors into the reply. Returns 0, or sets
 * e. */
#define WORKER_REPLY_MAX 32768
typedef struct WorkerReply {
        char data[WORKER_REPLY_MAX];
        size_t length;
        FdSet fds;
} WorkerReply;
typedef int (*WorkerRun)(void *input, WorkerReply *reply, Error *e);

struct Worker {
        /* In */
        const char *what; /* for messages: "opening the disks" */
        WorkerRun run;
        void *input; /* the child's copy of the daemon's memory holds what it points to */
        uint64_t deadline_usec;
        /* Once, from the loop. e NULL: reply is the callee's to read and its descriptors to take (the rest is closed
         * after). e set: what run() said, or that it died or exceeded its deadline (ERROR_TIMEOUT). May free the
         * Worker. */
        void (*done)(Worker *w, WorkerReply *reply, const Error *e);
        void *userdata;

        /* Private. */
        int pidfd, socket;
        pid_t pid;
        sd_event_source *source, *deadline_source;
};

void worker_init(Worker *w);
int worker_start(Worker *w, sd_event *event, Error *e);
void worker_stop(Worker *w); /* any state -> Idle; kills; no callback comes */
