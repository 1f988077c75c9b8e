/* Acts inside a network's namespaces, each by a worker that has first become the owner (system scope) and then joined
 * the keeper's user and network namespace: so nothing the owner did in there can turn the daemon's privilege against
 * the host. All are asynchronous. */
#pragma once

#include "core/network.h"
#include "core/spawn.h"
#include "net/keeper.h"

typedef enum InsideAct { INSIDE_TAPS, INSIDE_CONNECT, INSIDE_LISTEN } InsideAct;

typedef struct InsideJob InsideJob;
struct InsideJob {
        /* In */
        const NetHost *host;
        InsideAct act;
        size_t n_taps; /* INSIDE_TAPS: that many taps on the bridge, up, not persistent, with IFF_VNET_HDR */
        struct sockaddr_storage
                to; /* INSIDE_CONNECT: a TCP socket connected to it. INSIDE_LISTEN: one that listens on it */
        socklen_t to_length;
        uint64_t deadline_usec;
        /* e NULL: fds holds what was asked for, in order; the callee takes them. */
        void (*done)(InsideJob *j, FdSet *fds, const Error *e);
        void *userdata;

        /* Private. */
        int namespaces[2]; /* user, network */
        uid_t owner_uid;
        Worker worker;
};
void inside_init(InsideJob *j);
/* Network must be UP. As worker_start(). */
int inside_start(InsideJob *j, const Network *n, Error *e);
void inside_stop(InsideJob *j);

/* A packet capture: a process inside the namespaces that writes pcapng to a pipe until the reader closes it, the
 * network goes, or the daemon dies. device NULL: the bridge. */
typedef struct Capture Capture;
struct Capture {
        /* In */
        const NetHost *host;
        const char *device;  /* the caller's, as long as capture_start() runs */
        Lingering lingering; /* it runs as the network's owner, who may trace it */
        /* The stream has begun (e NULL: read_fd is the reader's end, the callee's), or it failed. */
        void (*started)(Capture *c, int read_fd, const Error *e);
        /* It has ended, for whatever reason, after started() without error. May free. */
        void (*ended)(Capture *c);
        void *userdata;

        /* Private. */
        int namespaces[2]; /* user, network */
        int fds[3];        /* the program's: packet socket (made in the child), keeper, program */
        int write_fd, read_fd;
        uid_t owner_uid;
        bool has_device;
        char *argv[4];
        char parent[16];
        Spawn spawn;
        Process process;
};
void capture_init(Capture *c);
int capture_start(Capture *c, const Network *n, Error *e);
void capture_stop(Capture *c);
