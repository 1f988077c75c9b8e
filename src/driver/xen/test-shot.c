/* Pictures taken of a screen that is shown by RFB: of one as it should be, of one that says a byte at a time, and of
 * those that say anything else. What is shown fits into a socket, so it is all said before. */
#include "base/test-support.h"

#include <png.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/xen/shot.h"

/* 3 x 2 points, in two rectangles: the left column, and the rest. */
static const uint8_t conversation[] = {
        'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', /* at 0: the version */
        2,   2,   1,                                                 /* at 12: ways to be asked for a password */
        0,   0,   0,   0,                                            /* at 15: all is well */
        0,   3,   0,   2,                                            /* at 19: width, height */
        32,  24,  0,   1,   0,   255, 0,   255, 0,   255, 16,  8,    0,  0,  0,  0,
        0,   0,   0,   4,   'n', 'a', 'm', 'e',                   /* at 39 */
        0,   0,   0,   2,                                         /* at 47: an update of two rectangles */
        0,   0,   0,   0,   0,   1,   0,   2,   0,   0,   0,   0, /* at 51: where, how large, how encoded */
        1,   2,   3,   0,   4,   5,   6,   0,                     /* at 63 */
        0,   1,   0,   0,   0,   2,   0,   2,   0,   0,   0,   0, /* at 71 */
        7,   8,   9,   0,   10,  11,  12,  0,   13,  14,  15,  0,    16, 17, 18, 0, /* at 83 */
};
static const uint8_t points[] = { 1, 2, 3, 7, 8, 9, 10, 11, 12, 4, 5, 6, 13, 14, 15, 16, 17, 18 };

typedef struct Fixture {
        sd_event *event;
        Shot *shot;
        int screen; /* the other side */
        unsigned n_done;
        int png;
        Error error;
} Fixture;

static void on_done(void *userdata, int png_fd, const Error *e) {
        Fixture *f = userdata;

        f->n_done++;
        f->png = png_fd;
        (void)error_copy(&f->error, e);
        f->shot = shot_free(f->shot);
}

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof *f);
        int pair[2];

        assert_non_null(f);
        f->png = -1;
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        f->screen = pair[0];
        assert_int_equal(shot_new(f->event, pair[1], on_done, f, &f->shot, NULL), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        f->shot = shot_free(f->shot);
        fd_drop(&f->screen);
        fd_drop(&f->png);
        error_clear(&f->error);
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static void say(const Fixture *f, const void *data, size_t length) {
        assert_int_equal(send(f->screen, data, length, MSG_NOSIGNAL), length);
}

static void run(Fixture *f) {
        for (int r = 1; r > 0;) {
                r = sd_event_run(f->event, 0);
                assert_true(r >= 0);
        }
}

static void expect_picture(const Fixture *f) {
        png_image image = { .version = PNG_IMAGE_VERSION };
        uint8_t got[sizeof points];
        AUTO(string_drop) char *png = NULL;
        size_t length;

        assert_int_equal(f->n_done, 1);
        assert_false(error_is_set(&f->error));
        assert_int_equal(fd_read_all(f->png, 1 << 16, &png, &length), 0);
        assert_true(png_image_begin_read_from_memory(&image, png, length));
        assert_int_equal(image.width, 3);
        assert_int_equal(image.height, 2);
        assert_true(png_image_finish_read(&image, NULL, got, 0, NULL));
        assert_memory_equal(got, points, sizeof points);
}

/* And what it has to say itself: no password, other viewers may stay, how to show the points, and all of them. */
static void test_picture(void **state) {
        static const uint8_t expected[] = { 'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 1,
                                            1,   0,   0,   0,   0,   32,  24,  0,   1,   0,   255, 0,    255,
                                            0,   255, 0,   8,   16,  0,   0,   0,   2,   0,   0,   1,    0,
                                            0,   0,   0,   3,   0,   0,   0,   0,   0,   0,   3,   0,    2 };
        Fixture *f = *state;
        uint8_t said[sizeof expected + 1];

        say(f, conversation, sizeof conversation);
        run(f);
        expect_picture(f);
        assert_int_equal(recv(f->screen, said, sizeof said, 0), sizeof expected);
        assert_memory_equal(said, expected, sizeof expected);
        assert_int_equal(recv(f->screen, said, sizeof said, 0), 0);
}

static void test_byte_by_byte(void **state) {
        Fixture *f = *state;

        for (size_t i = 0; i < sizeof conversation; i++) {
                assert_int_equal(f->n_done, 0);
                say(f, conversation + i, 1);
                run(f);
        }
        expect_picture(f);
}

static void test_ends_anywhere(void **state) {
        (void)state;
        for (size_t i = 0; i < sizeof conversation; i++) {
                void *s = NULL;
                set_up(&s);
                Fixture *f = s;

                say(f, conversation, i);
                fd_drop(&f->screen);
                run(f);
                assert_int_equal(f->n_done, 1);
                assert_int_equal(f->png, -1);
                assert_true(error_is_set(&f->error));
                tear_down(&s);
        }
}

/* Each is the conversation with one thing in it that is not as it should be. */
static void test_nonsense(void **state) {
        static const struct {
                size_t at;
                uint8_t value;
        } changes[] = {
                { 10, '3' },                            /* another version */
                { 12, 0 },    { 14, 2 },                /* no way in, or only with a password */
                { 18, 1 },                              /* refused */
                { 20, 0 },    { 22, 0 },                /* a screen of no size */
                { 19, 0xff }, { 21, 0xff },             /* or of any */
                { 39, 0x7f },                           /* a name without end */
                { 47, 2 },    { 50, 0 },                /* no update, or of nothing */
                { 52, 3 },    { 54, 1 },    { 56, 4 },  /* beyond the right edge, below the bottom, too wide */
                { 56, 0 },    { 58, 3 },    { 62, 16 }, /* nothing, too high, encoded somehow */
                { 72, 0xff }, { 76, 3 },                /* the second one */
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
                uint8_t changed[sizeof conversation];
                void *s = NULL;
                set_up(&s);
                Fixture *f = s;

                memcpy(changed, conversation, sizeof changed);
                changed[changes[i].at] = changes[i].value;
                say(f, changed, sizeof changed);
                run(f);
                assert_int_equal(f->n_done, 1);
                assert_int_equal(f->png, -1);
                assert_int_equal(f->error.id, ERROR_HYPERVISOR_FAILED);
                tear_down(&s);
        }
}

/* The same rectangle again and again, each within the screen. */
static void test_more_than_a_screen(void **state) {
        Fixture *f = *state;
        uint8_t count[4] = { 0, 0, 0, 9 };

        say(f, conversation, 47);
        say(f, count, sizeof count);
        for (size_t i = 0; i < 9; i++)
                say(f, conversation + 71, 28);
        run(f);
        assert_int_equal(f->n_done, 1);
        assert_int_equal(f->error.id, ERROR_HYPERVISOR_FAILED);
}

static void test_name_of_nothing(void **state) {
        static const uint8_t nothing[4] = { 0 };
        Fixture *f = *state;

        say(f, conversation, 39);
        say(f, nothing, sizeof nothing);
        say(f, conversation + 47, sizeof conversation - 47);
        run(f);
        expect_picture(f);
}

static void test_given_up(void **state) {
        Fixture *f = *state;

        say(f, conversation, 70);
        run(f);
        f->shot = shot_free(f->shot);
        run(f);
        assert_int_equal(f->n_done, 0);
        assert_null(shot_free(NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_picture, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_byte_by_byte, set_up, tear_down),
                cmocka_unit_test(test_ends_anywhere),
                cmocka_unit_test(test_nonsense),
                cmocka_unit_test_setup_teardown(test_more_than_a_screen, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_name_of_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_given_up, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
