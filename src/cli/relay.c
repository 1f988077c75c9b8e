/* One poll loop, one buffer for each direction. A side is read only while its buffer is empty, so that a slow reader
 * slows its writer down and memory is bounded.
 *
 * in and out are left in the mode they have: they may be a terminal, or a pipe that other programs share, and a
 * changed flag would be seen by them all. So they are read and written only when poll() says so, and written in
 * pieces of RELAY_INPUT_MAX, which a pipe that is ready takes whole. Only the socket is made non-blocking.
 *
 * Whether the other side has ended only its own direction (FIN) or is gone altogether, TCP tells us no sooner than when
 * we send. So with whole_input the end of the socket stops the reading alone; what shows that the input is lost is the
 * reset with which a closed socket answers it: an error of send(), or POLLERR where nothing more was to be sent. */
#include "cli/relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time-util.h"

#define OUTPUT_MAX 65536
#define DRAIN_MSEC 10

typedef struct Buffer {
        char data[OUTPUT_MAX];
        size_t begin, end;
} Buffer;

typedef struct Loop {
        Relay *relay;
        Buffer to_socket, to_out;
        bool in_ended, in_terminal;
        bool socket_ended;      /* with whole_input: nothing more comes from it */
        bool draining;          /* everything is sent, and the kernel still has some of it */
        int lost;               /* -errno: the other side took no more */
        uint64_t deadline_usec; /* 0: none */
        bool done;
} Loop;

static bool is_empty(const Buffer *b) {
        return b->begin == b->end;
}

static bool would_wait(int err) {
        return err == EAGAIN || err == EINTR;
}

static void finish(Loop *l, int end) {
        l->relay->end = end;
        l->done = true;
}

static void end_input(Loop *l) {
        l->in_ended = true;
        if (l->relay->linger_usec)
                l->deadline_usec = now_monotonic_usec() + l->relay->linger_usec;
        if (l->relay->half_close && is_empty(&l->to_socket))
                shutdown(l->relay->socket, SHUT_WR);
        if (l->relay->output && l->relay->output(l->relay->user, "", 0, true))
                finish(l, RELAY_STOPPED); /* nothing more was waited for */
}

static void read_input(Loop *l) {
        ssize_t n = read(l->relay->in, l->to_socket.data, RELAY_INPUT_MAX);

        if (n < 0 && would_wait(errno))
                return;
        if (n <= 0) { /* a terminal that hung up says EIO */
                end_input(l);
                return;
        }
        l->to_socket.begin = 0;
        l->to_socket.end = (size_t)n;
        if (l->relay->input && l->relay->input(l->relay->user, l->to_socket.data, &l->to_socket.end))
                finish(l, RELAY_STOPPED);
}

static int write_socket(Loop *l) {
        Buffer *b = &l->to_socket;
        ssize_t n = send(l->relay->socket, b->data + b->begin, b->end - b->begin, MSG_NOSIGNAL);

        if (n < 0 && would_wait(errno))
                return 0;
        if (n < 0) { /* it takes no more; what it still has to say is read */
                b->begin = b->end;
                l->in_ended = true;
                l->lost = -errno;
                return errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
        }
        b->begin += (size_t)n;
        if (is_empty(b) && l->in_ended && l->relay->half_close)
                shutdown(l->relay->socket, SHUT_WR);
        return 0;
}

static int read_socket(Loop *l) {
        if (l->socket_ended) { /* it has hung up; with no input at hand there is nothing that it did not take */
                l->in_ended |= is_empty(&l->to_socket);
                return 0;
        }
        ssize_t n = recv(l->relay->socket, l->to_out.data, sizeof l->to_out.data, 0);

        if (n < 0 && would_wait(errno))
                return 0;
        if (n < 0 && (errno != ECONNRESET || l->relay->whole_input))
                return -errno;
        if (n <= 0 && l->relay->whole_input) {
                l->socket_ended = true;
                return 0;
        }
        if (n <= 0) {
                finish(l, RELAY_CLOSED);
                return 0;
        }
        l->to_out.begin = 0;
        l->to_out.end = (size_t)n;
        return 0;
}

static int write_output(Loop *l) {
        Buffer *b = &l->to_out;
        size_t length = b->end - b->begin;
        ssize_t n = write(l->relay->out, b->data + b->begin, length < RELAY_INPUT_MAX ? length : RELAY_INPUT_MAX);

        if (n < 0 && would_wait(errno))
                return 0;
        if (n < 0 && errno == EPIPE) {
                finish(l, RELAY_OUT_CLOSED);
                return 0;
        }
        if (n < 0)
                return -errno;
        b->begin += (size_t)n;
        if (l->relay->output && l->relay->output(l->relay->user, b->data + b->begin - n, (size_t)n, l->in_ended))
                finish(l, RELAY_STOPPED);
        return 0;
}

/* After the end of the socket: is the input all taken, too? Nobody waits for an answer any more, so this is where a
 * transfer that was cut off is told from one that is complete; the kernel would go on sending behind our back. */
static int settle(Loop *l) {
        int err = 0, unsent = 0;
        socklen_t length = sizeof err;

        l->draining = false;
        if (!l->socket_ended || !is_empty(&l->to_socket))
                return 0;
        if (l->lost < 0)
                return l->lost;
        if (getsockopt(l->relay->socket, SOL_SOCKET, SO_ERROR, &err, &length) < 0)
                return -errno;
        if (err)
                return -err;
        if (!l->in_ended && !l->in_terminal)
                return 0;
        l->draining = ioctl(l->relay->socket, SIOCOUTQ, &unsent) == 0 && unsent > 0;
        if (!l->draining)
                finish(l, RELAY_CLOSED);
        return 0;
}

enum { POLL_IN, POLL_OUT, POLL_SOCKET, POLL_SIGNAL, POLL_COUNT };

static void prepare(const Loop *l, struct pollfd p[POLL_COUNT]) {
        const Relay *r = l->relay;
        bool reading = !l->in_ended && is_empty(&l->to_socket);

        p[POLL_IN] = (struct pollfd){ .fd = reading ? r->in : -1, .events = POLLIN };
        p[POLL_OUT] =
                (struct pollfd){ .fd = l->socket_ended ? -1 : r->out, .events = is_empty(&l->to_out) ? 0 : POLLOUT };
        p[POLL_SOCKET] = (struct pollfd){ .fd = r->socket };
        if (is_empty(&l->to_out) && !l->socket_ended)
                p[POLL_SOCKET].events |= POLLIN;
        if (!is_empty(&l->to_socket))
                p[POLL_SOCKET].events |= POLLOUT;
        if (!p[POLL_SOCKET].events && (!l->socket_ended || l->draining))
                p[POLL_SOCKET].fd = -1; /* its hang-up, which cannot be masked, must not spin us */
        p[POLL_SIGNAL] = (struct pollfd){ .fd = r->signal_fd, .events = POLLIN };
}

static int turn(Loop *l, const struct pollfd p[POLL_COUNT]) {
        int r = 0;

        if (p[POLL_SIGNAL].revents && l->relay->signalled(l->relay->user)) {
                finish(l, RELAY_STOPPED);
                return 0;
        }
        if (p[POLL_IN].revents)
                read_input(l);
        if (!l->done && p[POLL_OUT].revents) {
                if (!is_empty(&l->to_out))
                        r = write_output(l);
                else
                        finish(l, RELAY_OUT_CLOSED);
        }
        if (r == 0 && !l->done && !is_empty(&l->to_socket) && (p[POLL_SOCKET].revents & (POLLOUT | POLLERR | POLLHUP)))
                r = write_socket(l);
        if (r == 0 && !l->done && is_empty(&l->to_out) && (p[POLL_SOCKET].revents & (POLLIN | POLLERR | POLLHUP)))
                r = read_socket(l);
        return r;
}

static int time_left_msec(const Loop *l) {
        uint64_t now = now_monotonic_usec();

        if (l->draining) /* poll() does not tell when the other side has taken the last byte */
                return DRAIN_MSEC;
        if (!l->deadline_usec)
                return -1;
        return now >= l->deadline_usec ? 0 : (int)((l->deadline_usec - now) / USEC_PER_MSEC) + 1;
}

int relay_run(Relay *relay, Error *e) {
        Loop l = { .relay = relay, .in_ended = relay->in < 0, .in_terminal = relay->in >= 0 && isatty(relay->in) };
        struct pollfd p[POLL_COUNT];

        int r = fd_set_nonblock(relay->socket, true);
        if (r < 0)
                return error_set_errno(e, r, "cannot use the connection");
        while (!l.done) {
                prepare(&l, p);
                int n = poll(p, POLL_COUNT, time_left_msec(&l));
                if (n < 0 && errno != EINTR)
                        return error_set_errno(e, errno, "cannot wait for the connection");
                if (n == 0 && !l.draining)
                        finish(&l, RELAY_LINGERED);
                r = n > 0 ? turn(&l, p) : 0;
                if (r == 0 && !l.done)
                        r = settle(&l);
                if (r < 0)
                        return error_set_errno(e, r,
                                               l.lost ? "not all of the input was taken" : "the connection failed");
        }
        return 0;
}

int copy_all(int from, int to, const char *what, Error *e) {
        char buffer[OUTPUT_MAX];

        for (;;) {
                ssize_t n = read(from, buffer, sizeof buffer);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(e, errno, "cannot read %s", what);
                if (n == 0)
                        return 0;
                int r = fd_write_all(to, buffer, (size_t)n);
                if (r < 0)
                        return error_set_errno(e, r, "cannot write %s", what);
        }
}
