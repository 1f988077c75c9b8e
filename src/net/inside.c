/* Each act is a worker: it enters (enter.h), does the one thing, hands the descriptors over and is gone. What it made
 * stays in the namespace as long as its descriptor is open somewhere: a tap, a socket.
 *
 * The owner may have changed anything in there, the bridge taken down or renamed included. Then the act fails. */
#include "net/inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time-util.h"
#include "net/enter.h"
#include "net/taps.h"

#define LISTEN_BACKLOG 128

/* ---- in the worker: sockets ---- */

#define ENDPOINT_MAX (INET6_ADDRSTRLEN + 10)
static const char *endpoint_format(const struct sockaddr_storage *to, char buffer[ENDPOINT_MAX]) {
        char address[INET6_ADDRSTRLEN] = "?";
        if (to->ss_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)to;
                inet_ntop(AF_INET6, &in6->sin6_addr, address, sizeof address);
                snprintf(buffer, ENDPOINT_MAX, "[%s]:%u", address, ntohs(in6->sin6_port));
        } else {
                const struct sockaddr_in *in = (const struct sockaddr_in *)to;
                inet_ntop(AF_INET, &in->sin_addr, address, sizeof address);
                snprintf(buffer, ENDPOINT_MAX, "%s:%u", address, ntohs(in->sin_port));
        }
        return buffer;
}

static int tcp_socket(const InsideJob *j, int *ret_fd) {
        int fd = socket(j->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

/* Connect, but no longer than until end (monotonic). */
static int connect_until(int fd, const struct sockaddr_storage *to, socklen_t length, uint64_t end) {
        int r = fd_set_nonblock(fd, true);
        if (r < 0)
                return r;
        if (connect(fd, (const struct sockaddr *)to, length) == 0)
                return fd_set_nonblock(fd, false);
        if (errno != EINPROGRESS)
                return -errno;

        struct pollfd p = { .fd = fd, .events = POLLOUT };
        int ready;
        do {
                uint64_t now = now_monotonic_usec();
                ready = poll(&p, 1, now < end ? (int)((end - now) / USEC_PER_MSEC) : 0);
        } while (ready < 0 && errno == EINTR);
        if (ready <= 0)
                return ready < 0 ? -errno : -ETIMEDOUT;

        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                return -errno;
        return error != 0 ? -error : fd_set_nonblock(fd, false);
}

/* The answer must come before the worker's own deadline kills it. */
static uint64_t connect_usec(uint64_t deadline_usec) {
        return deadline_usec - deadline_usec / 10;
}

static int run_connect(const InsideJob *j, WorkerReply *reply, Error *e) {
        char where[ENDPOINT_MAX];
        AUTO(fd_drop) int fd = -1;
        int r = tcp_socket(j, &fd);
        if (r == 0)
                r = connect_until(fd, &j->to, j->to_length, now_monotonic_usec() + connect_usec(j->deadline_usec));
        if (r < 0)
                return error_set(e, ERROR_CONNECTION_FAILED, "Failed to connect to %s: %s",
                                 endpoint_format(&j->to, where), strerror(-r));
        r = fd_set_add(&reply->fds, fd_take(&fd));
        return r < 0 ? error_set_errno(e, r, "Failed to hand over a socket") : 0;
}

static int listen_on(const InsideJob *j, int fd) {
        const int on = 1;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            bind(fd, (const struct sockaddr *)&j->to, j->to_length) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
                return -errno;
        return 0;
}

static int run_listen(const InsideJob *j, WorkerReply *reply, Error *e) {
        char where[ENDPOINT_MAX];
        AUTO(fd_drop) int fd = -1;
        int r = tcp_socket(j, &fd);
        if (r == 0)
                r = listen_on(j, fd);
        if (r < 0)
                return error_set(e, ERROR_CONNECTION_FAILED, "Failed to listen on %s: %s",
                                 endpoint_format(&j->to, where), strerror(-r));
        r = fd_set_add(&reply->fds, fd_take(&fd));
        return r < 0 ? error_set_errno(e, r, "Failed to hand over a socket") : 0;
}

static int run(void *input, WorkerReply *reply, Error *e) {
        const InsideJob *j = input;
        if (j->act == INSIDE_TAPS)
                return taps_make(j->namespaces, j->host->privileged, j->owner_uid, j->n_taps, &reply->fds, e);

        const char *step = "enter it";
        int r = enter_network(j->namespaces, j->host->privileged, j->owner_uid, NULL, NULL, &step);
        if (r < 0)
                return error_set_errno(e, r, "Failed to reach into the network: cannot %s", step);
        return j->act == INSIDE_CONNECT ? run_connect(j, reply, e) : run_listen(j, reply, e);
}

/* ---- in the daemon ---- */

void inside_init(InsideJob *j) {
        *j = (InsideJob){ .namespaces = { -1, -1 } };
        worker_init(&j->worker);
}

void inside_stop(InsideJob *j) {
        worker_stop(&j->worker);
        for (size_t i = 0; i < ENTER_COUNT; i++)
                fd_drop(&j->namespaces[i]);
}

static void on_done(Worker *w, WorkerReply *reply, const Error *failure) {
        InsideJob *j = w->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        size_t wanted = j->act == INSIDE_TAPS ? j->n_taps : 1;

        for (size_t i = 0; i < ENTER_COUNT; i++)
                fd_drop(&j->namespaces[i]);
        if (!failure && reply->fds.count != wanted) {
                error_set(&e, ERROR_INTERNAL, "Got %zu descriptors out of a network instead of %zu", reply->fds.count,
                          wanted);
                failure = &e;
        }
        j->done(j, failure ? NULL : &reply->fds, failure);
}

static const char *const act_names[] = {
        [INSIDE_TAPS] = "connecting a guest to its network",
        [INSIDE_CONNECT] = "connecting into the network",
        [INSIDE_LISTEN] = "listening in the network",
};

int inside_start(InsideJob *j, const Network *n, Error *e) {
        if (j->act == INSIDE_TAPS && j->n_taps > FD_SET_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "%zu taps at once are too many", j->n_taps);
        int r = network_open_namespaces(n, &j->namespaces[ENTER_USER], &j->namespaces[ENTER_NET], e);
        if (r < 0)
                return r;

        j->owner_uid = n->owner->uid;
        j->worker.what = act_names[j->act];
        j->worker.run = run;
        j->worker.input = j;
        j->worker.keep = j->namespaces;
        j->worker.n_keep = ENTER_COUNT;
        j->worker.deadline_usec = j->deadline_usec;
        j->worker.done = on_done;
        j->worker.userdata = j;
        r = worker_start(&j->worker, j->host->event, e);
        if (r < 0)
                inside_stop(j);
        return r;
}
