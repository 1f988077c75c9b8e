/* What is said to xenstored, in how many turns, and what its answers do. The test is xenstored: since the numbers of
 * the messages are known, its answers are in the socket before it is asked. */
#include "base/test-support.h"

#include <sys/socket.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#include "driver/xen/wire.h"

typedef struct Fixture {
        Wire *wire;
        int server;
} Fixture;

static Fixture fixture;

static int setup(void **state) {
        Fixture *f = *state = &fixture;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(wire_open_fd(fds[0], &f->wire), 0);
        f->server = fds[1];
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        f->wire = wire_close(f->wire);
        close(f->server);
        return 0;
}

static void answer(const Fixture *f, uint32_t type, uint32_t id, const char *text) {
        const struct xsd_sockmsg h = { .type = type, .req_id = id, .len = (uint32_t)strlen(text) + 1 };

        assert_int_equal(write(f->server, &h, sizeof h), sizeof h);
        assert_int_equal(write(f->server, text, h.len), h.len);
}

/* The next message that was sent. */
static void expect(const Fixture *f, uint32_t type, uint32_t transaction, const char *body, size_t length) {
        struct xsd_sockmsg h;
        char text[XENSTORE_PAYLOAD_MAX];

        assert_int_equal(recv(f->server, &h, sizeof h, MSG_DONTWAIT), sizeof h);
        assert_int_equal(h.type, type);
        assert_int_equal(h.tx_id, transaction);
        assert_int_equal(h.len, length);
        assert_int_equal(recv(f->server, text, h.len, MSG_DONTWAIT), length);
        assert_memory_equal(text, body, length);
}

static void expect_nothing(const Fixture *f) {
        char byte;

        assert_int_equal(recv(f->server, &byte, 1, MSG_DONTWAIT), -1);
}

#define EXPECT(f, type, transaction, body) expect(f, type, transaction, body, sizeof(body) - 1)

static void begin(const Fixture *f) {
        answer(f, XS_TRANSACTION_START, 1, "17");
        assert_int_equal(wire_begin(f->wire), 0);
        EXPECT(f, XS_TRANSACTION_START, 0, "\0");
}

static void test_a_transaction(void **state) {
        Fixture *f = *state;
        const char *path = "?";

        begin(f);
        assert_int_equal(wire_mkdir(f->wire, "/a"), 0);
        assert_int_equal(wire_permit(f->wire, "/a", 0, 7), 0);
        assert_int_equal(wire_permit(f->wire, "/a/b", 7, UINT32_MAX), 0);
        assert_int_equal(wire_write(f->wire, "/a/b", "value", 5), 0);
        assert_int_equal(wire_write(f->wire, "/a/c", "", 0), 0);
        expect_nothing(f);
        for (uint32_t id = 2; id <= 6; id++)
                answer(f, id == 2 ? XS_MKDIR : id <= 4 ? XS_SET_PERMS : XS_WRITE, id, "OK");
        answer(f, XS_TRANSACTION_END, 7, "OK");
        assert_int_equal(wire_end(f->wire, false, &path), 0);
        assert_null(path);
        EXPECT(f, XS_MKDIR, 17, "/a\0");
        EXPECT(f, XS_SET_PERMS, 17, "/a\0n0\0r7\0");
        EXPECT(f, XS_SET_PERMS, 17, "/a/b\0n7\0");
        EXPECT(f, XS_WRITE, 17, "/a/b\0value");
        EXPECT(f, XS_WRITE, 17, "/a/c\0");
        EXPECT(f, XS_TRANSACTION_END, 17, "T\0");
}

static void test_first_failure_aborts(void **state) {
        Fixture *f = *state;
        const char *path = NULL;

        begin(f);
        wire_remove(f->wire, "/gone");
        wire_write(f->wire, "/first", "x", 1);
        wire_write(f->wire, "/second", "x", 1);
        answer(f, XS_ERROR, 2, "ENOENT"); /* fine: it was to be removed */
        answer(f, XS_ERROR, 3, "EACCES");
        answer(f, XS_ERROR, 4, "ENOSPC");
        answer(f, XS_TRANSACTION_END, 5, "OK");
        assert_int_equal(wire_end(f->wire, false, &path), -EACCES);
        assert_string_equal(path, "/first");
        EXPECT(f, XS_RM, 17, "/gone\0");
        EXPECT(f, XS_WRITE, 17, "/first\0x");
        EXPECT(f, XS_WRITE, 17, "/second\0x");
        EXPECT(f, XS_TRANSACTION_END, 17, "F\0");
}

static void test_conflict(void **state) {
        Fixture *f = *state;
        const char *path = "?";

        begin(f);
        wire_mkdir(f->wire, "/a");
        answer(f, XS_MKDIR, 2, "OK");
        answer(f, XS_ERROR, 3, "EAGAIN");
        assert_int_equal(wire_end(f->wire, false, &path), -EAGAIN);
        assert_null(path);
}

static void test_giving_up(void **state) {
        Fixture *f = *state;
        const char *path = "?";

        begin(f);
        wire_mkdir(f->wire, "/a");
        answer(f, XS_TRANSACTION_END, 3, "OK");
        assert_int_equal(wire_end(f->wire, true, &path), 0);
        EXPECT(f, XS_TRANSACTION_END, 17, "F\0");
        expect_nothing(f);
}

static void test_what_is_no_answer(void **state) {
        Fixture *f = *state;
        const struct xsd_sockmsg huge = { .type = XS_TRANSACTION_START, .req_id = 3, .len = XENSTORE_PAYLOAD_MAX + 1 };

        answer(f, XS_TRANSACTION_START, 9, "17"); /* to another question */
        assert_int_equal(wire_begin(f->wire), -EPROTO);
        answer(f, XS_TRANSACTION_START, 2, "many");
        assert_int_equal(wire_begin(f->wire), -EPROTO);
        assert_int_equal(write(f->server, &huge, sizeof huge), sizeof huge);
        assert_int_equal(wire_begin(f->wire), -EPROTO);
}

static void test_xenstored_ends(void **state) {
        Fixture *f = *state;

        assert_int_equal(shutdown(f->server, SHUT_WR), 0);
        assert_int_equal(wire_begin(f->wire), -ECONNRESET);
}

static void test_too_much(void **state) {
        Fixture *f = *state;
        static char text[XENSTORE_PAYLOAD_MAX];
        int r = 0;

        assert_int_equal(wire_write(f->wire, "/path", text, sizeof text), -ENAMETOOLONG);
        for (unsigned i = 0; i < 100 && r == 0; i++)
                r = wire_write(f->wire, "/path", text, sizeof text / 2);
        assert_int_equal(r, -ENOMEM);
}

static void test_a_watch(void **state) {
        Fixture *f = *state;

        answer(f, XS_WATCH, 1, "OK");
        answer(f, XS_WATCH_EVENT, 0, "@releaseDomain"); /* which it always does at once */
        assert_int_equal(wire_watch(f->wire, "@releaseDomain"), 0);
        EXPECT(f, XS_WATCH, 0, "@releaseDomain\0\0");
        assert_int_equal(wire_fired(f->wire), 1);
        assert_int_equal(wire_fired(f->wire), 0);
        for (unsigned i = 0; i < 50; i++)
                answer(f, XS_WATCH_EVENT, 0, "@releaseDomain");
        assert_int_equal(wire_fired(f->wire), 1);
        assert_int_equal(wire_fired(f->wire), 0);
        assert_int_equal(shutdown(f->server, SHUT_WR), 0);
        assert_int_equal(wire_fired(f->wire), -ECONNRESET);
}

static void test_a_watch_is_refused(void **state) {
        Fixture *f = *state;

        answer(f, XS_ERROR, 1, "E2BIG");
        assert_int_equal(wire_watch(f->wire, "@releaseDomain"), -E2BIG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_a_transaction),      TEST(test_first_failure_aborts),
                TEST(test_conflict),           TEST(test_giving_up),
                TEST(test_what_is_no_answer),  TEST(test_xenstored_ends),
                TEST(test_too_much),           TEST(test_a_watch),
                TEST(test_a_watch_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
