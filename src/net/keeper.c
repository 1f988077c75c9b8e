/* Starting a keeper, and finding it again.
 *
 *   daemon                                       child
 *     keeper_prepare(): (the owner's group: owner-group.h)
 *                     spawn ------------------>  new user (the owner's), network and PID namespace; ids mapped;
 *                                                forks the server, which begins to load; waits
 *              <-- prepared -------------------
 *     keeper_start(), which began with the above, or has come now:
 *     record()
 *     plan, configuration, release ------------> exec debmarshal-keeper: builds, configures the server
 *     done()   <-- "ready" or a reason ---------
 *
 * Loading is most of what a server costs, and executing a keeper most of the rest: so the one is done while the other
 * is. The server is bound by the PID namespace whose init the child is already: it dies with it, recorded or not.
 *
 * In the system scope the ids are mapped by root's side before the child prepares (core/clone-as.h); in the session
 * scope by the child, as any user may map herself.
 *
 * From the exec on the keeper can be traced by its owner. So its message is hers: "ready" may be a lie, which harms her
 * alone, and a reason is escaped and bounded. The kernel vouches for the namespaces: their inode numbers are read off
 * the keeper while it is certainly alive. Were it made to move into other namespaces of hers before, then these are
 * what is recorded, and whoever enters them later has become her first. */
#include "net/keeper.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/string-util.h"
#include "base/time-util.h"
#include "net/keeper-protocol.h"
#include "net/plan.h"
#include "net/server.h"

enum { SERVER_INPUT, SERVER_LOG };

void keeper_start_init(KeeperStart *k) {
        *k = (KeeperStart){
                .fds = { -1, -1, -1, -1, -1, -1 },
                .server_fds = { -1, -1 },
                .status = -1,
                .pidfd = -1,
        };
        owner_group_init(&k->group);
        spawn_init(&k->spawn);
}

/* Where Spawn has what will be that descriptor of the keeper's. */
static int *keeper_fd(KeeperStart *k, int number) {
        static_assert(ARRAY_LEN(k->fds) == KEEPER_FD_END - KEEPER_FD_PLAN, "every descriptor has its place");
        return &k->fds[number - KEEPER_FD_PLAN];
}

/* What the child has by now, but for the files that are empty until there is a network. */
static void given_drop(KeeperStart *k) {
        for (int fd = KEEPER_FD_PLAN; fd < KEEPER_FD_END; fd++)
                if (fd != KEEPER_FD_PLAN && fd != KEEPER_FD_CONFIG)
                        fd_drop(keeper_fd(k, fd));
        for (size_t i = 0; i < ARRAY_LEN(k->server_fds); i++)
                fd_drop(&k->server_fds[i]);
}

static void fds_drop(KeeperStart *k) {
        given_drop(k);
        fd_drop(keeper_fd(k, KEEPER_FD_PLAN));
        fd_drop(keeper_fd(k, KEEPER_FD_CONFIG));
}

void keeper_start_stop(KeeperStart *k) {
        k->status_source = sd_event_source_disable_unref(k->status_source);
        k->deadline_source = sd_event_source_disable_unref(k->deadline_source);
        owner_group_stop(&k->group);
        spawn_stop(&k->spawn);
        fd_drop(&k->status);
        fds_drop(k);
        k->state = KEEPER_IDLE;
        if (k->pidfd >= 0) { /* a network's: it has executed */
                const Lingering lingering = network_lingering(k->owner);
                process_abandon(k->host->event, fd_take(&k->pidfd), &lingering);
        }
}

KeeperStart *keeper_start_new(const NetHost *host, Owner *owner) {
        KeeperStart *k = malloc(sizeof *k);
        if (!k)
                return NULL;
        keeper_start_init(k);
        k->host = host;
        k->owner = owner;
        owner->pins++;
        return k;
}

KeeperStart *keeper_start_free(KeeperStart *k) {
        if (!k)
                return NULL;
        keeper_start_stop(k);
        k->owner->pins--;
        free(k);
        return NULL;
}

/* The last thing that anybody does with k. */
static void keeper_fail(KeeperStart *k, const Error *e) {
        if (k->network)
                k->network->keeper = (ProcessId){ 0 };
        keeper_start_stop(k);
        k->done(k, e);
}

/* ---- the namespaces ---- */

static int namespace_path(pid_t pid, const char *kind, char path[64]) {
        return snprintf(path, 64, "/proc/%d/ns/%s", (int)pid, kind);
}

static int namespace_inode(pid_t pid, const char *kind, uint64_t *ret) {
        char path[64];
        struct stat st;
        namespace_path(pid, kind, path);
        if (stat(path, &st) < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        *ret = st.st_ino;
        return 0;
}

static int namespaces_read(pid_t pid, uint64_t *ret_user, uint64_t *ret_net) {
        int r = namespace_inode(pid, "user", ret_user);
        return r < 0 ? r : namespace_inode(pid, "net", ret_net);
}

static int namespace_open(pid_t pid, const char *kind, uint64_t inode, int *ret_fd) {
        char path[64];
        namespace_path(pid, kind, path);
        AUTO(fd_drop) int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;

        /* The number is the namespace's own: it tells whether the pid is still the keeper's and the keeper still in
         * there. */
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_ino != inode)
                return -ESRCH;
        *ret_fd = fd_take(&fd);
        return 0;
}

int network_open_namespaces(const Network *n, int *ret_user_fd, int *ret_net_fd, Error *e) {
        AUTO(fd_drop) int user_fd = -1, net_fd = -1;
        int r = n->keeper.pid > 0 ? namespace_open(n->keeper.pid, "user", n->user_ns, &user_fd) : -ESRCH;
        if (r == 0)
                r = namespace_open(n->keeper.pid, "net", n->net_ns, &net_fd);
        if (r == -ESRCH)
                return error_set(e, ERROR_NETWORK_FAILED, "The keeper of network %s is gone", n->name);
        if (r < 0)
                return error_set_errno(e, r, "Failed to open the namespaces of network %s", n->name);

        *ret_user_fd = fd_take(&user_fd);
        *ret_net_fd = fd_take(&net_fd);
        return 0;
}

/* ---- ready ---- */

static int message_check(KeeperStart *k, const char *message, size_t length, Error *e) {
        const char *name = k->network->name;
        if (length == strlen(KEEPER_READY) && memcmp(message, KEEPER_READY, length) == 0)
                return 0;
        if (length == 0)
                return error_set(e, ERROR_NETWORK_FAILED, "The keeper of network %s ended before it was ready", name);

        AUTO(string_drop) char *shown = string_escape(message, length);
        return error_set(e, ERROR_NETWORK_FAILED, "Failed to set up network %s: %s", name, string_or(shown, "?"));
}

/* The pid is still its own: it is a child that nobody has reaped. */
static int keeper_ready(KeeperStart *k, Error *e) {
        Network *n = k->network;
        int r = namespaces_read(k->network->keeper.pid, &n->user_ns, &n->net_ns);
        if (r < 0)
                return error_set_errno(e, r, "Failed to look at the namespaces of network %s", n->name);
        return 0;
}

static int on_status(sd_event_source *source UNUSED, int fd, uint32_t revents UNUSED, void *userdata) {
        KeeperStart *k = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        char message[KEEPER_MESSAGE_MAX + 1];

        ssize_t n = read(fd, message, KEEPER_MESSAGE_MAX);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        size_t length = n > 0 ? (size_t)n : 0;
        message[length] = '\0';

        int r = message_check(k, message, length, &e);
        if (r == 0)
                r = keeper_ready(k, &e);
        if (r < 0) {
                keeper_fail(k, &e);
                return 0;
        }
        k->status_source = sd_event_source_disable_unref(k->status_source);
        k->deadline_source = sd_event_source_disable_unref(k->deadline_source);
        fd_drop(&k->status);
        k->state = KEEPER_IDLE;
        k->done(k, NULL);
        return 0;
}

static int on_deadline(sd_event_source *source UNUSED, uint64_t usec UNUSED, void *userdata) {
        KeeperStart *k = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        error_set(&e, ERROR_TIMEOUT, "Network %s was not ready within %.1f s", k->network->name,
                  (double)k->deadline_usec / 1e6);
        keeper_fail(k, &e);
        return 0;
}

/* ---- the process ---- */

/* In the child. Its pid is an argument of what the child becomes. */
static int start_server(KeeperStart *k, const char **ret_step) {
        *ret_step = "start its server";
        pid_t pid = server_fork(k->host->dnsmasq_path, k->server_fds[SERVER_INPUT], k->server_fds[SERVER_LOG]);
        if (pid < 0)
                return (int)pid;
        snprintf(k->server_pid, sizeof k->server_pid, "%d", (int)pid);
        return 0;
}

static int prepare_keeper(void *userdata, const char **ret_step) {
        KeeperStart *k = userdata;
        int r = 0;
        (void)prctl(PR_SET_NAME, k->argv[0]); /* it may wait for long, and is no second daemon */
        if (!k->host->privileged) {
                *ret_step = "map its user in a new user namespace";
                r = child_map_root(child_outside_uid(), child_outside_gid());
        }
        return r < 0 ? r : start_server(k, ret_step);
}

/* It waits, and has a network now. */
static int let_go(KeeperStart *k, Error *e) {
        fds_drop(k);
        k->network->keeper = k->spawn.id;
        int r = k->record(k, e);
        if (r >= 0)
                spawn_release(&k->spawn);
        return r;
}

static void on_prepared(Spawn *s) {
        KeeperStart *k = container_of(s, KeeperStart, spawn);
        AUTO(error_clear) Error e = ERROR_INIT;

        /* Its end of the pipe is the keeper's alone now, so that its death is the end of the stream; and so it is with
         * the server's log. */
        given_drop(k);
        if (k->state == KEEPER_STARTING) {
                if (let_go(k, &e) < 0)
                        keeper_fail(k, &e);
                return;
        }
        k->state = KEEPER_HELD;
        int r = spawn_set_deadline(s, k->spare_usec);
        if (r < 0) {
                error_set_errno(&e, r, "Failed to bound the life of a spare keeper");
                keeper_fail(k, &e);
        }
}

static int wait_for_message(KeeperStart *k) {
        uint64_t spent = now_monotonic_usec() - k->started_usec;
        uint64_t left = spent < k->deadline_usec ? k->deadline_usec - spent : 0;
        int r = sd_event_add_io(k->host->event, &k->status_source, k->status, EPOLLIN, on_status, k);
        if (r >= 0)
                r = sd_event_add_time_relative(k->host->event, &k->deadline_source, CLOCK_MONOTONIC, left, 1,
                                               on_deadline, k);
        return r < 0 ? r : 0;
}

/* Say also which setting it may be, when the kernel refused a namespace. */
static void add_hint(Error *e) {
        const char *hint = userns_hint();
        if (!hint)
                return;
        AUTO(error_clear) Error hinted = ERROR_INIT;
        error_set(&hinted, ERROR_NOT_SUPPORTED, "%s: %s", error_text(e), hint);
        error_clear(e);
        error_move(e, &hinted);
}

static void on_spawned(Spawn *s, const Error *failure) {
        KeeperStart *k = container_of(s, KeeperStart, spawn);
        AUTO(error_clear) Error e = ERROR_INIT;

        if (error_copy(&e, failure) < 0) {
                if (failure->id == ERROR_INTERNAL)
                        add_hint(&e);
        } else {
                k->pidfd = spawn_take_pidfd(s);
                int r = wait_for_message(k);
                if (r < 0)
                        error_set_errno(&e, r, "Failed to wait for the keeper of network %s", k->network->name);
        }
        if (error_is_set(&e))
                keeper_fail(k, &e);
}

/* ---- prepare ---- */

static int open_file(KeeperStart *k, int number, const char *name) {
        int *fd = keeper_fd(k, number);
        *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return *fd < 0 ? -errno : 0;
}

static int fill_file(KeeperStart *k, int number, const char *text) {
        return fd_memfd_fill(*keeper_fd(k, number), text, strlen(text), true);
}

static int open_pipes(KeeperStart *k) {
        int pair[2];
        /* No socket: its owner could send us descriptors, and choose what their last close does. */
        if (pipe2(pair, O_CLOEXEC) < 0)
                return -errno;
        k->status = pair[0];
        *keeper_fd(k, KEEPER_FD_STATUS) = pair[1];
        int r = fd_set_nonblock(k->status, true);
        if (r < 0)
                return r;

        if (pipe2(pair, O_CLOEXEC) < 0)
                return -errno;
        k->server_fds[SERVER_INPUT] = pair[0];
        *keeper_fd(k, KEEPER_FD_INPUT) = pair[1];

        if (pipe2(pair, O_CLOEXEC) < 0)
                return -errno;
        *keeper_fd(k, KEEPER_FD_LOG) = pair[0];
        k->server_fds[SERVER_LOG] = pair[1];
        return 0;
}

static int open_program(KeeperStart *k, Error *e) {
        int *fd = keeper_fd(k, KEEPER_FD_PROGRAM);
        *fd = open(k->host->keeper_path, O_PATH | O_CLOEXEC);
        return *fd < 0 ? error_set_errno(e, errno, "Failed to find %s", k->host->keeper_path) : 0;
}

static void describe_spawn(KeeperStart *k) {
        Spawn *s = &k->spawn;
        k->argv[0] = (char *)(uintptr_t) "debmarshal-keeper";
        k->argv[1] = k->server_pid;
        k->argv[2] = (char *)(uintptr_t) "spare"; /* its name comes with the network */
        s->what = "the network's keeper";
        s->path = KEEPER_PROGRAM_PATH;
        s->argv = k->argv;
        s->clone_flags = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID;
        if (k->host->privileged) {
                s->become_uid = k->owner->uid;
                s->become_gid = k->owner->group; /* so that it is what she has inside */
        }
        s->prepare = prepare_keeper;
        s->prepare_data = k;
        s->fds = k->fds;
        s->n_fds = ARRAY_LEN(k->fds);
        s->keep = k->server_fds;
        s->n_keep = ARRAY_LEN(k->server_fds);
        s->deadline_usec = k->deadline_usec;
        s->lingering = k->network ? network_lingering(k->owner) : spare_lingering(k->owner);
        s->prepared = on_prepared;
        s->done = on_spawned;
}

static int spawn_keeper(KeeperStart *k, Error *e) {
        AUTO(error_clear) Error failure = ERROR_INIT;

        describe_spawn(k);
        if (spawn_start(&k->spawn, k->host->event, &failure) < 0) {
                add_hint(&failure);
                return error_move(e, &failure);
        }
        return 0;
}

static void group_asked(OwnerGroup *g) {
        KeeperStart *k = container_of(g, KeeperStart, group);
        AUTO(error_clear) Error e = ERROR_INIT;

        if (spawn_keeper(k, &e) < 0)
                keeper_fail(k, &e);
}

static int ask_for_group(KeeperStart *k, Error *e) {
        k->group.owner = k->owner;
        k->group.done = group_asked;
        return owner_group_ask(&k->group, k->host->event, e);
}

static int open_all(KeeperStart *k, Error *e) {
        int r = open_file(k, KEEPER_FD_PLAN, "keeper-plan");
        if (r >= 0)
                r = open_file(k, KEEPER_FD_CONFIG, "dnsmasq-conf");
        if (r >= 0)
                r = open_pipes(k);
        if (r < 0)
                return error_set_errno(e, r, "Failed to prepare a network's keeper");
        return open_program(k, e);
}

int keeper_prepare(KeeperStart *k, Error *e) {
        if (!*k->host->dnsmasq_path)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "dnsmasq was not found, which serves DHCP and DNS: install the package dnsmasq-base");

        k->state = KEEPER_PREPARING;
        int r = open_all(k, e);
        if (r >= 0)
                r = k->host->privileged && !owner_group_is_known(k->owner) ? ask_for_group(k, e) : spawn_keeper(k, e);
        if (r < 0)
                keeper_start_stop(k);
        return r;
}

bool keeper_is_ending(const KeeperStart *k) {
        return spawn_is_ending(&k->spawn);
}

/* ---- start ---- */

static int tell_network(KeeperStart *k, Error *e) {
        AUTO(string_drop) char *plan = NULL, *config = NULL;
        int r = keeper_plan_format(k->network, k->host->dnsmasq_path, &plan);
        if (r >= 0)
                r = dnsmasq_config_format(k->network, &config);
        if (r >= 0)
                r = fill_file(k, KEEPER_FD_PLAN, plan);
        if (r >= 0)
                r = fill_file(k, KEEPER_FD_CONFIG, config);
        if (r >= 0 && k->state == KEEPER_HELD)
                r = spawn_set_deadline(&k->spawn, k->deadline_usec);
        if (r < 0)
                return error_set_errno(e, r, "Failed to plan network %s", k->network->name);
        k->spawn.late_argument = k->network->name;
        k->spawn.lingering = network_lingering(k->owner);
        return 0;
}

int keeper_start(KeeperStart *k, Error *e) {
        k->started_usec = now_monotonic_usec();
        int r = k->state == KEEPER_IDLE ? keeper_prepare(k, e) : 0;
        if (r >= 0)
                r = tell_network(k, e);
        if (r >= 0) {
                bool waits = k->state == KEEPER_HELD;
                k->state = KEEPER_STARTING;
                r = waits ? let_go(k, e) : 0;
        }
        if (r < 0) {
                k->network->keeper = (ProcessId){ 0 };
                keeper_start_stop(k);
        }
        return r;
}

static int watch(Network *n, sd_event *event, int pidfd, ProcessEnded ended, void *userdata) {
        int r = process_watch(&n->process, event, &n->keeper, pidfd, ended, userdata);
        if (r >= 0)
                n->process.lingering = network_lingering(n->owner);
        return r;
}

int keeper_watch(KeeperStart *k, ProcessEnded ended, void *userdata) {
        return watch(k->network, k->host->event, fd_take(&k->pidfd), ended, userdata);
}

/* ---- after a restart ---- */

int keeper_adopt(const NetHost *host, Network *n, ProcessEnded ended, void *userdata) {
        AUTO(fd_drop) int pidfd = -1;
        uint64_t user_ns = 0, net_ns = 0;
        int r = process_open(&n->keeper, &pidfd);
        if (r == 0)
                r = namespaces_read(n->keeper.pid, &user_ns, &net_ns);
        if (r < 0)
                return r;
        if (user_ns != n->user_ns || net_ns != n->net_ns)
                return -ESRCH;
        return watch(n, host->event, fd_take(&pidfd), ended, userdata);
}
