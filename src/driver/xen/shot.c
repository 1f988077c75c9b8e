/* How it works: what the other side says, each a known number of bytes at a time
 *
 *   VERSION --> TYPE_COUNT --> TYPES --> RESULT --> SCREEN --> NAME --> UPDATE --> (RECTANGLE --> ROW...)... --> done
 *
 * It is asked for all of the screen once, in the one encoding that is none, and answers with one update. The other side
 * is hostile: it may say whatever it likes and as slowly as it likes, which ends it at the deadline; nothing is taken
 * that was not asked for, no more points than the screen has, and a screen is no larger than a picture may be. One turn
 * of the loop reads one of these pieces. What is said to the other side is so little that a socket has always room for
 * it. */
#include "driver/xen/shot.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "driver/xen/picture.h"

#define VERSION_TEXT   "RFB 003.008\n"
#define VERSION_SIZE   12
#define SECURITY_NONE  1
#define UPDATE_MESSAGE 0
#define ENCODING_RAW   0
#define SENT_A_POINT   4u
#define KEPT_A_POINT   3u
#define PIECE_MAX      (PICTURE_SIDE_MAX * SENT_A_POINT)

typedef enum ShotState {
        SHOT_VERSION,
        SHOT_TYPE_COUNT,
        SHOT_TYPES,
        SHOT_RESULT,
        SHOT_SCREEN,
        SHOT_NAME,
        SHOT_UPDATE,
        SHOT_RECTANGLE,
        SHOT_ROW,
        SHOT_STATE_COUNT
} ShotState;

struct Shot {
        ShotState state;
        int fd;
        sd_event_source *io, *deadline;
        void (*done)(void *userdata, int png_fd, const Error *e);
        void *userdata;

        uint32_t width, height;
        uint8_t *points;
        size_t points_left;                  /* to come, at most */
        unsigned rectangles_left;            /* after this one */
        uint32_t x, y, row_width, rows_left; /* of this one */

        size_t wanted, used;
        uint8_t piece[PIECE_MAX];
};

static uint32_t get16(const uint8_t *p) {
        return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p) {
        return get16(p) << 16 | get16(p + 2);
}

static int say(const Shot *s, const void *data, size_t length) {
        ssize_t n = send(s->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        return n == (ssize_t)length ? 0 : n < 0 ? -errno : -EIO;
}

/* What a step returns: 0 to go on, 1 when the picture is there, or an errno. */
static int expect(Shot *s, ShotState state, size_t wanted) {
        if (wanted > sizeof s->piece)
                return -EBADMSG;
        s->state = state;
        s->wanted = wanted;
        s->used = 0;
        return 0;
}

/* ---- what it says, step by step ---- */

static int on_version(Shot *s) {
        if (memcmp(s->piece, VERSION_TEXT, VERSION_SIZE) != 0)
                return -EBADMSG;
        int r = say(s, VERSION_TEXT, VERSION_SIZE);
        return r < 0 ? r : expect(s, SHOT_TYPE_COUNT, 1);
}

static int on_type_count(Shot *s) {
        return s->piece[0] > 0 ? expect(s, SHOT_TYPES, s->piece[0]) : -EBADMSG;
}

static int on_types(Shot *s) {
        static const uint8_t chosen = SECURITY_NONE;

        if (!memchr(s->piece, chosen, s->used))
                return -EACCES;
        int r = say(s, &chosen, sizeof chosen);
        return r < 0 ? r : expect(s, SHOT_RESULT, 4);
}

static int on_result(Shot *s) {
        static const uint8_t shared = 1; /* others who look are not disturbed */

        if (get32(s->piece) != 0)
                return -EACCES;
        int r = say(s, &shared, sizeof shared);
        return r < 0 ? r : expect(s, SHOT_SCREEN, 24);
}

/* Four bytes to a point, red first, as they are; all of the screen. */
static int ask(const Shot *s) {
        const uint8_t width[2] = { (uint8_t)(s->width >> 8), (uint8_t)s->width };
        const uint8_t height[2] = { (uint8_t)(s->height >> 8), (uint8_t)s->height };
        const uint8_t request[] = {
                0,         0,         0, 0,   32, 24,  0,        1,
                0,         255,       0, 255, 0,  255, 0,        8,
                16,        0,         0, 0,                                    /* SetPixelFormat */
                2,         0,         0, 1,   0,  0,   0,        ENCODING_RAW, /* SetEncodings */
                3,         0,         0, 0,   0,  0,   width[0], width[1],
                height[0], height[1], /* FramebufferUpdateRequest */
        };

        return say(s, request, sizeof request);
}

/* What follows the size, its own format of points, does not matter. */
static int on_screen(Shot *s) {
        s->width = get16(s->piece);
        s->height = get16(s->piece + 2);
        if (s->width == 0 || s->height == 0 || s->width > PICTURE_SIDE_MAX || s->height > PICTURE_SIDE_MAX)
                return -EBADMSG;
        s->points_left = (size_t)s->width * s->height;
        if (s->points_left * KEPT_A_POINT > PICTURE_MAX)
                return -EBADMSG;
        s->points = calloc(s->points_left, KEPT_A_POINT);
        return s->points ? expect(s, SHOT_NAME, get32(s->piece + 20)) : -ENOMEM;
}

static int on_name(Shot *s) {
        int r = ask(s);

        return r < 0 ? r : expect(s, SHOT_UPDATE, 4);
}

static int next_rectangle(Shot *s) {
        if (s->rectangles_left == 0)
                return 1;
        s->rectangles_left--;
        return expect(s, SHOT_RECTANGLE, 12);
}

static int on_update(Shot *s) {
        s->rectangles_left = get16(s->piece + 2);
        return s->piece[0] == UPDATE_MESSAGE && s->rectangles_left > 0 ? next_rectangle(s) : -EBADMSG;
}

static int next_row(Shot *s) {
        return s->rows_left == 0 ? next_rectangle(s) : expect(s, SHOT_ROW, (size_t)s->row_width * SENT_A_POINT);
}

static int on_rectangle(Shot *s) {
        s->x = get16(s->piece);
        s->y = get16(s->piece + 2);
        s->row_width = get16(s->piece + 4);
        s->rows_left = get16(s->piece + 6);
        if (get32(s->piece + 8) != ENCODING_RAW || s->row_width == 0 || s->x + s->row_width > s->width ||
            s->y + s->rows_left > s->height || (size_t)s->row_width * s->rows_left > s->points_left)
                return -EBADMSG;
        s->points_left -= (size_t)s->row_width * s->rows_left;
        return next_row(s);
}

static int on_row(Shot *s) {
        uint8_t *to = s->points + KEPT_A_POINT * ((size_t)s->y * s->width + s->x);

        for (size_t i = 0; i < s->row_width; i++)
                memcpy(to + i * KEPT_A_POINT, s->piece + i * SENT_A_POINT, KEPT_A_POINT);
        s->y++;
        s->rows_left--;
        return next_row(s);
}

static int (*const steps[])(Shot *s) = {
        [SHOT_VERSION] = on_version, [SHOT_TYPE_COUNT] = on_type_count, [SHOT_TYPES] = on_types,
        [SHOT_RESULT] = on_result,   [SHOT_SCREEN] = on_screen,         [SHOT_NAME] = on_name,
        [SHOT_UPDATE] = on_update,   [SHOT_RECTANGLE] = on_rectangle,   [SHOT_ROW] = on_row,
};
static_assert(ARRAY_LEN(steps) == SHOT_STATE_COUNT, "step missing");

/* ---- the loop ---- */

/* The last thing that a function does. */
static void finish(Shot *s, int r) {
        AUTO(error_clear) Error e = ERROR_INIT;
        int png = -1;

        s->io = sd_event_source_disable_unref(s->io);
        s->deadline = sd_event_source_disable_unref(s->deadline);
        if (r == -ETIMEDOUT)
                error_set(&e, ERROR_TIMEOUT, "The device model did not show the screen in time");
        else if (r == -EPIPE)
                error_set(&e, ERROR_HYPERVISOR_FAILED, "The device model ended the connection to the screen");
        else if (r == -EBADMSG || r == -EACCES)
                error_set(&e, ERROR_HYPERVISOR_FAILED,
                          r == -EACCES ? "The device model does not want to show the screen"
                                       : "The device model shows no screen that can be understood");
        else if (r < 0)
                error_set_errno(&e, r, "Failed to look at the screen");
        else
                (void)picture_encode(s->points, s->width, s->height, &png, &e);
        s->done(s->userdata, png, error_is_set(&e) ? &e : NULL);
}

static int on_io(UNUSED sd_event_source *source, int fd, UNUSED uint32_t revents, void *userdata) {
        Shot *s = userdata;
        int r = 0;

        ssize_t n = recv(fd, s->piece + s->used, s->wanted - s->used, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0)
                r = n == 0 || errno == ECONNRESET ? -EPIPE : -errno;
        else
                s->used += (size_t)n;
        while (r == 0 && s->used == s->wanted) /* the next piece may have no bytes */
                r = steps[s->state](s);
        if (r != 0)
                finish(s, r);
        return 0;
}

static int on_deadline(UNUSED sd_event_source *source, UNUSED uint64_t usec, void *userdata) {
        finish(userdata, -ETIMEDOUT);
        return 0;
}

int shot_new(sd_event *event, int fd, void (*done)(void *userdata, int png_fd, const Error *e), void *userdata,
             Shot **ret, Error *e) {
        Shot *s = calloc(1, sizeof *s);

        if (!s) {
                fd_drop(&fd);
                return error_set_errno(e, ENOMEM, "Failed to look at the screen");
        }
        s->fd = fd;
        s->done = done;
        s->userdata = userdata;
        (void)expect(s, SHOT_VERSION, VERSION_SIZE);
        int r = sd_event_add_io(event, &s->io, fd, EPOLLIN, on_io, s);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &s->deadline, CLOCK_MONOTONIC, SHOT_USEC, 0, on_deadline, s);
        if (r < 0) {
                shot_free(s);
                return error_set_errno(e, r, "Failed to look at the screen");
        }
        *ret = s;
        return 0;
}

Shot *shot_free(Shot *s) {
        if (!s)
                return NULL;

        sd_event_source_disable_unref(s->io);
        sd_event_source_disable_unref(s->deadline);
        fd_drop(&s->fd);
        free(s->points);
        free(s);
        return NULL;
}
