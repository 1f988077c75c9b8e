/* Unit tests of the bridge between a stream of shared memory and a socket: what goes through, what waits, and who ends
 * what. The library is a fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/time-util.h"
#include "driver/xen/fake-vchan.h"
#include "driver/xen/vchan.h"

typedef struct Setting {
        sd_event *event;
        Vchan *vchan;
        int socket; /* ours */
        unsigned ended;
} Setting;

static void note_end(void *userdata) {
        ((Setting *)userdata)->ended++;
}

static int set_up(void **state) {
        Setting *s = calloc(1, sizeof *s);

        assert_non_null(s);
        fake_vchan_reset();
        assert_true(sd_event_new(&s->event) >= 0);
        *state = s;
        return 0;
}

static void begin(Setting *s, VchanKind kind) {
        int pair[2];

        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        s->socket = pair[0];
        assert_true(vchan_new(s->event, 7, "/local/domain/7/data/serial", kind, pair[1], note_end, s, &s->vchan) >= 0);
}

static int tear_down(void **state) {
        Setting *s = *state;

        vchan_free(s->vchan);
        fd_drop(&s->socket);
        sd_event_unref(s->event);
        free(s);
        assert_int_equal(fake_vchan.connected, fake_vchan.disconnected);
        return 0;
}

/* Turns of the loop until nothing is left to do for so long. */
static void run(Setting *s, uint64_t quiet_usec) {
        for (int r = 1; r > 0;) {
                r = sd_event_run(s->event, quiet_usec);
                assert_true(r >= 0);
        }
}

static void expect_text(Setting *s, const char *text) {
        char buffer[64] = "";
        ssize_t n = read(s->socket, buffer, sizeof buffer - 1);

        assert_int_equal(n, strlen(text));
        assert_string_equal(buffer, text);
}

static void expect_eof(Setting *s) {
        char c;

        assert_int_equal(read(s->socket, &c, 1), 0);
}

static void test_both_ways(void **state) {
        Setting *s = *state;
        char buffer[16] = "";

        fake_vchan.served = true;
        begin(s, VCHAN_ONCE);
        run(s, 20 * USEC_PER_MSEC);
        fake_vchan_send("hello");
        assert_int_equal(write(s->socket, "ping", 4), 4);
        run(s, 0);
        expect_text(s, "hello");
        assert_int_equal(fake_vchan_take(buffer, sizeof buffer), 4);
        assert_string_equal(buffer, "ping");
}

/* What is typed before the stream is there waits for it. */
static void test_waits_for_server(void **state) {
        Setting *s = *state;
        char buffer[16] = "";

        begin(s, VCHAN_ONCE);
        assert_int_equal(write(s->socket, "early", 5), 5);
        run(s, 20 * USEC_PER_MSEC);
        assert_int_equal(fake_vchan.connected, 0);
        fake_vchan.served = true;
        run(s, 300 * USEC_PER_MSEC);
        assert_int_equal(fake_vchan.connected, 1);
        assert_int_equal(fake_vchan_take(buffer, sizeof buffer), 5);
        assert_string_equal(buffer, "early");
}

/* A ring that is full is waited for, and what is behind it stays in the socket. */
static void test_back_pressure(void **state) {
        Setting *s = *state;
        static char data[256 * 1024];
        char buffer[FAKE_RING];
        size_t sent = 0, taken = 0;
        ssize_t n;

        fake_vchan.served = true;
        begin(s, VCHAN_ONCE);
        run(s, 20 * USEC_PER_MSEC);
        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (char)(i * 7 + i / 251);
        while ((n = write(s->socket, data + sent, sizeof data - sent)) > 0) {
                sent += (size_t)n;
                run(s, 0);
        }
        assert_true(sent < sizeof data);
        for (size_t got; run(s, 0), (got = fake_vchan_take(buffer, sizeof buffer)) > 0; taken += got)
                assert_memory_equal(buffer, data + taken, got);
        assert_int_equal(taken, sent);
}

/* A client that does not read: what it has not got stays in the ring. */
static void test_slow_reader(void **state) {
        Setting *s = *state;
        static char text[FAKE_RING];
        size_t sent = 0, got = 0;
        char buffer[4096];

        fake_vchan.served = true;
        begin(s, VCHAN_ONCE);
        run(s, 20 * USEC_PER_MSEC);
        memset(text, 'x', sizeof text - 1);
        while (fake_vchan.n_to_client == 0) {
                fake_vchan_send(text);
                sent += sizeof text - 1;
                run(s, 0);
        }
        for (ssize_t n; got < sent; got += (size_t)n) {
                n = read(s->socket, buffer, sizeof buffer);
                assert_true(n > 0);
                run(s, 0);
        }
        assert_int_equal(got, sent);
}

static void test_server_ends_once(void **state) {
        Setting *s = *state;

        fake_vchan.served = true;
        begin(s, VCHAN_ONCE);
        run(s, 20 * USEC_PER_MSEC);
        fake_vchan_send("last");
        fake_vchan_close();
        run(s, 0);
        expect_text(s, "last");
        expect_eof(s);
        assert_int_equal(s->ended, 1);
}

static void test_reconnects_forever(void **state) {
        Setting *s = *state;

        fake_vchan.served = true;
        begin(s, VCHAN_FOREVER);
        run(s, 20 * USEC_PER_MSEC);
        fake_vchan_send("one ");
        fake_vchan_close();
        run(s, 0);
        assert_int_equal(fake_vchan.disconnected, 1);
        fake_vchan.closed = false;
        run(s, 100 * USEC_PER_MSEC);
        assert_int_equal(fake_vchan.connected, 2);
        fake_vchan_send("two");
        run(s, 0);
        expect_text(s, "one two");
        assert_int_equal(s->ended, 0);
}

/* One that closes whatever is opened costs a connection each 50 ms, not a busy loop. */
static void test_hostile_closer(void **state) {
        Setting *s = *state;

        fake_vchan.served = fake_vchan.closed = true;
        begin(s, VCHAN_FOREVER);
        for (uint64_t end = now_monotonic_usec() + 500 * USEC_PER_MSEC; now_monotonic_usec() < end;)
                assert_true(sd_event_run(s->event, 20 * USEC_PER_MSEC) >= 0);
        assert_in_range(fake_vchan.connected, 1, 11);
        assert_int_equal(s->ended, 0);
}

static void test_socket_ends_it(void **state) {
        Setting *s = *state;
        char buffer[16] = "";

        fake_vchan.served = true;
        begin(s, VCHAN_FOREVER);
        run(s, 20 * USEC_PER_MSEC);
        assert_int_equal(write(s->socket, "bye", 3), 3);
        fd_drop(&s->socket);
        run(s, 0);
        assert_int_equal(s->ended, 1);
        assert_int_equal(fake_vchan.disconnected, 1);
        assert_int_equal(fake_vchan_take(buffer, sizeof buffer), 3);
}

/* The other side reads nothing, and the client goes: it ends, without turning round and round. */
static void test_client_goes_while_full(void **state) {
        Setting *s = *state;
        static const char data[1024];

        fake_vchan.served = true;
        begin(s, VCHAN_ONCE);
        run(s, 20 * USEC_PER_MSEC);
        while (write(s->socket, data, sizeof data) > 0)
                run(s, 0);
        fd_drop(&s->socket);
        run(s, 0);
        assert_int_equal(s->ended, 1);
}

static void test_broken_channel(void **state) {
        Setting *s = *state;

        fake_vchan.served = fake_vchan.broken = true;
        begin(s, VCHAN_ONCE);
        run(s, 20 * USEC_PER_MSEC);
        fake_vchan_notify();
        run(s, 0);
        assert_int_equal(s->ended, 1);
        expect_eof(s);
}

/* What the other side has said is passed on before it is forgotten. */
static void test_free_passes_on(void **state) {
        Setting *s = *state;

        fake_vchan.served = true;
        begin(s, VCHAN_FOREVER);
        run(s, 20 * USEC_PER_MSEC);
        fake_vchan_send("goodbye");
        s->vchan = vchan_free(s->vchan);
        expect_text(s, "goodbye");
        expect_eof(s);
        assert_int_equal(s->ended, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_both_ways, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_waits_for_server, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_back_pressure, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_slow_reader, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_server_ends_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_reconnects_forever, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_hostile_closer, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_socket_ends_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_client_goes_while_full, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_broken_channel, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_free_passes_on, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
