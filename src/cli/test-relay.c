#include "cli/relay.h"

#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/macros.h"
#include "base/test-support.h"

#define PLENTY (1 << 20) /* more than any buffer on the way */

/* Standard input and output are pipes; the far end of the socket is a thread. */
typedef struct Setup {
        int in[2], out[2], sockets[2];
        Relay relay;
} Setup;

static void setup(Setup *s) {
        signal(SIGPIPE, SIG_IGN);
        assert_int_equal(pipe2(s->in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(s->out, O_CLOEXEC), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->sockets), 0);
        s->relay = (Relay){ .in = s->in[0], .out = s->out[1], .socket = s->sockets[0], .signal_fd = -1 };
}

static void done(Setup *s) {
        int *all[] = { &s->in[0], &s->in[1], &s->out[0], &s->out[1], &s->sockets[0], &s->sockets[1] };

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                fd_drop(all[i]);
}

/* Send back whatever comes until the half close, then close. */
static void *echo(void *fd_pointer) {
        int *fd = fd_pointer;
        char buffer[8192];
        ssize_t n;

        while ((n = read(*fd, buffer, sizeof buffer)) > 0)
                if (fd_write_all(*fd, buffer, (size_t)n) < 0)
                        break;
        fd_drop(fd);
        return NULL;
}

static void *feed(void *fd_pointer) {
        int *fd = fd_pointer;
        char *data = malloc(PLENTY);

        for (size_t i = 0; i < PLENTY; i++)
                data[i] = (char)(i * 7 + i / 251);
        fd_write_all(*fd, data, PLENTY);
        free(data);
        fd_drop(fd);
        return NULL;
}

typedef struct Drain {
        int *fd;
        size_t count, wrong;
} Drain;

static void *drain(void *drain_pointer) {
        Drain *d = drain_pointer;
        char buffer[8192];
        ssize_t n;

        while ((n = read(*d->fd, buffer, sizeof buffer)) > 0)
                for (ssize_t i = 0; i < n; i++, d->count++)
                        d->wrong += buffer[i] != (char)(d->count * 7 + d->count / 251);
        return NULL;
}

static void test_everything_arrives_both_ways(void **state) {
        pthread_t echoer, feeder, drainer;
        Setup s;
        Drain d = { .fd = &s.out[0] };

        (void)state;
        setup(&s);
        s.relay.half_close = true;
        pthread_create(&echoer, NULL, echo, &s.sockets[1]);
        pthread_create(&feeder, NULL, feed, &s.in[1]);
        pthread_create(&drainer, NULL, drain, &d);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        fd_drop(&s.out[1]);
        pthread_join(echoer, NULL);
        pthread_join(feeder, NULL);
        pthread_join(drainer, NULL);
        assert_int_equal(d.count, PLENTY);
        assert_int_equal(d.wrong, 0);
        done(&s);
}

static void test_last_words_after_close(void **state) {
        char buffer[16] = "";
        Setup s;

        (void)state;
        setup(&s);
        assert_int_equal(fd_write_all(s.sockets[1], "bye", 3), 0);
        fd_drop(&s.sockets[1]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        assert_int_equal(read(s.out[0], buffer, sizeof buffer), 3);
        assert_string_equal(buffer, "bye");
        done(&s);
}

/* Even when nothing is to be written, so that "debmarshal ... | head -1" ends. */
static void test_closed_output_ends_it(void **state) {
        Setup s;

        (void)state;
        setup(&s);
        fd_drop(&s.out[0]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_OUT_CLOSED);
        done(&s);
}

static bool stop_at_q(void *user, char *data, size_t *length) {
        (void)user;
        return memchr(data, 'q', *length) != NULL;
}

static void test_hook_stops_it(void **state) {
        Setup s;

        (void)state;
        setup(&s);
        s.relay.input = stop_at_q;
        assert_int_equal(fd_write_all(s.in[1], "q", 1), 0);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_STOPPED);
        done(&s);
}

/* One line is waited for. */
static bool answered(void *user, const char *data, size_t length, bool in_ended) {
        bool *seen = user;

        *seen |= memchr(data, '\n', length) != NULL;
        return in_ended && *seen;
}

static void test_lingers_for_an_answer(void **state) {
        bool seen = false;
        Setup s;

        (void)state;
        setup(&s);
        s.relay.user = &seen;
        s.relay.linger_usec = 20000;
        s.relay.output = answered;
        fd_drop(&s.in[1]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_LINGERED); /* none came */
        done(&s);

        setup(&s);
        s.relay.user = &seen;
        s.relay.linger_usec = 20000000;
        s.relay.output = answered;
        fd_drop(&s.in[1]);
        assert_int_equal(fd_write_all(s.sockets[1], "{}\n", 3), 0);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_STOPPED);
        done(&s);
}

/* The answer was there before the input ended: nothing is left to wait for. */
static void test_answered_before_the_end(void **state) {
        bool seen = true;
        Setup s;

        (void)state;
        setup(&s);
        s.relay.user = &seen;
        s.relay.linger_usec = 20000000;
        s.relay.output = answered;
        fd_drop(&s.in[1]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_STOPPED);
        done(&s);
}

/* The far end says all it has to say, at once, and then reads in its own time. */
static void *half_close_and_drain(void *drain_pointer) {
        Drain *d = drain_pointer;

        shutdown(*d->fd, SHUT_WR);
        usleep(100000);
        return drain(d);
}

static void test_a_half_close_does_not_stop_the_input(void **state) {
        pthread_t feeder, drainer;
        Setup s;
        Drain d = { .fd = &s.sockets[1] };

        (void)state;
        setup(&s);
        s.relay.half_close = s.relay.whole_input = true;
        pthread_create(&drainer, NULL, half_close_and_drain, &d);
        pthread_create(&feeder, NULL, feed, &s.in[1]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        pthread_join(feeder, NULL);
        pthread_join(drainer, NULL);
        assert_int_equal(d.count, PLENTY);
        assert_int_equal(d.wrong, 0);
        done(&s);
}

/* A slow producer has said nothing yet when the half close comes. */
static void *feed_late(void *fd_pointer) {
        int *fd = fd_pointer;

        usleep(100000);
        fd_write_all(*fd, "late", 4);
        fd_drop(fd);
        return NULL;
}

static void test_a_half_close_waits_for_a_pipe(void **state) {
        pthread_t feeder, drainer;
        Setup s;
        Drain d = { .fd = &s.sockets[1] };

        (void)state;
        setup(&s);
        s.relay.half_close = s.relay.whole_input = true;
        shutdown(s.sockets[1], SHUT_WR);
        pthread_create(&feeder, NULL, feed_late, &s.in[1]);
        pthread_create(&drainer, NULL, drain, &d);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        pthread_join(feeder, NULL);
        pthread_join(drainer, NULL);
        assert_int_equal(d.count, 4);
        done(&s);
}

/* What waits at a terminal is somebody who waits for the end. */
static void test_a_half_close_ends_a_terminal(void **state) {
        Setup s;
        int master, slave;

        (void)state;
        setup(&s);
        assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
        s.relay.half_close = s.relay.whole_input = true;
        s.relay.in = slave;
        shutdown(s.sockets[1], SHUT_WR);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        fd_drop(&master);
        fd_drop(&slave);
        done(&s);
}

/* Reads a little, says something and dies. */
static void *die_early(void *fd_pointer) {
        int *fd = fd_pointer;
        char buffer[8192];

        if (read(*fd, buffer, sizeof buffer) > 0)
                fd_write_all(*fd, "no", 2);
        fd_drop(fd);
        return NULL;
}

static void test_input_that_is_not_taken_is_an_error(void **state) {
        AUTO(error_clear) Error e = ERROR_INIT;
        pthread_t feeder, dier;
        Setup s;

        (void)state;
        setup(&s);
        s.relay.half_close = s.relay.whole_input = true;
        pthread_create(&dier, NULL, die_early, &s.sockets[1]);
        pthread_create(&feeder, NULL, feed, &s.in[1]);
        assert_true(relay_run(&s.relay, &e) < 0);
        assert_true(error_is_set(&e));
        fd_drop(&s.in[0]);
        pthread_join(feeder, NULL);
        pthread_join(dier, NULL);
        done(&s);
}

/* The socket is closed in both directions before the input has said anything: nothing is lost. */
static void test_a_full_close_without_input(void **state) {
        Setup s;

        (void)state;
        setup(&s);
        s.relay.half_close = s.relay.whole_input = true;
        fd_drop(&s.sockets[1]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        done(&s);
}

static void test_no_input_at_all(void **state) {
        Setup s;

        (void)state;
        setup(&s);
        s.relay.in = -1;
        assert_int_equal(fd_write_all(s.sockets[1], "x", 1), 0);
        fd_drop(&s.sockets[1]);
        assert_int_equal(relay_run(&s.relay, NULL), 0);
        assert_int_equal(s.relay.end, RELAY_CLOSED);
        done(&s);
}

static void test_not_a_socket(void **state) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Relay relay = { .in = -1, .out = STDOUT_FILENO, .socket = -1, .signal_fd = -1 };

        (void)state;
        assert_true(relay_run(&relay, &e) < 0);
        assert_true(error_is_set(&e));
}

static void test_copy_all(void **state) {
        AUTO(fd_drop) int from = -1, to = -1;
        char buffer[16] = "";

        (void)state;
        assert_int_equal(fd_memfd("from", "hello", 5, true, &from), 0);
        assert_int_equal(fd_memfd("to", "", 0, false, &to), 0);
        assert_int_equal(copy_all(from, to, "it", NULL), 0);
        assert_int_equal(pread(to, buffer, sizeof buffer, 0), 5);
        assert_string_equal(buffer, "hello");
        assert_int_equal(copy_all(-1, to, "it", NULL), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_everything_arrives_both_ways),
                cmocka_unit_test(test_last_words_after_close),
                cmocka_unit_test(test_closed_output_ends_it),
                cmocka_unit_test(test_hook_stops_it),
                cmocka_unit_test(test_lingers_for_an_answer),
                cmocka_unit_test(test_answered_before_the_end),
                cmocka_unit_test(test_a_half_close_does_not_stop_the_input),
                cmocka_unit_test(test_a_half_close_waits_for_a_pipe),
                cmocka_unit_test(test_a_half_close_ends_a_terminal),
                cmocka_unit_test(test_input_that_is_not_taken_is_an_error),
                cmocka_unit_test(test_a_full_close_without_input),
                cmocka_unit_test(test_no_input_at_all),
                cmocka_unit_test(test_not_a_socket),
                cmocka_unit_test(test_copy_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
