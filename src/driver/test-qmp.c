/* The QMP client against a scripted emulator on the other end of a socket pair. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/qmp-message.h"
#include "driver/qmp.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

typedef struct Fixture {
        sd_event *event;
        Qmp *qmp;
        int peer;
        unsigned ready, closed, events, replies, failures;
        char last_event[32], last_error[256];
        json_int_t last_value;
        ErrorId last_id;
        bool free_in_event, free_in_reply;
} Fixture;

static void on_ready(void *userdata) {
        ((Fixture *)userdata)->ready++;
}

static void on_event(void *userdata, const char *name, json_t *data) {
        Fixture *f = userdata;

        (void)data;
        f->events++;
        snprintf(f->last_event, sizeof f->last_event, "%s", name);
        if (f->free_in_event)
                f->qmp = qmp_free(f->qmp);
}

static void on_closed(void *userdata, const Error *e) {
        Fixture *f = userdata;

        f->closed++;
        snprintf(f->last_error, sizeof f->last_error, "%s", error_text(e));
}

static void on_reply(void *userdata, json_t *result, const Error *e) {
        Fixture *f = userdata;

        f->replies++;
        if (e) {
                f->failures++;
                f->last_id = e->id;
                snprintf(f->last_error, sizeof f->last_error, "%s", error_text(e));
        } else
                f->last_value = json_integer_value(result);
        if (f->free_in_reply && f->qmp)
                f->qmp = qmp_free(f->qmp);
}

static const QmpEvents events = { on_ready, on_event, on_closed };

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof *f);
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(qmp_new(f->event, pair[0], &events, f, &f->qmp), 0);
        f->peer = pair[1];
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        qmp_free(f->qmp);
        fd_drop(&f->peer);
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static void turn(Fixture *f) {
        while (sd_event_run(f->event, 1000) > 0)
                ;
}

static void say(Fixture *f, const char *text) {
        assert_int_equal(send(f->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
        turn(f);
}

static void hear(Fixture *f, const char *wanted) {
        char buffer[4096];
        ssize_t n = recv(f->peer, buffer, sizeof buffer - 1, 0);

        assert_true(n >= 0);
        buffer[n] = '\0';
        assert_string_equal(buffer, wanted);
}

static void make_ready(Fixture *f) {
        say(f, GREETING);
        hear(f, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n");
        say(f, "{\"return\": {}, \"id\": 1}\r\n");
        assert_int_equal(f->ready, 1);
}

static int ask(Fixture *f, const char *command) {
        return qmp_send(f->qmp, command, NULL, -1, on_reply, f, NULL);
}

static void test_command(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(qmp_send(f->qmp, "go", json_pack("{s:s}", "where", "on\"e"), -1, on_reply, f, NULL), 0);
        hear(f, "{\"execute\":\"go\",\"id\":2,\"arguments\":{\"where\":\"on\\\"e\"}}\n");
        say(f, "{\"return\": 7, ");
        assert_int_equal(f->replies, 0);
        say(f, "\"id\": 2}\r\n{\"event\": \"STOP\", \"data\": {}}\n{\"event\":");
        assert_int_equal(f->replies, 1);
        assert_int_equal(f->last_value, 7);
        assert_int_equal(f->events, 1);
        say(f, "\"RESUME\"}\n");
        assert_string_equal(f->last_event, "RESUME");
        assert_int_equal(f->closed, 0);
}

/* QEMU has been seen to send what happens just then to who has connected, but was not greeted yet. */
static void test_events_before_ready_are_dropped(void **state) {
        Fixture *f = *state;

        say(f, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n");
        say(f, GREETING);
        hear(f, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n");
        say(f, "{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 1}\r\n");
        assert_int_equal(f->ready, 1);
        assert_int_equal(f->events, 0);
        assert_int_equal(f->closed, 0);
}

static void test_refusal_is_told_escaped(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(ask(f, "go"), 0);
        say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no \\u001b[31mway\"}, \"id\": 2}\n");
        assert_int_equal(f->failures, 1);
        assert_int_equal(f->last_id, ERROR_HYPERVISOR_FAILED);
        assert_string_equal(f->last_error, "The emulator refused: no \\x1b[31mway");
}

static void test_commands_wait_for_ready(void **state) {
        Fixture *f = *state;

        assert_int_equal(ask(f, "early"), 0);
        turn(f);
        say(f, GREETING);
        hear(f, "{\"execute\":\"qmp_capabilities\",\"id\":2}\n");
        say(f, "{\"return\": {}, \"id\": 2}\n");
        hear(f, "{\"execute\":\"early\",\"id\":1}\n");
        say(f, "{\"return\": 1, \"id\": 1}\n");
        assert_int_equal(f->replies, 1);
}

static void test_out_of_order(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(ask(f, "a"), 0);
        assert_int_equal(ask(f, "b"), 0);
        say(f, "{\"return\": 3, \"id\": 3}\n");
        assert_int_equal(f->last_value, 3);
        say(f, "{\"return\": 2, \"id\": 2}\n");
        assert_int_equal(f->last_value, 2);
}

static void test_descriptor_goes_along(void **state) {
        Fixture *f = *state;
        AUTO(fd_set_clear) FdSet fds = { 0 };
        AUTO(fd_drop) int fd = -1;
        char buffer[256];
        size_t length;
        struct stat a, b;

        make_ready(f);
        assert_int_equal(fd_memfd("x", "y", 1, false, &fd), 0);
        assert_int_equal(qmp_send(f->qmp, "getfd", NULL, fd, on_reply, f, NULL), 0);
        assert_int_equal(fd_receive(f->peer, buffer, sizeof buffer, &length, &fds), 0);
        assert_int_equal(fds.count, 1);
        assert_int_equal(fstat(fd, &a), 0);
        assert_int_equal(fstat(fds.fds[0], &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
}

static void test_end_answers_everything_once(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(ask(f, "a"), 0);
        assert_int_equal(ask(f, "b"), 0);
        assert_true(qmp_is_open(f->qmp));
        fd_drop(&f->peer);
        turn(f);
        assert_false(qmp_is_open(f->qmp));
        assert_int_equal(f->failures, 2);
        assert_int_equal(f->closed, 1);
        AUTO(error_clear) Error e = ERROR_INIT;
        assert_true(qmp_send(f->qmp, "c", json_object(), -1, on_reply, f, &e) < 0);
        assert_int_equal(e.id, ERROR_HYPERVISOR_FAILED);
        f->qmp = qmp_free(f->qmp);
        assert_int_equal(f->closed, 1);
        assert_int_equal(f->replies, 2);
}

static void test_free_answers(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(ask(f, "a"), 0);
        f->qmp = qmp_free(f->qmp);
        assert_int_equal(f->failures, 1);
        assert_int_equal(f->last_id, ERROR_INVALID_STATE);
        assert_int_equal(f->closed, 0);
}

static void test_free_inside_event(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(ask(f, "a"), 0);
        f->free_in_event = true;
        say(f, "{\"event\": \"A\"}\n{\"event\": \"B\"}\n");
        assert_int_equal(f->events, 1);
        assert_int_equal(f->failures, 1);
        assert_null(f->qmp);
}

static void test_free_inside_reply(void **state) {
        Fixture *f = *state;

        make_ready(f);
        assert_int_equal(ask(f, "a"), 0);
        assert_int_equal(ask(f, "b"), 0);
        f->free_in_reply = true;
        say(f, "{\"return\": {}, \"id\": 2}\n{\"return\": {}, \"id\": 3}\n");
        assert_int_equal(f->replies, 2);
        assert_int_equal(f->failures, 1);
}

static void test_free_inside_close(void **state) {
        Fixture *f = *state;

        make_ready(f);
        ask(f, "one");
        ask(f, "two");
        f->free_in_reply = true;
        qmp_close(f->qmp);
        assert_null(f->qmp);
        assert_int_equal(f->replies, 2);
        assert_int_equal(f->failures, 2);
        assert_int_equal(f->closed, 0);
}

static void test_deadline(void **state) {
        Fixture *f = *state;

        make_ready(f);
        qmp_set_deadline(f->qmp, 1000);
        assert_int_equal(ask(f, "slow"), 0);
        for (int i = 0; i < 100 && f->replies == 0; i++)
                sd_event_run(f->event, 10000);
        assert_int_equal(f->failures, 1);
        assert_int_equal(f->last_id, ERROR_HYPERVISOR_FAILED);
        assert_string_equal(f->last_error, "The emulator does not answer");
        /* A late answer is dropped, and the client goes on. */
        say(f, "{\"return\": {}, \"id\": 2}\n");
        assert_int_equal(f->replies, 1);
        assert_int_equal(f->closed, 0);
        qmp_set_deadline(f->qmp, QMP_DEADLINE_USEC);
        assert_int_equal(ask(f, "next"), 0);
        say(f, "{\"return\": 5, \"id\": 3}\n");
        assert_int_equal(f->last_value, 5);
}

static void test_bounded_queue(void **state) {
        Fixture *f = *state;
        AUTO(error_clear) Error e = ERROR_INIT;

        make_ready(f);
        for (int i = 0; i < QMP_COMMANDS_MAX; i++)
                assert_int_equal(ask(f, "x"), 0);
        assert_true(qmp_send(f->qmp, "x", json_object(), -1, on_reply, f, &e) < 0);
        assert_int_equal(e.id, ERROR_BUSY);
        assert_int_equal(f->replies, 0);
}

/* A peer that does not read: commands wait, then go out whole. */
static void test_slow_reader(void **state) {
        Fixture *f = *state;
        AUTO(string_drop) char *big = malloc(40001);
        size_t total = 0, lines = 0;
        char buffer[8192];
        ssize_t n;

        memset(big, 'x', 40000);
        big[40000] = '\0';
        make_ready(f);
        for (int i = 0; i < 30; i++)
                assert_int_equal(qmp_send(f->qmp, "x", json_pack("{s:s}", "a", big), -1, on_reply, f, NULL), 0);
        do {
                while ((n = recv(f->peer, buffer, sizeof buffer, 0)) > 0)
                        for (ssize_t i = 0; i < n; i++, total++)
                                lines += buffer[i] == '\n';
        } while (sd_event_run(f->event, 10000) > 0);
        assert_int_equal(lines, 30);
        assert_true(total > 30 * 40000);
}

static void check_broken(Fixture *f, const char *text) {
        make_ready(f);
        assert_int_equal(ask(f, "a"), 0);
        say(f, text);
        assert_int_equal(f->closed, 1);
        assert_int_equal(f->failures, 1);
        assert_non_null(strstr(f->last_error, "Lost the emulator's monitor"));
}

static void test_garbage(void **state) {
        check_broken(*state, "hello\n");
}

static void test_unasked_answer(void **state) {
        check_broken(*state, "{\"return\": {}, \"id\": 77}\n");
}

static void test_answer_without_id(void **state) {
        check_broken(*state, "{\"error\": {\"desc\": \"x\"}}\n");
}

static void test_second_greeting(void **state) {
        check_broken(*state, GREETING);
}

static void test_endless_line(void **state) {
        Fixture *f = *state;
        char *chunk = malloc(4097);

        make_ready(f);
        memset(chunk, 'x', 4096);
        chunk[4096] = '\0';
        for (int i = 0; i < 100 && f->closed == 0; i++)
                say(f, chunk);
        free(chunk);
        assert_int_equal(f->closed, 1);
}

static void test_answer_before_greeting(void **state) {
        Fixture *f = *state;

        say(f, "{\"return\": {}, \"id\": 1}\n");
        assert_int_equal(f->closed, 1);
        assert_int_equal(f->ready, 0);
}

/* ---- the parser ---- */

static int parse(const char *text, QmpMessage *m) {
        return qmp_message_parse(text, strlen(text), m);
}

static void test_parse(void **state) {
        QmpMessage m;

        (void)state;
        assert_int_equal(parse("{\"return\": {\"a\": 1}, \"id\": 5}\r", &m), 0);
        assert_int_equal(m.kind, QMP_MESSAGE_RETURN);
        assert_int_equal(m.id, 5);
        qmp_message_done(&m);
        assert_int_equal(parse("{\"event\": \"X\", \"timestamp\": {}}", &m), 0);
        assert_int_equal(m.kind, QMP_MESSAGE_EVENT);
        assert_null(m.data);
        qmp_message_done(&m);
        assert_int_equal(parse("{\"return\": {}, \"id\": -5}", &m), 0);
        assert_int_equal(m.id, 0);
        qmp_message_done(&m);
}

static void test_parse_refusals(void **state) {
        static const char *const bad[] = {
                "",
                "null",
                "[]",
                "{}",
                "{\"event\": 1}",
                "{\"event\": \"A\", \"data\": 1}",
                "{\"error\": {}}",
                "{\"error\": \"x\"}",
                "{\"QMP\": 1}",
                "{\"return\": 1, \"return\": 2}",
                "{\"return\": \"\\u0000\"}",
                "{\"return\": 1} x",
                "{\"return\": \xff}",
        };
        QmpMessage m;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(parse(bad[i], &m), -EBADMSG);
}

static void test_parse_depth(void **state) {
        char text[200];
        QmpMessage m;

        (void)state;
        for (size_t depth = 1; depth < 60; depth++) {
                strcpy(text, "{\"return\":");
                memset(text + 10, '[', depth);
                memset(text + 10 + depth, ']', depth);
                strcpy(text + 10 + 2 * depth, "}");
                int r = parse(text, &m);
                assert_int_equal(r, depth + 1 <= QMP_DEPTH_MAX ? 0 : -EBADMSG);
                if (r == 0)
                        qmp_message_done(&m);
        }
        /* Brackets in a string are text. */
        strcpy(text, "{\"return\":\"\\\"");
        memset(text + 13, '[', 60);
        strcpy(text + 73, "\"}");
        assert_int_equal(parse(text, &m), 0);
        qmp_message_done(&m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_command),
                TEST(test_events_before_ready_are_dropped),
                TEST(test_refusal_is_told_escaped),
                TEST(test_commands_wait_for_ready),
                TEST(test_out_of_order),
                TEST(test_descriptor_goes_along),
                TEST(test_end_answers_everything_once),
                TEST(test_free_answers),
                TEST(test_free_inside_event),
                TEST(test_free_inside_reply),
                TEST(test_free_inside_close),
                TEST(test_deadline),
                TEST(test_bounded_queue),
                TEST(test_slow_reader),
                TEST(test_garbage),
                TEST(test_unasked_answer),
                TEST(test_answer_without_id),
                TEST(test_second_greeting),
                TEST(test_endless_line),
                TEST(test_answer_before_greeting),
                cmocka_unit_test(test_parse),
                cmocka_unit_test(test_parse_refusals),
                cmocka_unit_test(test_parse_depth),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
