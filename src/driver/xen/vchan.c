/* How it works: two buffers between a ring of shared memory and a socket
 *
 *                 libxenvchan_read()            send()
 *      domain  ----------------------> inbound --------> socket
 *              <---------------------- outbound <--------
 *                 libxenvchan_write()           recv()
 *
 *   WAITING --the stream is there--> OPEN --the other side closed it--> WAITING (VCHAN_FOREVER), ENDED (VCHAN_ONCE)
 *      |  timer, again and again      |
 *      +-- patience is over ----------+-- the socket was closed --> ENDED
 *
 * The other side is hostile: a guest that has taken its device model over. What it may do is in the library's hands,
 * which trusts no index in the shared page, and in ours: nothing waits, each buffer is bounded, one turn of the loop
 * moves a bounded amount, and connecting again takes its time. What is not taken from a buffer is not read.
 *
 * An event of the channel says nothing but "look again"; the library asks for the next one whenever it finds nothing to
 * read or no room to write. */
#include "driver/xen/vchan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libxenvchan.h>

#include "base/fd.h"
#include "base/time-util.h"

#define BUFFER_SIZE    4096
#define PASSES_MAX     16                   /* in one turn of the loop */
#define RETRY_USEC     (50 * USEC_PER_MSEC) /* doubled each time up to: */
#define RETRY_MAX      (1000 * USEC_PER_MSEC)
#define TIMER_ACCURACY (5 * USEC_PER_MSEC)

typedef struct Buffer {
        char data[BUFFER_SIZE];
        size_t used;
} Buffer;

struct Vchan {
        sd_event *event;
        uint32_t id;
        VchanKind kind;
        char path[VCHAN_PATH_MAX];
        void (*ended)(void *userdata);
        void *userdata;

        int socket;                  /* -1: ENDED */
        struct libxenvchan *channel; /* NULL: WAITING, ENDED */
        uint64_t retry_usec, give_up_usec;
        Buffer inbound, outbound;
        sd_event_source *on_socket, *on_channel, *timer, *again;
};

static void disconnect(Vchan *v) {
        v->on_channel = sd_event_source_disable_unref(v->on_channel);
        libxenvchan_close(TAKE(v->channel));
}

static int on_again(sd_event_source *s, void *userdata);

static void do_again(Vchan *v) {
        (void)sd_event_source_set_enabled(v->again, SD_EVENT_ONESHOT);
}

/* ended() comes from the loop. */
static void end(Vchan *v) {
        disconnect(v);
        v->timer = sd_event_source_disable_unref(v->timer);
        v->on_socket = sd_event_source_disable_unref(v->on_socket);
        fd_drop(&v->socket);
        do_again(v);
}

/* ---- moving bytes: 1 some moved, 0 none could, negative: that side has ended ---- */

static void drop_used(Buffer *b, size_t n) {
        b->used -= n;
        memmove(b->data, b->data + n, b->used);
}

static int receive(Vchan *v) {
        Buffer *b = &v->outbound;

        if (b->used == sizeof b->data)
                return 0;
        ssize_t n = recv(v->socket, b->data + b->used, sizeof b->data - b->used, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        b->used += (size_t)n;
        return n > 0 ? 1 : -EPIPE;
}

static int deliver(Vchan *v) {
        Buffer *b = &v->inbound;

        if (b->used == 0)
                return 0;
        ssize_t n = send(v->socket, b->data, b->used, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        drop_used(b, (size_t)n);
        return n > 0;
}

static int read_channel(Vchan *v) {
        Buffer *b = &v->inbound;

        if (!v->channel || b->used == sizeof b->data)
                return 0;
        int n = libxenvchan_read(v->channel, b->data + b->used, sizeof b->data - b->used);
        if (n < 0)
                return -EPIPE;
        b->used += (size_t)n;
        return n > 0;
}

static int write_channel(Vchan *v) {
        Buffer *b = &v->outbound;

        if (!v->channel || b->used == 0)
                return 0;
        int n = libxenvchan_write(v->channel, b->data, b->used);
        if (n < 0)
                return -EPIPE;
        drop_used(b, (size_t)n);
        return n > 0;
}

/* ---- the loop ---- */

static void wait_more(Vchan *v);

static void channel_ended(Vchan *v) {
        disconnect(v);
        if (v->kind == VCHAN_FOREVER) {
                v->outbound.used = 0; /* for whom that was is gone */
                v->retry_usec = RETRY_USEC;
                wait_more(v);
        } else
                end(v);
}

/* While what is to go to the other side has no room, the socket is not read. */
static void watch_socket(Vchan *v) {
        uint32_t events =
                (v->outbound.used < sizeof v->outbound.data ? EPOLLIN : 0) | (v->inbound.used > 0 ? EPOLLOUT : 0);

        (void)sd_event_source_set_io_events(v->on_socket, events);
}

static void pump(Vchan *v) {
        for (unsigned pass = 0; pass < PASSES_MAX; pass++) {
                int received = receive(v), read = read_channel(v);
                int delivered = deliver(v), written = write_channel(v);

                if (received < 0 || delivered < 0) {
                        (void)write_channel(v);
                        end(v);
                        return;
                }
                if (read < 0 || written < 0) {
                        if (v->inbound.used > 0 && delivered > 0)
                                continue; /* what it said before it ended */
                        channel_ended(v);
                        if (v->socket >= 0)
                                watch_socket(v);
                        return;
                }
                if (received + read + delivered + written == 0) {
                        watch_socket(v);
                        return;
                }
        }
        watch_socket(v);
        do_again(v);
}

static int on_again(UNUSED sd_event_source *s, void *userdata) {
        Vchan *v = userdata;

        if (v->socket >= 0)
                pump(v);
        else if (v->ended)
                v->ended(v->userdata);
        return 0;
}

/* A hang-up is told again and again: when nothing can be read for lack of room, it is the end. */
static int on_socket(UNUSED sd_event_source *s, UNUSED int fd, uint32_t revents, void *userdata) {
        Vchan *v = userdata;

        pump(v);
        if (revents & (EPOLLHUP | EPOLLERR) && v->socket >= 0 && v->outbound.used == sizeof v->outbound.data)
                end(v);
        return 0;
}

static int on_channel(UNUSED sd_event_source *s, UNUSED int fd, UNUSED uint32_t revents, void *userdata) {
        Vchan *v = userdata;

        if (libxenvchan_wait(v->channel) < 0)
                channel_ended(v);
        else
                pump(v);
        return 0;
}

/* ---- connecting ---- */

static int connect_channel(Vchan *v) {
        v->channel = libxenvchan_client_init(NULL, (int)v->id, v->path);
        if (!v->channel)
                return -ENOENT;
        v->channel->blocking = 0;
        int r = sd_event_add_io(v->event, &v->on_channel, libxenvchan_fd_for_select(v->channel), EPOLLIN, on_channel,
                                v);
        if (r < 0)
                disconnect(v);
        return r;
}

static int on_timer(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        Vchan *v = userdata;

        if (connect_channel(v) >= 0)
                pump(v);
        else if (v->kind == VCHAN_ONCE && now_monotonic_usec() >= v->give_up_usec)
                end(v);
        else {
                v->retry_usec = v->retry_usec * 2 < RETRY_MAX ? v->retry_usec * 2 : RETRY_MAX;
                wait_more(v);
        }
        return 0;
}

static void wait_more(Vchan *v) {
        if (sd_event_source_set_time_relative(v->timer, v->retry_usec) < 0 ||
            sd_event_source_set_enabled(v->timer, SD_EVENT_ONESHOT) < 0)
                end(v);
}

static int add_sources(Vchan *v) {
        int r = sd_event_add_defer(v->event, &v->again, on_again, v);

        if (r >= 0)
                r = sd_event_source_set_enabled(v->again, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_io(v->event, &v->on_socket, v->socket, EPOLLIN, on_socket, v);
        if (r >= 0)
                r = sd_event_add_time_relative(v->event, &v->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY, on_timer, v);
        return r;
}

int vchan_new(sd_event *event, uint32_t id, const char *path, VchanKind kind, int socket_fd,
              void (*ended)(void *userdata), void *userdata, Vchan **ret) {
        AUTO(fd_drop) int fd = socket_fd;
        Vchan *v = calloc(1, sizeof *v);
        if (!v)
                return -ENOMEM;

        v->event = sd_event_ref(event);
        v->id = id;
        v->kind = kind;
        v->ended = ended;
        v->userdata = userdata;
        v->socket = fd_take(&fd);
        v->retry_usec = RETRY_USEC;
        v->give_up_usec = now_monotonic_usec() + VCHAN_PATIENCE_USEC;
        int r = snprintf(v->path, sizeof v->path, "%s", path) < (int)sizeof v->path ? add_sources(v) : -ENAMETOOLONG;
        if (r < 0) {
                vchan_free(v);
                return r;
        }
        *ret = v;
        return 0;
}

Vchan *vchan_free(Vchan *v) {
        if (!v)
                return NULL;

        for (unsigned pass = 0; pass < PASSES_MAX && v->socket >= 0 && v->channel; pass++)
                if (read_channel(v) + deliver(v) <= 0)
                        break;
        disconnect(v);
        v->timer = sd_event_source_disable_unref(v->timer);
        v->on_socket = sd_event_source_disable_unref(v->on_socket);
        v->again = sd_event_source_disable_unref(v->again);
        fd_drop(&v->socket);
        sd_event_unref(v->event);
        free(v);
        return NULL;
}
