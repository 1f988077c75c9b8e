/* How it works: the model's side first, then the viewer's, each a fixed number of bytes at a time
 *
 *   MODEL_VERSION --> MODEL_COUNT --> MODEL_TYPES --> MODEL_RESULT
 *     --> VIEWER_VERSION --> VIEWER_TYPE --> VIEWER_RESPONSE --> OPEN
 *
 * and in OPEN two lanes, each with one buffer: a side is read only when what came before has gone to the other one, so
 * that neither costs more than that. Whatever is not as it should be ends it: both sockets are closed. What is written
 * before OPEN is so little that a socket has always room for it. */
#include "driver/xen/gate.h"

#include <errno.h>
#include <nettle/des.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define GREETING      "RFB 003.008\n"
#define GREETING_SIZE 12
#define SECURITY_NONE 1
#define SECURITY_VNC  2
#define REASON        "Authentication failed"
#define LANE_SIZE     16384

typedef enum GateState {
        MODEL_VERSION,
        MODEL_COUNT,
        MODEL_TYPES,
        MODEL_RESULT,
        VIEWER_VERSION,
        VIEWER_TYPE,
        VIEWER_RESPONSE,
        OPEN,
} GateState;

typedef struct Lane {
        char data[LANE_SIZE];
        size_t start, length; /* what waits to be written */
        bool ended;           /* nothing more will come */
} Lane;

enum { MODEL, VIEWER, SIDES };

struct Gate {
        GateState state;
        char password[9];
        bool old; /* the viewer speaks version 3.3, which leaves it no choice */
        uint8_t challenge[GATE_CHALLENGE_SIZE];
        int fds[SIDES];
        sd_event_source *io[SIDES], *deadline;
        Lane lanes[SIDES]; /* what comes from that side; before OPEN what has been read of the next piece */
        size_t wanted;     /* the size of that piece */
        LIST_ENTRY(Gate) entry;
};

static void gate_free(Gate *g) {
        LIST_REMOVE(g, entry);
        sd_event_source_disable_unref(g->deadline);
        for (size_t i = 0; i < SIDES; i++) {
                sd_event_source_disable_unref(g->io[i]);
                fd_drop(&g->fds[i]);
        }
        explicit_bzero(g->password, sizeof g->password);
        free(g);
}

void gates_close(GateList *list) {
        while (!LIST_EMPTY(list))
                gate_free(LIST_FIRST(list));
}

/* Each byte of the password goes into the key with its bits the other way round. Some passwords are weak keys, of which
 * nettle tells, and encrypts with them all the same. */
void gate_response(const char *password, const uint8_t challenge[GATE_CHALLENGE_SIZE],
                   uint8_t response[GATE_CHALLENGE_SIZE]) {
        uint8_t key[DES_KEY_SIZE] = { 0 };
        struct des_ctx des;
        size_t length = strnlen(password, sizeof key);

        for (size_t i = 0; i < length; i++)
                for (unsigned bit = 0; bit < 8; bit++)
                        key[i] |= (uint8_t)(((uint8_t)password[i] >> bit & 1) << (7 - bit));
        (void)des_set_key(&des, key);
        des_encrypt(&des, GATE_CHALLENGE_SIZE, response, challenge);
}

/* ---- before it is open ---- */

static int say(Gate *g, int side, const void *data, size_t length) {
        ssize_t n = send(g->fds[side], data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        return n == (ssize_t)length ? 0 : n < 0 ? -errno : -EIO;
}

static int expect(Gate *g, GateState next, size_t wanted) {
        g->state = next;
        g->wanted = wanted;
        return 0;
}

static int challenge(Gate *g) {
        if (getrandom(g->challenge, sizeof g->challenge, 0) != sizeof g->challenge)
                return -EIO;
        int r = say(g, VIEWER, g->challenge, sizeof g->challenge);
        return r < 0 ? r : expect(g, VIEWER_RESPONSE, sizeof g->challenge);
}

static int viewer_version(Gate *g, const char *data) {
        static const uint8_t offer[] = { 1, SECURITY_VNC }, only[] = { 0, 0, 0, SECURITY_VNC };

        if (memcmp(data, "RFB 003.", 8) != 0)
                return -EBADMSG;
        g->old = memcmp(data + 8, "007", 3) < 0;
        int r = g->old ? say(g, VIEWER, only, sizeof only) : say(g, VIEWER, offer, sizeof offer);
        if (r < 0)
                return r;
        return g->old ? challenge(g) : expect(g, VIEWER_TYPE, 1);
}

/* The comparison takes as long whatever differs. */
static int viewer_response(Gate *g, const uint8_t *data) {
        static const uint8_t yes[4] = { 0 }, no[] = { 0, 0, 0, 1, 0, 0, 0, sizeof REASON - 1 };
        uint8_t wanted[GATE_CHALLENGE_SIZE], differs = 0;

        gate_response(g->password, g->challenge, wanted);
        for (size_t i = 0; i < sizeof wanted; i++)
                differs |= wanted[i] ^ data[i];
        if (!differs) {
                g->deadline = sd_event_source_disable_unref(g->deadline);
                int r = say(g, VIEWER, yes, sizeof yes);
                return r < 0 ? r : expect(g, OPEN, 0);
        }
        if (say(g, VIEWER, no, g->old ? 4 : sizeof no) >= 0 && !g->old)
                (void)say(g, VIEWER, REASON, sizeof REASON - 1);
        return -EACCES;
}

/* One piece is there, of the size that was wanted. */
static int take(Gate *g, const char *data) {
        static const char none = SECURITY_NONE;
        static const uint8_t yes[4] = { 0 };
        int r;

        switch (g->state) {
        case MODEL_VERSION:
                r = memcmp(data, GREETING, GREETING_SIZE) == 0 ? say(g, MODEL, GREETING, GREETING_SIZE) : -EBADMSG;
                return r < 0 ? r : expect(g, MODEL_COUNT, 1);
        case MODEL_COUNT:
                return *data ? expect(g, MODEL_TYPES, (uint8_t)*data) : -EBADMSG;
        case MODEL_TYPES:
                r = memchr(data, SECURITY_NONE, g->wanted) ? say(g, MODEL, &none, 1) : -EBADMSG;
                return r < 0 ? r : expect(g, MODEL_RESULT, 4);
        case MODEL_RESULT:
                r = memcmp(data, yes, sizeof yes) == 0 ? say(g, VIEWER, GREETING, GREETING_SIZE) : -EBADMSG;
                return r < 0 ? r : expect(g, VIEWER_VERSION, GREETING_SIZE);
        case VIEWER_VERSION:
                return viewer_version(g, data);
        case VIEWER_TYPE:
                return *data == SECURITY_VNC ? challenge(g) : -EACCES;
        case VIEWER_RESPONSE:
                return viewer_response(g, (const uint8_t *)data);
        case OPEN:
                break;
        }
        return -EINVAL;
}

/* Not a byte more than wanted: the next ones may be for the other side. */
static int read_piece(Gate *g, int side) {
        Lane *l = &g->lanes[side];
        ssize_t n = recv(g->fds[side], l->data + l->length, g->wanted - l->length, MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -EPIPE;
        l->length += (size_t)n;
        if (l->length < g->wanted)
                return 0;
        l->length = 0;
        return take(g, l->data);
}

/* ---- open ---- */

static int fill(Gate *g, int side) {
        Lane *l = &g->lanes[side];
        ssize_t n;

        if (l->length > 0 || l->ended)
                return 0;
        n = recv(g->fds[side], l->data, sizeof l->data, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        l->ended = n == 0;
        l->start = 0;
        l->length = (size_t)n;
        return 0;
}

static int empty(Gate *g, int side) {
        Lane *l = &g->lanes[side];

        if (l->length > 0) {
                ssize_t n = send(g->fds[!side], l->data + l->start, l->length, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                l->start += (size_t)n;
                l->length -= (size_t)n;
        }
        return l->ended && l->length == 0 ? -EPIPE : 0;
}

static uint32_t events_of(const Gate *g, int side) {
        if (g->state != OPEN)
                return (g->state < VIEWER_VERSION) == (side == MODEL) ? EPOLLIN : 0;
        return (g->lanes[side].length == 0 ? EPOLLIN : 0) | (g->lanes[!side].length > 0 ? EPOLLOUT : 0);
}

static int advance(Gate *g, int side) {
        int r = 0;

        if (g->state != OPEN)
                r = read_piece(g, side);
        else
                for (int i = 0; i < SIDES && r >= 0; i++) {
                        r = fill(g, i);
                        if (r >= 0)
                                r = empty(g, i);
                }
        for (int i = 0; i < SIDES && r >= 0; i++)
                r = sd_event_source_set_io_events(g->io[i], events_of(g, i));
        return r;
}

static int on_io(UNUSED sd_event_source *s, int fd, UNUSED uint32_t revents, void *userdata) {
        Gate *g = userdata;
        int side = fd == g->fds[MODEL] ? MODEL : VIEWER;
        bool awaited = events_of(g, side) != 0;

        /* One that is not listened to can only have hung up. */
        if (!awaited || advance(g, side) < 0)
                gate_free(g);
        return 0;
}

static int on_deadline(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        gate_free(userdata);
        return 0;
}

static size_t count(const GateList *list) {
        const Gate *g;
        size_t n = 0;

        LIST_FOREACH (g, list, entry)
                n++;
        return n;
}

static int watch(Gate *g, sd_event *event) {
        int r = sd_event_add_time_relative(event, &g->deadline, CLOCK_MONOTONIC, GATE_HANDSHAKE_USEC, 0, on_deadline,
                                           g);

        for (int i = 0; i < SIDES && r >= 0; i++)
                r = sd_event_add_io(event, &g->io[i], g->fds[i], events_of(g, i), on_io, g);
        return r;
}

int gate_open(GateList *list, sd_event *event, int model_fd, const char *password, int *ret_fd, Error *e) {
        AUTO(fd_drop) int model = model_fd;
        int pair[2];

        if (count(list) >= GATES_MAX)
                return error_set(e, ERROR_QUOTA_EXCEEDED, "The screen has %d viewers already", GATES_MAX);
        Gate *g = calloc(1, sizeof *g);
        if (!g)
                return error_set_errno(e, ENOMEM, "Failed to ask for the screen");
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
                int r = error_set_errno(e, errno, "Failed to make a socket for the screen");
                free(g);
                return r;
        }
        LIST_INSERT_HEAD(list, g, entry);
        g->fds[MODEL] = fd_take(&model);
        g->fds[VIEWER] = pair[0];
        strncpy(g->password, password, sizeof g->password - 1);
        (void)expect(g, MODEL_VERSION, GREETING_SIZE);
        int r = watch(g, event);
        if (r < 0) {
                gate_free(g);
                fd_drop(&pair[1]);
                return error_set_errno(e, r, "Failed to ask for the screen");
        }
        *ret_fd = pair[1];
        return 0;
}
