/* A worker: a fork that runs one function of ours, say under the caller's identity or inside a network's namespaces,
 * answers with one message and descriptors, and exits. It dies with the daemon, and at its deadline.
 *
 *   Idle --worker_start()--> Active --answer, death, deadline--> (done, Idle)
 *
 * A worker can be stuck where not even SIGKILL reaches it at once (a file on the user's own FUSE), so nobody ever waits
 * for one: it is killed, and reaped whenever it goes (process_abandon()). Where a user can have that, who starts it
 * says by Worker.lingering whom it is charged to meanwhile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/fd.h"
#include "core/process.h"

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
        void *input;     /* the child's copy of the daemon's memory holds what it points to */
        const int *keep; /* descriptors that run() needs; all others but stdio are closed */
        size_t n_keep;
        uint64_t clone_flags;   /* CLONE_NEW*: run() begins in these new namespaces; 0: in the daemon's */
        uint64_t deadline_usec; /* relative */
        Lingering lingering;    /* of one that was stopped or did not answer in time, and stays */
        /* Once, from the loop, never from inside worker_start(). e NULL: reply is the callee's to read and its
         * descriptors to take (the rest is closed after). e set: what run() said, or that it died or exceeded its
         * deadline (ERROR_TIMEOUT). May free the Worker. */
        void (*done)(Worker *w, WorkerReply *reply, const Error *e);
        void *userdata;

        /* Private. */
        int pidfd, socket;
        sd_event *event;
        sd_event_source *source, *deadline_source;
};

/* In the child: has the daemon died? For one in a new PID namespace, where child_die_with_parent() cannot tell that it
 * came too late. */
bool worker_is_orphan(void);

void worker_init(Worker *w); /* Undefined -> Idle */
/* Idle -> Active. On failure stays Idle, e is set, nothing has run and no callback comes. */
int worker_start(Worker *w, sd_event *event, Error *e);
void worker_stop(Worker *w); /* any state -> Idle; kills; no callback comes */
