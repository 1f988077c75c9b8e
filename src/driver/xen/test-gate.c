/* A viewer and a device model with a gate in between, and the answers to known challenges. */
#include "base/test-support.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "driver/xen/gate.h"

typedef struct Fixture {
        sd_event *event;
        GateList list;
        int model, viewer;
} Fixture;

static Fixture fixture;

static int setup(void **state) {
        Fixture *f = *state = &fixture;
        int pair[2];

        *f = (Fixture){ .viewer = -1 };
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        f->model = pair[0];
        assert_int_equal(gate_open(&f->list, f->event, pair[1], "secret", &f->viewer, NULL), 0);
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        gates_close(&f->list);
        fd_drop(&f->model);
        fd_drop(&f->viewer);
        sd_event_unref(f->event);
        return 0;
}

static void turn(Fixture *f) {
        while (sd_event_run(f->event, 0) > 0)
                ;
}

static void say(Fixture *f, int fd, const void *data, size_t length) {
        assert_int_equal(write(fd, data, length), length);
        turn(f);
}

static void expect(int fd, const void *data, size_t length) {
        char buffer[256];

        assert_int_equal(recv(fd, buffer, sizeof buffer, MSG_DONTWAIT), length);
        assert_memory_equal(buffer, data, length);
}

static void expect_end(int fd) {
        char byte;

        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

/* Up to the viewer's answer to the challenge, which is written to challenge. */
static void shake_hands(Fixture *f, uint8_t challenge[GATE_CHALLENGE_SIZE]) {
        say(f, f->model, "RFB 003.008\n", 12);
        expect(f->model, "RFB 003.008\n", 12);
        say(f, f->model, "\2\1\5", 3);
        expect(f->model, "\1", 1);
        say(f, f->model, "\0\0\0", 3); /* not yet */
        assert_int_equal(recv(f->viewer, challenge, 1, MSG_DONTWAIT), -1);
        say(f, f->model, "\0", 1);
        expect(f->viewer, "RFB 003.008\n", 12);
        say(f, f->viewer, "RFB 003.008\n", 12);
        expect(f->viewer, "\1\2", 2);
        say(f, f->viewer, "\2", 1);
        assert_int_equal(recv(f->viewer, challenge, GATE_CHALLENGE_SIZE, MSG_DONTWAIT), GATE_CHALLENGE_SIZE);
}

static void test_opens_for_the_password(void **state) {
        Fixture *f = *state;
        uint8_t challenge[GATE_CHALLENGE_SIZE], response[GATE_CHALLENGE_SIZE];

        shake_hands(f, challenge);
        gate_response("secret", challenge, response);
        say(f, f->viewer, response, sizeof response);
        expect(f->viewer, "\0\0\0", 4);
        say(f, f->viewer, "\1", 1);
        expect(f->model, "\1", 1);
        say(f, f->model, "screen", 6);
        expect(f->viewer, "screen", 6);
        fd_drop(&f->model);
        turn(f);
        expect_end(f->viewer);
        assert_true(LIST_EMPTY(&f->list));
}

static void test_stays_closed(void **state) {
        Fixture *f = *state;
        uint8_t challenge[GATE_CHALLENGE_SIZE], response[GATE_CHALLENGE_SIZE];

        shake_hands(f, challenge);
        gate_response("Secret", challenge, response);
        say(f, f->viewer, response, sizeof response);
        expect(f->viewer, "\0\0\0\1\0\0\0\25Authentication failed", 29);
        expect_end(f->viewer);
        expect_end(f->model);
        assert_true(LIST_EMPTY(&f->list));
}

static void test_takes_old_viewers(void **state) {
        Fixture *f = *state;
        uint8_t challenge[GATE_CHALLENGE_SIZE + 4], response[GATE_CHALLENGE_SIZE];

        say(f, f->model, "RFB 003.008\n\1\1\0\0\0", 18);
        expect(f->viewer, "RFB 003.008\n", 12);
        say(f, f->viewer, "RFB 003.003\n", 12);
        assert_int_equal(recv(f->viewer, challenge, sizeof challenge, MSG_DONTWAIT), sizeof challenge);
        assert_memory_equal(challenge, "\0\0\0\2", 4);
        gate_response("secret", challenge + 4, response);
        say(f, f->viewer, response, sizeof response);
        expect(f->viewer, "\0\0\0", 4);
}

static void test_nonsense_ends_it(void **state) {
        Fixture *f = *state;
        static const char *const bad[] = { "HTTP/1.1 200 OK\r\n", "RFB 003.008\n\1\2", "RFB 003.008\n\0" };
        int pair[2];

        gates_close(&f->list);
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                AUTO(fd_drop) int viewer = -1, model = -1;

                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
                model = pair[0];
                assert_int_equal(gate_open(&f->list, f->event, pair[1], "x", &viewer, NULL), 0);
                say(f, model, bad[i], i == 2 ? 13 : strlen(bad[i]));
                assert_true(LIST_EMPTY(&f->list));
        }
}

/* What the one does not read is not read from the other without end. */
static void test_holds_back(void **state) {
        Fixture *f = *state;
        uint8_t challenge[GATE_CHALLENGE_SIZE], response[GATE_CHALLENGE_SIZE];
        char data[4096] = "";
        size_t sent = 0, received = 0;
        ssize_t n;

        shake_hands(f, challenge);
        gate_response("secret", challenge, response);
        say(f, f->viewer, response, sizeof response);
        expect(f->viewer, "\0\0\0", 4);
        for (int idle = 0; idle < 3;) {
                n = send(f->model, data, sizeof data, MSG_DONTWAIT);
                idle = n > 0 ? 0 : idle + 1;
                sent += n > 0 ? (size_t)n : 0;
                assert_true(sent < 8 << 20);
                turn(f);
        }
        while ((n = recv(f->viewer, data, sizeof data, MSG_DONTWAIT)) > 0) {
                received += (size_t)n;
                turn(f);
        }
        assert_int_equal(received, sent);
}

static void test_has_a_limit(void **state) {
        Fixture *f = *state;
        AUTO(error_clear) Error e = ERROR_INIT;
        int viewers[GATES_MAX], fd, pair[2];

        for (size_t i = 1; i < GATES_MAX; i++) {
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
                assert_int_equal(gate_open(&f->list, f->event, pair[1], "x", &viewers[i], NULL), 0);
                fd_drop(&pair[0]);
        }
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_true(gate_open(&f->list, f->event, pair[1], "x", &fd, &e) < 0);
        assert_int_equal(e.id, ERROR_QUOTA_EXCEEDED);
        expect_end(pair[0]);
        fd_drop(&pair[0]);
        turn(f); /* those whose models have gone go */
        for (size_t i = 1; i < GATES_MAX; i++)
                fd_drop(&viewers[i]);
}

/* What openssl makes of the challenges; the first is FIPS 81's own example, with the bits of its key the other way
 * round. The last password is a weak key. */
static void test_known_responses(void **state) {
        static const struct {
                const char *password, *challenge, *response;
        } known[] = {
                { "\x80\xc4\xa2\xe6\x91\xd5\xb3\xf7", "Now is the time ",
                  "\x3f\xa4\x0e\x8a\x98\x4d\x48\x15\x6a\x27\x17\x87\xab\x88\x83\xf9" },
                { "secret", "0123456789abcdef", "\x75\x24\x40\xee\x2b\xfc\xc2\xa0\xd9\x01\x3f\xd2\x03\x71\xe2\x3b" },
                { "password123", "0123456789abcdef",
                  "\x56\x45\xab\xeb\x5f\x1e\x64\x75\xe8\xfe\xb1\x1b\xeb\x66\xea\x19" },
                { "", "0123456789abcdef", "\xa0\x68\xdb\xea\xb7\x3d\x14\x0b\x56\x54\x1e\xb3\xc7\x62\x51\x77" },
        };
        uint8_t response[GATE_CHALLENGE_SIZE];

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(known); i++) {
                gate_response(known[i].password, (const uint8_t *)known[i].challenge, response);
                assert_memory_equal(response, known[i].response, sizeof response);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_opens_for_the_password),
                TEST(test_stays_closed),
                TEST(test_takes_old_viewers),
                TEST(test_nonsense_ends_it),
                TEST(test_holds_back),
                TEST(test_has_a_limit),
                cmocka_unit_test(test_known_responses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
