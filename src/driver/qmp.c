/* How it works
 *
 *            greeting              capabilities agreed
 *   GREETING ---------> NEGOTIATING ------------------> READY
 *      |                    |                             |
 *      +--------------------+-----------------------------+--> CLOSED   (end of file, a line that is no QMP,
 *                                                                         qmp_close())
 *
 * Commands are kept in order in one list from qmp_send() until their answer has come. Those that have not been written
 * wait at its end: `unsent` is the first of them; nothing but qmp_capabilities is written before READY. Each has an id,
 * by which its answer finds it, and a deadline. One that passes its deadline is answered with an error and stays in the
 * list without a reply function, so that a late answer finds something to be dropped into; QMP_COMMANDS_MAX of them
 * make the client refuse more, until the emulator catches up.
 *
 * A turn of the loop reads at most READ_SIZE bytes, so that a flood of events of one emulator costs others little. A
 * callback may close or free the client at any time: the state is looked at after each, and the memory goes when the
 * turn ends. */
#include "driver/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/qmp-message.h"

#define READ_SIZE      8192
#define ERROR_TEXT_MAX 512

typedef enum QmpState { QMP_GREETING, QMP_NEGOTIATING, QMP_READY, QMP_CLOSED, QMP_STATE_COUNT } QmpState;

typedef struct Command {
        uint64_t id;
        char *text; /* what is still to be written is at text + written */
        size_t length, written;
        int fd; /* goes with the first byte; ours */
        uint64_t deadline_usec;
        QmpReply reply;
        void *userdata;
        TAILQ_ENTRY(Command) entry;
} Command;

struct Qmp {
        QmpState state;
        int fd, listener;
        sd_event *event;
        sd_event_source *io, *timer;
        const QmpEvents *events;
        void *userdata;
        uint64_t deadline_usec, last_id;
        TAILQ_HEAD(CommandList, Command) commands;
        Command *unsent; /* the first that is not wholly written; NULL: all are */
        size_t n_commands;
        bool busy, dead; /* inside a turn of the loop; freed in it */
        char *line;      /* what has been read of a line */
        size_t length, capacity;
};

static Command *command_free(Command *c) {
        if (!c)
                return NULL;
        fd_drop(&c->fd);
        free(c->text);
        free(c);
        return NULL;
}

static void command_answer(Command *c, json_t *result, const Error *e) {
        QmpReply reply = TAKE(c->reply);

        if (reply)
                reply(c->userdata, result, e);
}

/* The state is CLOSED before anybody is told, so that nothing that they call adds a command. */
static void answer_all(Qmp *q, const Error *e) {
        Command *c;

        q->unsent = NULL;
        while ((c = TAILQ_FIRST(&q->commands))) {
                TAILQ_REMOVE(&q->commands, c, entry);
                q->n_commands--;
                command_answer(c, NULL, e);
                command_free(c);
        }
}

static void shut(Qmp *q, const Error *e) {
        if (q->state == QMP_CLOSED)
                return;
        q->state = QMP_CLOSED;
        q->io = sd_event_source_disable_unref(q->io);
        q->timer = sd_event_source_disable_unref(q->timer);
        fd_drop(&q->fd);
        fd_drop(&q->listener);
        answer_all(q, e);
}

static void turn_begins(Qmp *q) {
        q->busy = true;
}

static int turn_ends(Qmp *q) {
        q->busy = false;
        if (q->dead)
                qmp_free(q);
        return 0;
}

static void close_quietly(Qmp *q) {
        AUTO(error_clear) Error e = ERROR_INIT;

        error_set(&e, ERROR_INVALID_STATE, "The guest is ending");
        shut(q, &e);
}

/* Whoever is answered here may free the client, as in any other callback. */
void qmp_close(Qmp *q) {
        bool nested = q->busy;

        turn_begins(q);
        close_quietly(q);
        if (!nested)
                (void)turn_ends(q);
}

bool qmp_is_open(const Qmp *q) {
        return q && q->state != QMP_CLOSED;
}

static void broken(Qmp *q, const char *why) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (q->state == QMP_CLOSED)
                return;
        error_set(&e, ERROR_HYPERVISOR_FAILED, "Lost the emulator's monitor: %s", why);
        shut(q, &e);
        q->events->closed(q->userdata, &e);
}

/* ---- sending ---- */

static ssize_t send_some(Qmp *q, Command *c) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec iov = { c->text + c->written, c->length - c->written };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (c->fd >= 0) {
                message.msg_control = control.bytes;
                message.msg_controllen = sizeof control.bytes;
                struct cmsghdr *header = CMSG_FIRSTHDR(&message);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(header), &c->fd, sizeof(int));
        }
        return sendmsg(q->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Write what may be written. Returns a negative errno when the connection is broken. */
static int flush(Qmp *q) {
        while (q->unsent && (q->state == QMP_READY || q->state == QMP_NEGOTIATING)) {
                Command *c = q->unsent;
                ssize_t n = send_some(q, c);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return sd_event_source_set_io_events(q->io, EPOLLIN | EPOLLOUT);
                if (n < 0)
                        return -errno;
                fd_drop(&c->fd);
                c->written += (size_t)n;
                if (c->written == c->length)
                        q->unsent = TAILQ_NEXT(c, entry);
        }
        return q->io ? sd_event_source_set_io_events(q->io, EPOLLIN) : 0;
}

/* The first command that somebody waits for, and whose deadline is no later than that. NULL: none. */
static Command *first_waiting(Qmp *q, uint64_t usec) {
        Command *c;

        TAILQ_FOREACH (c, &q->commands, entry)
                if (c->reply && c->deadline_usec <= usec)
                        return c;
        return NULL;
}

/* The deadlines are in the list's order. */
static int arm_timer(Qmp *q) {
        Command *c = first_waiting(q, UINT64_MAX);

        if (!q->timer)
                return 0;
        if (!c)
                return sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
        int r = sd_event_source_set_time(q->timer, c->deadline_usec);
        return r < 0 ? r : sd_event_source_set_enabled(q->timer, SD_EVENT_ONESHOT);
}

static int on_timer(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        Qmp *q = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        uint64_t now = now_monotonic_usec();
        Command *c;

        turn_begins(q);
        error_set(&e, ERROR_HYPERVISOR_FAILED, "The emulator does not answer");
        while ((c = first_waiting(q, now)))
                command_answer(c, NULL, &e);
        arm_timer(q);
        return turn_ends(q);
}

/* {"execute": ..., "arguments": ..., "id": ...} and a newline. Takes arguments. */
static char *encode(const char *command, json_t *arguments, uint64_t id) {
        json_t *root = json_pack("{s:s, s:I}", "execute", command, "id", (json_int_t)id);
        char *text = NULL, *line = NULL;

        if (root && (!arguments || json_object_set(root, "arguments", arguments) == 0))
                text = json_dumps(root, JSON_COMPACT);
        if (text)
                line = string_printf("%s\n", text);
        free(text);
        json_decref(root);
        json_decref(arguments);
        return line;
}

static int command_new(Qmp *q, const char *command, json_t *arguments, int fd, Command **ret) {
        Command *c = calloc(1, sizeof *c);

        if (!c) {
                json_decref(arguments);
                return -ENOMEM;
        }
        c->id = ++q->last_id;
        c->fd = -1;
        c->text = encode(command, arguments, c->id);
        if (!c->text) {
                command_free(c);
                return -ENOMEM;
        }
        c->length = strlen(c->text);
        if (fd >= 0) {
                c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                if (c->fd < 0) {
                        int r = -errno;
                        command_free(c);
                        return r;
                }
        }
        c->deadline_usec = now_monotonic_usec() + q->deadline_usec;
        *ret = c;
        return 0;
}

int qmp_send(Qmp *q, const char *command, json_t *arguments, int fd, QmpReply reply, void *userdata, Error *e) {
        Command *c;

        if (!q || q->state == QMP_CLOSED || q->n_commands >= QMP_COMMANDS_MAX) {
                json_decref(arguments);
                if (q && q->state != QMP_CLOSED)
                        return error_set(e, ERROR_BUSY, "The emulator has %zu unanswered requests already",
                                         q->n_commands);
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The emulator's monitor is not connected");
        }
        int r = command_new(q, command, arguments, fd, &c);
        if (r < 0)
                return error_set_errno(e, r, "Failed to send %s to the emulator", command);

        c->reply = reply;
        c->userdata = userdata;
        TAILQ_INSERT_TAIL(&q->commands, c, entry);
        q->n_commands++;
        if (!q->unsent)
                q->unsent = c;
        arm_timer(q);
        /* A broken connection shows again in the loop, where closed() may be called. */
        if (q->state == QMP_READY)
                flush(q);
        return 0;
}

void qmp_set_deadline(Qmp *q, uint64_t usec) {
        q->deadline_usec = usec;
}

/* ---- receiving ---- */

static void capabilities_agreed(void *userdata, UNUSED json_t *result, const Error *e) {
        Qmp *q = userdata;

        if (e) {
                broken(q, error_text(e));
                return;
        }
        q->state = QMP_READY;
        q->events->ready(q->userdata);
        if (q->state == QMP_READY && flush(q) < 0)
                broken(q, "it does not take commands");
}

/* Nothing else may have been written: the negotiation goes to the head of the list. */
static void greeted(Qmp *q) {
        Command *c;

        if (q->listener >= 0)
                (void)listen(q->listener, SOMAXCONN); /* sets that alone, since it listens already */
        fd_drop(&q->listener);
        int r = command_new(q, "qmp_capabilities", NULL, -1, &c);

        if (r < 0) {
                broken(q, strerror(-r));
                return;
        }
        c->reply = capabilities_agreed;
        c->userdata = q;
        TAILQ_INSERT_HEAD(&q->commands, c, entry);
        q->n_commands++;
        q->state = QMP_NEGOTIATING;
        Command *rest = q->unsent;
        q->unsent = c;
        while (q->unsent == c) {
                ssize_t n = send_some(q, c);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n != (ssize_t)c->length) { /* a fresh socket has room for 40 bytes */
                        broken(q, "it does not take commands");
                        return;
                }
                c->written = c->length;
                q->unsent = rest;
        }
}

static Command *find_written(Qmp *q, uint64_t id) {
        Command *c;

        TAILQ_FOREACH (c, &q->commands, entry)
                if (c->id == id && c->written == c->length)
                        return c;
        return NULL;
}

static void answered(Qmp *q, QmpMessage *m) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(string_drop) char *shown = NULL;
        Command *c = find_written(q, m->id);

        if (!c) {
                broken(q, "it answers what nobody asked");
                return;
        }
        TAILQ_REMOVE(&q->commands, c, entry);
        q->n_commands--;
        if (m->kind == QMP_MESSAGE_ERROR) {
                shown = string_escape(m->text, ERROR_TEXT_MAX);
                error_set(&e, ERROR_HYPERVISOR_FAILED, "The emulator refused: %s", string_or(shown, "?"));
        }
        command_answer(c, m->data, error_is_set(&e) ? &e : NULL);
        command_free(c);
        arm_timer(q);
}

static void handle_line(Qmp *q, const char *line, size_t length) {
        AUTO(qmp_message_done) QmpMessage m = { 0 };
        int r = qmp_message_parse(line, length, &m);

        if (r < 0) {
                broken(q, r == -ENOMEM ? "out of memory" : "it says what is no QMP");
                return;
        }
        if (m.kind == QMP_MESSAGE_EVENT) {
                if (q->state == QMP_READY)
                        q->events->event(q->userdata, m.name, m.data);
        } else if (m.kind == QMP_MESSAGE_GREETING && q->state == QMP_GREETING)
                greeted(q);
        else if (m.kind != QMP_MESSAGE_GREETING && q->state != QMP_GREETING)
                answered(q, &m);
        else
                broken(q, "it says what does not belong here");
}

static int make_room(Qmp *q) {
        size_t capacity = q->length + READ_SIZE;
        if (capacity <= q->capacity)
                return 0;
        char *line = realloc(q->line, capacity);
        if (!line)
                return -ENOMEM;
        q->line = line;
        q->capacity = capacity;
        return 0;
}

/* Hand over each whole line in the buffer; scanned is where the new bytes begin. */
static void handle_buffer(Qmp *q, size_t scanned) {
        size_t start = 0;
        char *end;

        while (q->state != QMP_CLOSED && (end = memchr(q->line + scanned, '\n', q->length - scanned))) {
                size_t next = (size_t)(end - q->line) + 1;
                handle_line(q, q->line + start, next - 1 - start);
                start = scanned = next;
        }
        q->length -= start;
        memmove(q->line, q->line + start, q->length);
        if (q->length == 0) { /* a thousand quiet emulators need no buffer */
                free(TAKE(q->line));
                q->capacity = 0;
        } else if (q->length > QMP_LINE_MAX)
                broken(q, "it sends a line without end");
}

static void receive(Qmp *q) {
        if (make_room(q) < 0) {
                broken(q, "out of memory");
                return;
        }
        ssize_t n = recv(q->fd, q->line + q->length, READ_SIZE, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                broken(q, n == 0 ? "it was closed" : strerror(errno));
                return;
        }
        size_t scanned = q->length;
        q->length += (size_t)n;
        handle_buffer(q, scanned);
}

static int on_io(UNUSED sd_event_source *s, UNUSED int fd, uint32_t revents, void *userdata) {
        Qmp *q = userdata;

        turn_begins(q);
        if ((revents & EPOLLOUT) && flush(q) < 0)
                broken(q, "it does not take commands");
        if (q->state != QMP_CLOSED && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                receive(q);
        return turn_ends(q);
}

/* ---- life ---- */

int qmp_new(sd_event *event, int fd, const QmpEvents *events, void *userdata, Qmp **ret) {
        Qmp *q = calloc(1, sizeof *q);
        if (!q) {
                fd_drop(&fd);
                return -ENOMEM;
        }
        *q = (Qmp){ .fd = fd, .listener = -1, .event = event, .events = events, .userdata = userdata };
        q->deadline_usec = QMP_DEADLINE_USEC;
        TAILQ_INIT(&q->commands);

        int r = sd_event_add_io(event, &q->io, fd, EPOLLIN, on_io, q);
        if (r >= 0)
                r = sd_event_add_time(event, &q->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer, q);
        if (r >= 0)
                r = sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
        if (r < 0) {
                qmp_free(q);
                return r;
        }
        *ret = q;
        return 0;
}

void qmp_take_listener(Qmp *q, int fd) {
        fd_drop(&q->listener);
        q->listener = fd;
}

Qmp *qmp_free(Qmp *q) {
        if (!q)
                return NULL;
        if (q->busy) {
                q->dead = true; /* turn_ends() comes back here */
                close_quietly(q);
                return NULL;
        }
        q->busy = true;
        close_quietly(q);
        free(q->line);
        free(q);
        return NULL;
}
