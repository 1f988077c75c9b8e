/* See worker.h. The answer is one SEQPACKET message: a header, the text of the error, the data; and the descriptors.
 * The worker may have parsed hostile bytes, so the header is believed only where it agrees with the message's length.
 */
#include "core/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/child.h"

#define MESSAGE_MAX 4096

typedef struct Header {
        uint32_t error_id; /* an ErrorId */
        uint32_t message_length, data_length;
} Header;

typedef struct Packet {
        Header header;
        char body[MESSAGE_MAX + WORKER_REPLY_MAX];
} Packet;

void worker_init(Worker *w) {
        *w = (Worker){ .pidfd = -1, .socket = -1 };
}

/* ---- in the child ---- */

static int answer_socket; /* the daemon has the other end */

bool worker_is_orphan(void) {
        struct pollfd p = { .fd = answer_socket, .events = 0 };

        return poll(&p, 1, 0) != 0; /* nothing was asked for: a hang-up, or a failure */
}

static int send_reply(int socket, const WorkerReply *reply, const Error *e) {
        Packet *p = calloc(1, sizeof *p);
        if (!p)
                return -ENOMEM;

        p->header.error_id = e->id;
        if (error_is_set(e)) {
                size_t length = strnlen(error_text(e), MESSAGE_MAX);
                memcpy(p->body, error_text(e), length);
                p->header.message_length = (uint32_t)length;
        } else {
                memcpy(p->body, reply->data, reply->length);
                p->header.data_length = (uint32_t)reply->length;
        }
        size_t size = sizeof p->header + p->header.message_length + p->header.data_length;
        int r = fd_send(socket, p, size, reply->fds.fds, error_is_set(e) ? 0 : reply->fds.count);
        free(p);
        return r;
}

static int run_in_child(const Worker *w, WorkerReply *reply, int socket, Error *e) {
        static const int stdio[] = { 0, 1, 2 };
        const ChildFds kept[] = { { stdio, 3 }, { &socket, 1 }, { w->keep, w->n_keep } };

        int r = child_close_others(kept, 3);
        if (r == 0)
                r = fd_fill_stdio();
        if (r < 0)
                return error_set_errno(e, r, "cannot arrange descriptors");
        r = child_unshare(w->clone_flags);
        if (r < 0)
                return error_set_errno(e, r, "cannot make its namespaces");

        answer_socket = socket;
        r = w->run(w->input, reply, e);
        if (r >= 0 && reply->length > WORKER_REPLY_MAX)
                r = -EMSGSIZE;
        /* Where run() gave no reason of its own. */
        return r < 0 ? error_set_errno(e, r, "%s failed", w->what) : 0;
}

static _Noreturn void worker_child(const Worker *w, int socket) {
        Error e = ERROR_INIT;
        WorkerReply *reply = calloc(1, sizeof *reply);
        if (!reply)
                _exit(EXIT_FAILURE);

        if (run_in_child(w, reply, socket, &e) == 0)
                error_clear(&e);
        _exit(send_reply(socket, reply, &e) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* ---- in the daemon ---- */

static void let_go(Worker *w, const Lingering *lingering) {
        w->source = sd_event_source_disable_unref(w->source);
        w->deadline_source = sd_event_source_disable_unref(w->deadline_source);
        fd_drop(&w->socket);
        if (w->pidfd >= 0)
                process_abandon(w->event, fd_take(&w->pidfd), lingering);
        w->event = sd_event_unref(w->event);
}

void worker_stop(Worker *w) {
        let_go(w, &w->lingering);
}

/* The last thing that anybody does with w. One that has answered is about to exit, and is charged to nobody for as long
 * as that takes: lingering is NULL. */
static void worker_finish(Worker *w, const Lingering *lingering, WorkerReply *reply, const Error *e) {
        let_go(w, lingering);
        w->done(w, error_is_set(e) ? NULL : reply, error_is_set(e) ? e : NULL);
}

static int decode(const Worker *w, const Packet *p, size_t length, WorkerReply *reply, Error *e) {
        const Header *h = &p->header;
        if (length < sizeof *h || h->message_length > MESSAGE_MAX || h->data_length > WORKER_REPLY_MAX ||
            length != sizeof *h + h->message_length + h->data_length || h->error_id >= ERROR_ID_COUNT)
                return error_set(e, ERROR_INTERNAL, "%s: garbled answer", w->what);
        if (h->error_id != ERROR_NONE)
                return error_set(e, (ErrorId)h->error_id, "%.*s", (int)h->message_length, p->body);

        memcpy(reply->data, p->body + h->message_length, h->data_length);
        reply->length = h->data_length;
        return 0;
}

static int on_dead(sd_event_source *source UNUSED, int fd, uint32_t revents UNUSED, void *userdata) {
        Worker *w = userdata;
        ChildExit exit = { CHILD_UNKNOWN, 0 };
        if (process_reap(fd, &exit) == 0) {
                w->source = sd_event_source_disable_unref(w->source); /* traced; the deadline ends it */
                return 0;
        }

        AUTO(error_clear) Error e = ERROR_INIT;
        char how[CHILD_EXIT_TEXT_MAX];
        error_set(&e, ERROR_INTERNAL, "%s: the process for it %s", w->what, child_exit_format(&exit, how));
        worker_finish(w, &w->lingering, NULL, &e);
        return 0;
}

/* It closed its end without an answer: it is dying. Learn how. */
static int watch_death(Worker *w) {
        w->source = sd_event_source_disable_unref(w->source);
        return sd_event_add_io(w->event, &w->source, w->pidfd, EPOLLIN, on_dead, w);
}

static void take_answer(Worker *w, int socket, Packet *packet, WorkerReply *reply) {
        AUTO(error_clear) Error e = ERROR_INIT;
        size_t length = 0;
        int r = fd_receive(socket, packet, sizeof *packet, &length, &reply->fds);
        if (r == -EAGAIN)
                return;
        if (r == 0 && length == 0) {
                r = watch_death(w);
                if (r >= 0)
                        return;
        }
        if (r < 0)
                error_set_errno(&e, r, "%s: cannot receive the answer", w->what);
        else
                (void)decode(w, packet, length, reply, &e);
        worker_finish(w, NULL, reply, &e);
}

static int on_answer(sd_event_source *source UNUSED, int fd, uint32_t revents UNUSED, void *userdata) {
        Worker *w = userdata;
        Packet *packet = calloc(1, sizeof *packet);
        WorkerReply *reply = calloc(1, sizeof *reply);

        if (packet && reply) {
                take_answer(w, fd, packet, reply); /* w may be gone now */
                fd_set_clear(&reply->fds);
        } else {
                AUTO(error_clear) Error e = ERROR_INIT;
                error_set_errno(&e, ENOMEM, "%s: cannot receive the answer", w->what);
                worker_finish(w, &w->lingering, NULL, &e);
        }
        free(packet);
        free(reply);
        return 0;
}

static int on_deadline(sd_event_source *source UNUSED, uint64_t usec UNUSED, void *userdata) {
        Worker *w = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        error_set(&e, ERROR_TIMEOUT, "%s took longer than %.1f s", w->what, (double)w->deadline_usec / 1e6);
        worker_finish(w, &w->lingering, NULL, &e);
        return 0;
}

static int add_sources(Worker *w) {
        int r = fd_set_nonblock(w->socket, true);
        if (r == 0)
                r = sd_event_add_io(w->event, &w->source, w->socket, EPOLLIN, on_answer, w);
        if (r >= 0)
                r = sd_event_add_time_relative(w->event, &w->deadline_source, CLOCK_MONOTONIC, w->deadline_usec, 0,
                                               on_deadline, w);
        return r < 0 ? r : 0;
}

/* The fork comes last: where something else fails, nothing has run. What a killed worker has begun may still happen. */
int worker_start(Worker *w, sd_event *event, Error *e) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return error_set_errno(e, errno, "cannot start %s", w->what);
        AUTO(fd_drop) int theirs = pair[1];

        w->event = sd_event_ref(event);
        w->socket = pair[0];
        int r = add_sources(w);
        if (r >= 0)
                r = child_fork(w->clone_flags, &w->pidfd);
        if (r == 0)
                worker_child(w, theirs);
        if (r < 0) {
                worker_stop(w);
                return error_set_errno(e, r, "cannot start %s", w->what);
        }
        return 0;
}
