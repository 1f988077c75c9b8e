/* A console is one stream of bytes with positions: what the guest has printed since the daemon looks. The ring holds
 * the newest part of it, and a client is no more than a socket and the position that it has come to:
 *
 *      0 . . . . . . . [ oldest ======= ring ======= total )
 *                         ^ a new client     ^ a client that is a little behind
 *
 * Output goes into the ring and the log at once; each client takes what it has not seen, in its own turn of the loop,
 * when its socket has room. So no client costs memory beyond its socket, and none can hold up the guest or another: a
 * client whose position has fallen out of the ring loses what lies between and is told how much. The source is read in
 * pieces much smaller than the ring, so that a client that keeps up loses nothing.
 *
 * Input goes the other way through one small buffer, to the source that spoke last; to both before one has, as after a
 * daemon's death, when nobody knows which of its lines the guest listens to. While it is full, or there is no
 * such source, no client is read: the pressure ends at the client. Of a client that has hung up, what fits into the
 * buffer is kept.
 *
 * Clients end only in their own event handlers, never inside a call from outside, but for console_free().
 *
 * Writing to a FIFO that nobody reads raises SIGPIPE: the process must ignore that signal. */
#include "guest/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/bounded-log.h"

#define READ_SIZE  (16 * 1024) /* of the source, in one turn of the loop */
#define INPUT_SIZE (4 * 1024)
#define DRAIN_MAX  (1024 * 1024) /* read from a source that goes away */

#define BUFFERS_SIZE (CONSOLE_RING_SIZE + INPUT_SIZE)

typedef struct Client {
        Console *console;
        int fd;
        uint64_t position; /* the next byte of the stream that it gets */
        char marker[64];   /* to be sent before anything else */
        size_t marker_length, marker_sent;
        uint64_t skipped; /* what the marker says */
        bool input_ended; /* it has shut down its side */
        sd_event_source *io, *patience;
        void (*ended)(void *userdata);
        void *userdata;
        TAILQ_ENTRY(Client) entry;
} Client;

/* One of the guest's lines. */
typedef struct Source {
        Console *console;
        int read_fd, write_fd; /* -1: none */
        sd_event_source *read_source, *write_source;
} Source;

#define SOURCES 2

struct Console {
        sd_event *event;
        uint64_t patience_usec;

        char *ring;     /* byte N of the stream is at N % CONSOLE_RING_SIZE */
        uint64_t total; /* bytes of the stream so far */
        char last;      /* the newest of them */

        BoundedLog log;

        Source sources[SOURCES];
        Source *speaker; /* the one that gets input */
        bool heard;      /* it has spoken, since there are two: before that the other one is given the same */
        char *input;     /* behind the ring */
        size_t input_length;

        TAILQ_HEAD(, Client) clients;
        size_t n_clients;
};

/* ---- The ring ---- */

static uint64_t oldest(const Console *c) {
        return c->total > CONSOLE_RING_SIZE ? c->total - CONSOLE_RING_SIZE : 0;
}

static void ring_put(Console *c, const char *data, size_t length) {
        while (length > 0) {
                size_t at = c->total % CONSOLE_RING_SIZE;
                size_t n = length < CONSOLE_RING_SIZE - at ? length : CONSOLE_RING_SIZE - at;

                memcpy(c->ring + at, data, n);
                c->total += n;
                c->last = data[n - 1];
                data += n;
                length -= n;
        }
}

/* ---- Clients ---- */

static bool takes_input(const Console *c) {
        return c->speaker->write_fd >= 0 && c->input_length < INPUT_SIZE;
}

static bool is_behind(const Client *client) {
        return client->marker_sent < client->marker_length || client->position < client->console->total;
}

/* Ask for the events that the client's state calls for. A failure to do so would leave it waiting for ever, so it is
 * shut down, which gives a hang-up whatever is asked for. */
static void client_update(Client *client) {
        uint32_t events = 0;
        int enabled = SD_EVENT_OFF, r;

        if (!client->input_ended && takes_input(client->console))
                events |= EPOLLIN;
        if (is_behind(client))
                events |= EPOLLOUT;

        r = sd_event_source_set_io_events(client->io, events);
        if (r >= 0)
                r = sd_event_source_get_enabled(client->patience, &enabled);
        /* Patience runs while there is something to send; client_send() winds it up again with each byte taken. */
        if (r >= 0 && is_behind(client) && enabled == SD_EVENT_OFF) {
                r = sd_event_source_set_time_relative(client->patience, client->console->patience_usec);
                if (r >= 0)
                        r = sd_event_source_set_enabled(client->patience, SD_EVENT_ONESHOT);
        } else if (r >= 0 && !is_behind(client) && enabled != SD_EVENT_OFF)
                r = sd_event_source_set_enabled(client->patience, SD_EVENT_OFF);
        if (r < 0)
                (void)shutdown(client->fd, SHUT_RDWR);
}

static void clients_update(Console *c) {
        Client *client;

        TAILQ_FOREACH (client, &c->clients, entry)
                client_update(client);
}

static void client_end(Client *client) {
        Console *c = client->console;

        TAILQ_REMOVE(&c->clients, client, entry);
        c->n_clients--;
        sd_event_source_disable_unref(client->io);
        sd_event_source_disable_unref(client->patience);
        fd_drop(&client->fd);
        client->ended(client->userdata);
        free(client);
}

/* 1: taken in part or whole, 0: no room, negative: the client is gone. */
static int client_write(Client *client, const char *data, size_t length, size_t *ret_taken) {
        ssize_t n;

        do
                n = send(client->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        *ret_taken = (size_t)n;
        return 1;
}

/* A marker of which nothing is sent yet grows with what is skipped meanwhile. */
static void client_mark_skipped(Client *client) {
        Console *c = client->console;
        int n;

        if (client->marker_sent == client->marker_length)
                client->skipped = 0;
        client->skipped += oldest(c) - client->position;
        n = snprintf(client->marker, sizeof client->marker, "\r\n[debmarshal: %llu bytes skipped]\r\n",
                     (unsigned long long)client->skipped);
        client->marker_length = (size_t)n;
        client->marker_sent = 0;
        client->position = oldest(c);
}

/* One piece of what the client has not seen: the marker, or the ring up to its edge. */
static int client_send_piece(Client *client) {
        Console *c = client->console;
        size_t n = 0;
        int r;

        if (client->position < oldest(c) && (client->marker_sent == 0 || client->marker_sent == client->marker_length))
                client_mark_skipped(client);
        if (client->marker_sent < client->marker_length) {
                r = client_write(client, client->marker + client->marker_sent,
                                 client->marker_length - client->marker_sent, &n);
                client->marker_sent += n;
                return r;
        }

        size_t at = client->position % CONSOLE_RING_SIZE;
        uint64_t left = c->total - client->position;
        r = client_write(client, c->ring + at, left < CONSOLE_RING_SIZE - at ? (size_t)left : CONSOLE_RING_SIZE - at,
                         &n);
        client->position += n;
        return r;
}

static int client_send(Client *client) {
        bool progress = false;
        int r = 1;

        while (is_behind(client) && r > 0) {
                r = client_send_piece(client);
                progress = progress || r > 0;
        }
        if (progress)
                (void)sd_event_source_set_enabled(client->patience, SD_EVENT_OFF);
        return r < 0 ? r : 0;
}

/* 1: something came, 0: nothing to take or no room for it, negative: the client is gone. */
static int client_receive(Client *client) {
        Console *c = client->console;
        ssize_t n;

        if (client->input_ended || !takes_input(c))
                return 0;
        n = recv(client->fd, c->input + c->input_length, INPUT_SIZE - c->input_length, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                client->input_ended = true;
        c->input_length += (size_t)n;
        return n > 0;
}

static void input_flush(Console *c);

static int client_io(sd_event_source *s UNUSED, int fd UNUSED, uint32_t revents, void *userdata) {
        Client *client = userdata;
        bool hung_up = revents & (EPOLLHUP | EPOLLERR);
        int r;

        if (revents & EPOLLOUT && client_send(client) < 0)
                hung_up = true;
        /* Once in each turn, so that all clients get theirs; the last words of one that has gone all at once. */
        do {
                r = client_receive(client);
                input_flush(client->console);
        } while (r > 0 && hung_up);

        if (r < 0 || hung_up)
                client_end(client);
        else
                client_update(client);
        return 0;
}

static int client_patience_ended(sd_event_source *s UNUSED, uint64_t usec UNUSED, void *userdata) {
        client_end(userdata);
        return 0;
}

/* ---- The source ---- */

static void output(Console *c, const char *data, size_t length) {
        if (length == 0)
                return;
        ring_put(c, data, length);
        bounded_log_write(&c->log, data, length);
        clients_update(c);
}

static void drop_write_side(Source *s) {
        Console *c = s->console;

        s->write_source = sd_event_source_disable_unref(s->write_source);
        fd_drop(&s->write_fd);
        if (s != c->speaker)
                return;
        c->input_length = 0;
        for (size_t i = 0; i < SOURCES; i++)
                if (c->sources[i].write_fd >= 0)
                        c->speaker = &c->sources[i];
}

static void drop_source(Source *s) {
        s->read_source = sd_event_source_disable_unref(s->read_source);
        fd_drop(&s->read_fd);
        drop_write_side(s);
}

/* What its line does not take at once is lost: who does not read it does not listen. */
static void write_to_other(Console *c, const char *data, size_t length) {
        Source *other = &c->sources[c->speaker == c->sources];

        if (!c->heard && other->write_fd >= 0 && write(other->write_fd, data, length) < 0 && errno == EPIPE)
                drop_write_side(other);
}

/* Give the guest what it takes; wait for the rest, and let the clients go on when there is room. */
static void input_flush(Console *c) {
        bool was_full = c->input_length == INPUT_SIZE;
        Source *s = c->speaker;
        ssize_t n = 0;

        if (s->write_fd < 0)
                return;
        while (c->input_length > 0) {
                n = write(s->write_fd, c->input, c->input_length);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                write_to_other(c, c->input, (size_t)n);
                c->input_length -= (size_t)n;
                memmove(c->input, c->input + n, c->input_length);
        }
        if (n < 0 && errno != EAGAIN) {
                drop_write_side(s);
                clients_update(c);
                return;
        }
        if (sd_event_source_set_enabled(s->write_source, c->input_length > 0 ? SD_EVENT_ON : SD_EVENT_OFF) < 0)
                c->input_length = 0;
        if (was_full && c->input_length < INPUT_SIZE)
                clients_update(c);
}

static int source_writable(sd_event_source *source UNUSED, int fd UNUSED, uint32_t revents UNUSED, void *userdata) {
        Source *s = userdata;

        if (s == s->console->speaker)
                input_flush(s->console);
        else
                (void)sd_event_source_set_enabled(s->write_source, SD_EVENT_OFF);
        return 0;
}

/* What the former speaker has not taken goes to this one. */
static void hear(Source *s) {
        Console *c = s->console;

        if (s->write_fd < 0)
                return;
        c->heard = true;
        if (s == c->speaker)
                return;
        c->speaker = s;
        input_flush(c);
        clients_update(c);
}

/* 1: something was read, 0: nothing is there now, negative: the source has ended. */
static int read_source(Source *s) {
        char data[READ_SIZE];
        ssize_t n = read(s->read_fd, data, sizeof data);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -EPIPE;
        output(s->console, data, (size_t)n);
        hear(s);
        return 1;
}

static int source_readable(sd_event_source *source UNUSED, int fd UNUSED, uint32_t revents, void *userdata) {
        Source *s = userdata;
        int r = read_source(s);

        if (r < 0 || (r == 0 && revents & (EPOLLHUP | EPOLLERR) && !(revents & EPOLLIN))) {
                drop_source(s);
                clients_update(s->console);
        }
        return 0;
}

/* What a source still holds before it goes; bounded, since whoever is behind it may be writing all the time. */
static void drain_source(Source *s) {
        size_t most = DRAIN_MAX / READ_SIZE;

        while (s->read_fd >= 0 && most-- > 0 && read_source(s) > 0)
                ;
}

static int add_read_side(Source *s) {
        int r;

        r = fd_set_nonblock(s->read_fd, true);
        if (r < 0)
                return r;
        r = sd_event_add_io(s->console->event, &s->read_source, s->read_fd, EPOLLIN, source_readable, s);
        return r < 0 ? r : 0;
}

static int add_write_side(Source *s) {
        int r;

        r = fd_set_nonblock(s->write_fd, true);
        if (r < 0)
                return r;
        r = sd_event_add_io(s->console->event, &s->write_source, s->write_fd, EPOLLOUT, source_writable, s);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->write_source, SD_EVENT_OFF);
}

static int set_source(Source *s, int read_fd, int write_fd) {
        int r = 0;

        drain_source(s);
        drop_source(s);
        s->read_fd = read_fd;
        /* epoll knows a descriptor once: a pty or a socket gets one for each direction. */
        s->write_fd = write_fd >= 0 && write_fd == read_fd ? fcntl(write_fd, F_DUPFD_CLOEXEC, 3) : write_fd;
        if (write_fd >= 0 && s->write_fd < 0)
                r = -errno;
        if (r == 0 && s->read_fd >= 0)
                r = add_read_side(s);
        if (r == 0 && s->write_fd >= 0)
                r = add_write_side(s);
        if (r < 0)
                drop_source(s);
        if (s->console->speaker->write_fd < 0)
                s->console->speaker = s;
        s->console->heard = false;
        clients_update(s->console);
        return r;
}

int console_set_source(Console *c, int read_fd, int write_fd) {
        return set_source(&c->sources[0], read_fd, write_fd);
}

int console_set_second_source(Console *c, int read_fd, int write_fd) {
        return set_source(&c->sources[1], read_fd, write_fd);
}

void console_note(Console *c, const char *text) {
        if (c->total > 0 && c->last != '\n')
                output(c, "\r\n", 2);
        output(c, text, strlen(text));
        output(c, "\r\n", 2);
}

uint64_t console_position(const Console *c) {
        return c->total;
}

char *console_text_since(const Console *c, uint64_t position, size_t max, size_t *ret_length) {
        uint64_t from = position > oldest(c) ? position : oldest(c);
        if (c->total - from > max)
                from = c->total - max;

        size_t length = (size_t)(c->total - from);
        char *text = malloc(length + 1);
        if (!text)
                return NULL;
        for (size_t i = 0; i < length; i++)
                text[i] = c->ring[(from + i) % CONSOLE_RING_SIZE];
        text[length] = '\0';
        *ret_length = length;
        return text;
}

/* ---- The console ---- */

int console_new(sd_event *event, int log_fd, uint64_t log_max, Console **ret) {
        BoundedLog log;
        Console *c;
        int r;

        r = bounded_log_init(&log, log_fd, log_max);
        if (r < 0)
                return r;
        c = calloc(1, sizeof *c);
        if (!c) {
                bounded_log_done(&log);
                return -ENOMEM;
        }
        /* From the kernel: what no guest has printed, and nobody has typed, costs no memory. */
        c->ring = mmap(NULL, BUFFERS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (c->ring == MAP_FAILED) {
                bounded_log_done(&log);
                free(c);
                return -ENOMEM;
        }
        c->input = c->ring + CONSOLE_RING_SIZE;
        c->event = sd_event_ref(event);
        c->patience_usec = CONSOLE_PATIENCE_USEC;
        c->log = log;
        for (size_t i = 0; i < SOURCES; i++)
                c->sources[i] = (Source){ .console = c, .read_fd = -1, .write_fd = -1 };
        c->speaker = c->sources;
        TAILQ_INIT(&c->clients);
        *ret = c;
        return 0;
}

Console *console_free(Console *c) {
        Client *client;

        if (!c)
                return NULL;
        for (size_t i = 0; i < SOURCES; i++) {
                drain_source(&c->sources[i]);
                drop_source(&c->sources[i]);
        }
        while ((client = TAILQ_FIRST(&c->clients))) {
                (void)client_send(client);
                client_end(client);
        }
        bounded_log_done(&c->log);
        sd_event_unref(c->event);
        munmap(c->ring, BUFFERS_SIZE);
        free(c);
        return NULL;
}

void console_set_patience(Console *c, uint64_t usec) {
        c->patience_usec = usec;
}

static int client_add(Console *c, int fd, void (*ended)(void *userdata), void *userdata) {
        Client *client = calloc(1, sizeof *client);
        int r;

        if (!client) {
                fd_drop(&fd);
                return -ENOMEM;
        }
        *client = (Client){ .console = c, .fd = fd, .position = oldest(c), .ended = ended, .userdata = userdata };

        r = sd_event_add_io(c->event, &client->io, fd, 0, client_io, client);
        if (r >= 0)
                r = sd_event_add_time_relative(c->event, &client->patience, CLOCK_MONOTONIC, 0, 0,
                                               client_patience_ended, client);
        if (r >= 0)
                r = sd_event_source_set_enabled(client->patience, SD_EVENT_OFF);
        if (r < 0) {
                sd_event_source_disable_unref(client->io);
                sd_event_source_disable_unref(client->patience);
                fd_drop(&client->fd);
                free(client);
                return r;
        }
        TAILQ_INSERT_TAIL(&c->clients, client, entry);
        c->n_clients++;
        client_update(client);
        return 0;
}

int console_attach(Console *c, void (*ended)(void *userdata), void *userdata, int *ret_fd, Error *e) {
        int pair[2], r;

        if (c->n_clients >= CONSOLE_CLIENTS_MAX)
                return error_set(e, ERROR_QUOTA_EXCEEDED, "the console has %d clients already", CONSOLE_CLIENTS_MAX);
        /* Only our end is non-blocking, by MSG_DONTWAIT: the client's programs expect an ordinary socket. */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return error_set_errno(e, errno, "Failed to make a socket for the console");
        unix_refuse_descriptors(pair[0]);
        r = client_add(c, pair[0], ended, userdata);
        if (r < 0) {
                fd_drop(&pair[1]);
                return error_set_errno(e, r, "Failed to attach to the console");
        }
        *ret_fd = pair[1];
        return 0;
}

SharedFile *console_log_file(Console *c) {
        return c->log.file;
}
