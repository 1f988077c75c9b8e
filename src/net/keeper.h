/* A network's keeper: the process that is the network.
 *
 * debmarshal-keeper runs as the owner's uid in a user namespace (owned by that uid), a network and a PID namespace of
 * its own, of which it is the init. It builds the bridge and its addresses by netlink, gives dnsmasq its configuration,
 * which has been loading meanwhile, says "ready" on its status pipe, and then waits; a dnsmasq that dies is started
 * again (a bounded number of times), and keeps no descriptor of the daemon. When the keeper dies the kernel kills what
 * is in its PID namespace and takes the network namespace apart: removing a network is one SIGKILL. The owner may enter
 * it and is hostile input here: nothing it says later is trusted. */
#pragma once

#include "core/network.h"
#include "core/spawn.h"
#include "net/owner-group.h"

/* Where the daemon's parts are, and in which scope it lives. Filled in once by the daemon. */
typedef struct NetHost {
        sd_event *event;
        const char *keeper_path;  /* debmarshal-keeper */
        const char *dnsmasq_path; /* "" when none was found: keeper_start() then fails, naming the package */
        bool privileged;          /* system scope: children become the owner's uid first */
} NetHost;

/* A keeper that is being started. Most of it needs no network, but only to know whose it will be: so it may be prepared
 * before one is asked for, and waits then, unrecorded, which means that it dies with the daemon.
 *
 *   Idle --keeper_prepare()--> PREPARING --> HELD --keeper_start()--> STARTING --ready--> (done, Idle)
 *     |                            |          |                        ^   |
 *     |                            +----------+-- failure, deadline ---+---+--> (done with an error, Idle)
 *     +------------------------ keeper_start() ------------------------+
 */
typedef struct KeeperStart KeeperStart;
struct KeeperStart {
        /* In */
        const NetHost *host;
        Owner *owner;
        uint64_t deadline_usec; /* from keeper_start() to ready, and from keeper_prepare() to HELD */
        uint64_t spare_usec;    /* how long it stays HELD without a network */
        /* Ready (e NULL; network->process is then watchable with keeper_watch(), and user_ns and net_ns are set) or
         * failed and gone, or at least killed. May free the KeeperStart. */
        void (*done)(KeeperStart *k, const Error *e);
        void *userdata;

        /* In, for keeper_start(), NULL before it. */
        Network *network; /* the owner's; its keeper, user_ns and net_ns are filled in here */
        /* The keeper exists and waits; network->keeper is set. Record it and return 0, or set e: it is then killed and
         * done() gets e. */
        int (*record)(KeeperStart *k, Error *e);

        /* Private. */
        enum { KEEPER_IDLE, KEEPER_PREPARING, KEEPER_HELD, KEEPER_STARTING } state;
        OwnerGroup group;
        Spawn spawn;
        char *argv[4], server_pid[12];
        int fds[6];        /* the keeper's, in the order of keeper-protocol.h */
        int server_fds[2]; /* the server's ends of its pipes, by SERVER_INPUT and SERVER_LOG */
        int status, pidfd;
        uint64_t started_usec;
        sd_event_source *status_source, *deadline_source;
};

void keeper_start_init(KeeperStart *k); /* Undefined -> Idle */
/* One of its own, which pins its owner; NULL: no memory. To free it is to stop it; NULL allowed, returns NULL. */
KeeperStart *keeper_start_new(const NetHost *host, Owner *owner);
KeeperStart *keeper_start_free(KeeperStart *k);
int keeper_prepare(KeeperStart *k, Error *e); /* as spawn_start() */
/* PREPARING or HELD, but nothing to start any more; done() is yet to tell. */
bool keeper_is_ending(const KeeperStart *k);
/* IDLE, PREPARING or HELD -> STARTING. On failure Idle, e is set and no callback comes. record() may run from inside,
 * done() does not. */
int keeper_start(KeeperStart *k, Error *e);
/* Any state -> Idle; a keeper that is not yet handed over is killed. No callback comes. */
void keeper_start_stop(KeeperStart *k);

/* After done() with success: hand the pidfd to network->process. ended fires when the keeper dies. */
int keeper_watch(KeeperStart *k, ProcessEnded ended, void *userdata);

/* After a restart of the daemon: the keeper of a recorded network. -ESRCH: dead, or its namespaces are not the recorded
 * ones. Idle -> watched. */
int keeper_adopt(const NetHost *host, Network *n, ProcessEnded ended, void *userdata);

/* Descriptors of the keeper's namespaces, verified against the recorded inode numbers. ERROR_NETWORK_FAILED when the
 * keeper is dead. */
int network_open_namespaces(const Network *n, int *ret_user_fd, int *ret_net_fd, Error *e);

/* Why this host has no user namespaces for the daemon: the setting that forbids them and how to change it; NULL when
 * none is found. A fixed text. */
const char *userns_hint(void);
