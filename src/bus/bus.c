/* Every connection, and how the ones of our own socket are driven.
 *
 * The system bus is a connection that sd-bus drives by itself (system-bus.c). A peer is not trusted to read what it
 * asks for, so it is driven here, where sd-bus would read and answer for as long as the peer writes: while more than
 * QUEUE_CHOKE answers wait to be written, nothing is read from it, and the kernel makes it wait. What is not an answer,
 * the signals, cannot wait: past QUEUE_MAX the peer is dropped. One that has not authenticated in time is dropped too.
 *
 *   accept --> AUTHENTICATING --> ready --> closed by the peer, dropped, bus_free()
 *                    |  AUTH_USEC
 *                    +--> dropped
 *
 * A peer is the uid that the kernel noted when it connected; nothing in a message changes that. Each is charged to it.
 */
#include "bus/internal.h"

#include <endian.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define AUTH_USEC   (10 * USEC_PER_SEC)
#define QUEUE_CHOKE 16
#define QUEUE_MAX   512
/* The largest sensible message, a network of HOSTS_PER_NETWORK_MAX hosts, is a tenth of it. */
#define MESSAGE_MAX   (4 * 1024 * 1024)
#define SOCKET_BUFFER (128 * 1024) /* the kernel doubles it */
#define SMALL_MESSAGE (64 * 1024)  /* less than any block that main.c has mapped */
#define HEADER_SIZE   16

/* sd-bus reads its first 256 bytes at once; no message is shorter than 16. */
#define FIRST_MESSAGES_MAX 16

static const Charge one_connection = { .connections = 1 };

/* ---- one connection ---------------------------------------------------------------------------------------------- */

int face_new(Bus *b, Face **ret) {
        Face *f = calloc(1, sizeof *f);
        if (!f)
                return -ENOMEM;

        f->bus = b;
        TAILQ_INIT(&f->senders);
        TAILQ_INSERT_TAIL(&b->faces, f, entry);
        *ret = f;
        return 0;
}

static void face_forget_requests(Face *f) {
        Request *q, *next;
        for (q = TAILQ_FIRST(&f->bus->requests); q; q = next) {
                next = TAILQ_NEXT(q, entry);
                if (q->face != f)
                        continue;
                q->face = NULL;
                q->call = sd_bus_message_unref(q->call);
                if (q->is_wait)
                        request_forget(q);
        }
}

void face_free(Face *f) {
        Bus *b = f->bus;

        face_forget_requests(f);
        senders_done(f);
        sd_event_source_disable_unref(f->io);
        sd_event_source_disable_unref(f->timer);
        sd_bus_close_unref(f->connection);
        TAILQ_REMOVE(&b->faces, f, entry);
        if (f->owner) {
                b->n_peers--;
                owner_release(f->owner, &one_connection);
                owners_prune(&b->engine->registry.owners);
        }
        free(f);
}

bool face_is_ready(const Face *f) {
        return !f->doomed && f->connection && sd_bus_is_ready(f->connection) > 0;
}

static uint64_t face_queued(const Face *f) {
        uint64_t queued = 0;
        return sd_bus_get_n_queued_write(f->connection, &queued) < 0 ? 0 : queued;
}

void face_check_queue(Face *f) {
        static LogLimit limit;
        if (f->is_system || f->doomed || face_queued(f) <= QUEUE_MAX)
                return;

        f->doomed = true;
        log_limited(&limit, LOG_INFO, LOG_FIELDS(.uid = &f->uid), "A client of uid %u does not read: dropped",
                    (unsigned)f->uid);
}

Face *face_current(sd_bus *connection) {
        return sd_bus_slot_get_userdata(sd_bus_get_current_slot(connection));
}

int face_add_objects(Face *f) {
        sd_bus *c = f->connection;
        int r;

        if ((r = sd_bus_add_object_manager(c, NULL, ROOT_PATH)) < 0 ||
            (r = sd_bus_add_object_vtable(c, NULL, PRIVOPS_PATH, PRIVOPS_INTERFACE, privops_vtable, f)) < 0 ||
            (r = sd_bus_add_object_vtable(c, NULL, ROOT_PATH, MANAGER_INTERFACE, manager_vtable, f)) < 0 ||
            (r = sd_bus_add_fallback_vtable(c, NULL, NETWORK_PREFIX, NETWORK_INTERFACE, network_vtable, network_find,
                                            f)) < 0 ||
            (r = sd_bus_add_node_enumerator(c, NULL, NETWORK_PREFIX, network_list, f)) < 0 ||
            (r = sd_bus_add_fallback_vtable(c, NULL, DOMAIN_PREFIX, DOMAIN_INTERFACE, domain_vtable, domain_find, f)) <
                    0 ||
            (r = sd_bus_add_node_enumerator(c, NULL, DOMAIN_PREFIX, domain_list, f)) < 0)
                return r;
        return 0;
}

/* ---- driving a peer ---------------------------------------------------------------------------------------------- */

/* sd-bus takes messages of up to 128 MiB, and holds what has come of one for as long as its peer likes. How much that
 * is it does not say, but the C library knows what is mapped for large blocks (main.c fixes the size from which on a
 * block is one), and while sd-bus goes a step nobody else allocates. So f->unfinished is what the message that is being
 * read occupies: known as soon as its header is, since the buffer is made then. */
static size_t mapped_bytes(void) {
        return mallinfo2().hblkhd;
}

static bool peer_measure(Face *f) {
        static LogLimit limit;
        size_t mapped = mapped_bytes();

        if (mapped > f->mapped_before)
                f->unfinished += mapped - f->mapped_before;
        f->mapped_before = mapped;
        if (f->unfinished <= MESSAGE_MAX || f->doomed)
                return !f->doomed;
        f->doomed = true;
        log_limited(&limit, LOG_INFO, LOG_FIELDS(.uid = &f->uid),
                    "A client of uid %u sends a message of more than %d bytes: dropped", (unsigned)f->uid, MESSAGE_MAX);
        return false;
}

/* No method takes a descriptor, but a peer may send hundreds with a message, and those of one that it drops as
 * malformed sd-bus (252) forgets to close: anybody could use up all of ours. So while it reads, no number is free for
 * one. The kernel then discards them and says so, which ends the connection. Whatever is done with a message may open
 * files again.
 *
 * The same step writes the answers that wait, and without privilege the kernel sends no descriptor then: it allows a
 * user as many under way, of all her processes, as the limit says. So a session's daemon does without. Its peers are
 * the user herself, who has no need of a trick to harm it. To forbid it only while no answer waits would protect
 * nothing: a peer that does not read has one wait for as long as it likes. */
static void descriptors_forbid(Bus *b) {
        if (b->engine->scope != SCOPE_SYSTEM || b->no_descriptors || getrlimit(RLIMIT_NOFILE, &b->descriptors) < 0)
                return;
        struct rlimit none = { .rlim_cur = 0, .rlim_max = b->descriptors.rlim_max };
        b->no_descriptors = setrlimit(RLIMIT_NOFILE, &none) >= 0;
}

static void descriptors_allow(Bus *b) {
        struct rlimit now;

        if (!b->no_descriptors)
                return;
        b->no_descriptors = false;
        if (setrlimit(RLIMIT_NOFILE, &b->descriptors) >= 0)
                return;
        /* The hard limit was lowered from outside, just now. */
        if (getrlimit(RLIMIT_NOFILE, &now) >= 0) {
                now.rlim_cur = now.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &now);
        }
}

/* Called with each message before anybody else: it is whole. Not 0: nobody else gets it. */
static int peer_on_message(UNUSED sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Face *f = userdata;

        descriptors_allow(f->bus);
        if (f->is_measured && !peer_measure(f))
                return 1;
        f->unfinished = 0;
        f->n_messages++;
        f->has_message = true; /* what is mapped from here on is for the answer */
        return 0;
}

/* When sd-bus is let go on with a connection that is over, it closes the descriptor, under the event source that
 * watches it. A child that has just been forked still holds a copy, and then the kernel goes on telling of a source
 * that is no more: face_free() must come first. */
static bool peer_is_open(const Face *f) {
        return !f->doomed && sd_bus_is_open(f->connection) > 0;
}

/* The length of a message by its first bytes; 0: they are not those of one. */
static uint64_t message_length(const unsigned char header[HEADER_SIZE]) {
        uint32_t body, fields;

        if (header[0] != 'l' && header[0] != 'B')
                return 0;
        memcpy(&body, header + 4, sizeof body);
        memcpy(&fields, header + 12, sizeof fields);
        body = header[0] == 'l' ? le32toh(body) : be32toh(body);
        fields = header[0] == 'l' ? le32toh(fields) : be32toh(fields);
        return HEADER_SIZE + (((uint64_t)fields + 7) & ~(uint64_t)7) + body;
}

/* To ask the C library walks the heap, so it is not asked about a message that lies there whole and is no large block.
 * Where one begins is known once what was read ahead of the first ones is used up: from then on sd-bus reads exactly
 * one at a time. */
static bool next_is_small(const Face *f) {
        unsigned char header[HEADER_SIZE];
        int fd = sd_bus_get_fd(f->connection), waiting = 0;

        if (!f->at_beginning || f->n_messages <= FIRST_MESSAGES_MAX || fd < 0 ||
            recv(fd, header, sizeof header, MSG_PEEK | MSG_DONTWAIT) != (ssize_t)sizeof header ||
            ioctl(fd, FIONREAD, &waiting) < 0)
                return false;
        uint64_t length = message_length(header);
        return length > 0 && length <= SMALL_MESSAGE && length <= (uint64_t)waiting;
}

/* To be called on open ones only. */
static int peer_step(Face *f) {
        f->has_message = false;
        f->is_measured = !next_is_small(f);
        if (f->is_measured)
                f->mapped_before = mapped_bytes();
        descriptors_forbid(f->bus);
        int r = sd_bus_process(f->connection, NULL);
        descriptors_allow(f->bus);
        if (!f->has_message && f->is_measured)
                peer_measure(f);
        f->at_beginning = f->has_message;
        return r;
}

/* One message per turn of the loop, so that peers take turns. But what a peer sent together with the last line of its
 * authentication was read with it, and no event will ever tell of that: the turn in which it becomes ready takes all of
 * those few. */
static int peer_turn(Face *f) {
        bool was_ready = sd_bus_is_ready(f->connection) > 0;
        int r = peer_step(f);

        if (was_ready || sd_bus_is_ready(f->connection) <= 0)
                return r;
        for (unsigned i = 0; i < FIRST_MESSAGES_MAX && r > 0 && peer_is_open(f); i++)
                r = peer_step(f);
        return r;
}

/* Ends with the face freed where the connection is over. */
static void peer_process(Face *f) {
        if (!f->doomed && sd_bus_is_ready(f->connection) <= 0 && now_monotonic_usec() >= f->auth_deadline) {
                static LogLimit limit;
                log_limited(&limit, LOG_INFO, LOG_FIELDS(.uid = &f->uid),
                            "A client of uid %u has not authenticated in time: dropped", (unsigned)f->uid);
                f->doomed = true;
        }
        if (!peer_is_open(f) || peer_turn(f) < 0 || !peer_is_open(f))
                face_free(f);
}

static int peer_on_io(UNUSED sd_event_source *s, UNUSED int fd, UNUSED uint32_t revents, void *userdata) {
        peer_process(userdata);
        return 0;
}

static int peer_on_time(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        peer_process(userdata);
        return 0;
}

/* When it must be looked at even if nothing comes: monotonic, UINT64_MAX for never. */
static uint64_t peer_next_look(Face *f, bool choked) {
        uint64_t until;

        if (f->doomed)
                return 0;
        if (sd_bus_is_ready(f->connection) <= 0)
                return f->auth_deadline;
        /* Nothing is called on a peer, so the only time it gives is "at once": a message that has been read already. */
        return choked || sd_bus_get_timeout(f->connection, &until) <= 0 ? UINT64_MAX : until;
}

/* Before each wait of the loop: what to wait for. */
static int peer_prepare(sd_event_source *s, void *userdata) {
        Face *f = userdata;
        bool choked = face_queued(f) > QUEUE_CHOKE;
        int events = sd_bus_get_events(f->connection);

        if (events < 0) {
                f->doomed = true;
                events = 0;
        }
        if (choked)
                events &= ~POLLIN;
        uint32_t wanted = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
        int r = sd_event_source_set_io_events(s, wanted);
        if (r >= 0)
                r = sd_event_source_set_time(f->timer, peer_next_look(f, choked));
        if (r >= 0)
                r = sd_event_source_set_enabled(f->timer, SD_EVENT_ONESHOT);
        return r;
}

static int peer_charge(Face *f, int fd, Error *e) {
        struct ucred peer;
        socklen_t length = sizeof peer;
        Engine *engine = f->bus->engine;
        Owner *owner;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
                return error_set_errno(e, errno, "Failed to ask who a client is");
        f->uid = peer.uid;
        int r = owners_get(&engine->registry.owners, peer.uid, &owner);
        if (r < 0)
                return error_set_errno(e, r, "Failed to look up what uid %u holds", (unsigned)peer.uid);
        r = owner_charge(owner, &one_connection, limits_for(&engine->limits, peer.uid), e);
        if (r < 0)
                return r;

        f->owner = owner;
        f->bus->n_peers++;
        f->bus->n_peers_ever++;
        return 0;
}

/* Takes the descriptor in *fd once the connection has it. */
static int peer_connect(Face *f, int *fd) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);
        if (r < 0 || (r = sd_bus_new(&f->connection)) < 0 || (r = sd_bus_set_fd(f->connection, *fd, *fd)) < 0)
                return r;

        fd_take(fd);
        if ((r = sd_bus_set_server(f->connection, true, id)) < 0 ||
            (r = sd_bus_set_anonymous(f->connection, false)) < 0 ||
            (r = sd_bus_negotiate_fds(f->connection, true)) < 0 ||
            (r = sd_bus_negotiate_creds(f->connection, true, SD_BUS_CREDS_EUID)) < 0 ||
            (r = sd_bus_set_description(f->connection, "peer")) < 0 ||
            (r = sd_bus_add_filter(f->connection, NULL, peer_on_message, f)) < 0 || (r = face_add_objects(f)) < 0 ||
            (r = peer_bus_add(f)) < 0)
                return r;
        return sd_bus_start(f->connection);
}

static int peer_watch(Face *f) {
        sd_event *event = f->bus->event;
        f->auth_deadline = now_monotonic_usec() + AUTH_USEC;
        int fd = sd_bus_get_fd(f->connection);
        if (fd < 0)
                return fd;
        /* sd-bus has asked for 8 MiB of the kernel's memory, and gets it where we are root. */
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ SOCKET_BUFFER }, sizeof(int)) < 0)
                return -errno;

        int r = sd_event_add_io(event, &f->io, fd, EPOLLIN, peer_on_io, f);
        if (r >= 0)
                r = sd_event_add_time(event, &f->timer, CLOCK_MONOTONIC, f->auth_deadline, USEC_PER_MSEC, peer_on_time,
                                      f);
        return r < 0 ? r : sd_event_source_set_prepare(f->io, peer_prepare);
}

int bus_add_peer(Bus *b, int fd, Error *e) {
        AUTO(fd_drop) int owned = fd;
        Face *f;
        int r = face_new(b, &f);
        if (r < 0)
                return error_set_errno(e, r, "Failed to serve a client");

        r = peer_charge(f, owned, e);
        if (r >= 0) {
                r = peer_connect(f, &owned);
                if (r >= 0)
                        r = peer_watch(f);
                if (r < 0)
                        error_set_errno(e, r, "Failed to serve a client");
        }
        if (r < 0)
                face_free(f);
        return r < 0 ? r : 0;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

int bus_new(sd_event *event, Engine *engine, Bus **ret, Error *e) {
        Bus *b = calloc(1, sizeof *b);
        if (!b)
                return error_set_errno(e, ENOMEM, "Failed to prepare the bus");

        b->event = sd_event_ref(event);
        b->engine = engine;
        TAILQ_INIT(&b->faces);
        TAILQ_INIT(&b->requests);
        engine->registry.listener = &bus_listener;
        engine->registry.listener_data = b;
        *ret = b;
        return 0;
}

Bus *bus_free(Bus *b) {
        if (!b)
                return NULL;

        b->engine->registry.listener = NULL;
        while (!TAILQ_EMPTY(&b->requests))
                request_free(TAILQ_FIRST(&b->requests));
        system_bus_done(b);
        heap_done(b);
        while (!TAILQ_EMPTY(&b->faces))
                face_free(TAILQ_FIRST(&b->faces));
        sd_event_unref(b->event);
        free(b);
        return NULL;
}

size_t bus_peers(const Bus *b) {
        return b->n_peers;
}

uint64_t bus_peers_ever(const Bus *b) {
        return b->n_peers_ever;
}
