#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/test-remove.h"
#include "guest/console.h"

#define LOG_MAX 8192

/* The guest's side of a console, and the console. */
typedef struct Rig {
        sd_event *event;
        Console *console;
        int guest_out, guest_in; /* what the guest writes to, what it reads from */
        int dir_fd;
        char dir[32];
        unsigned ended;
} Rig;

static void count_ended(void *userdata) {
        Rig *rig = userdata;

        rig->ended++;
}

static void turn(Rig *rig) {
        while (sd_event_run(rig->event, 0) > 0)
                ;
}

static int setup(void **state) {
        Rig *rig = calloc(1, sizeof *rig);
        int out[2], in[2], log_fd;

        signal(SIGPIPE, SIG_IGN);
        assert_non_null(rig);
        strcpy(rig->dir, "/tmp/test-console-XXXXXX");
        assert_non_null(mkdtemp(rig->dir));
        rig->dir_fd = open(rig->dir, O_DIRECTORY | O_CLOEXEC);
        log_fd = openat(rig->dir_fd, "log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        assert_true(log_fd >= 0);
        assert_true(sd_event_new(&rig->event) >= 0);
        assert_int_equal(console_new(rig->event, log_fd, LOG_MAX, &rig->console), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_int_equal(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
        rig->guest_out = out[1];
        rig->guest_in = in[0];
        assert_int_equal(console_set_source(rig->console, out[0], in[1]), 0);
        *state = rig;
        return 0;
}

static int teardown(void **state) {
        Rig *rig = *state;

        console_free(rig->console);
        sd_event_unref(rig->event);
        fd_drop(&rig->guest_out);
        fd_drop(&rig->guest_in);
        test_remove_tree(rig->dir);
        fd_drop(&rig->dir_fd);
        free(rig);
        return 0;
}

static int attach(Rig *rig) {
        int fd = -1;

        assert_int_equal(console_attach(rig->console, count_ended, rig, &fd, NULL), 0);
        /* The client's end is an ordinary, blocking, close-on-exec socket. */
        assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        return fd;
}

static void print(Rig *rig, const char *text) {
        assert_int_equal(fd_write_all(rig->guest_out, text, strlen(text)), 0);
        turn(rig);
}

/* What is there now, NUL-terminated, at most size - 1. */
static size_t read_now(int fd, char *buffer, size_t size) {
        size_t length = 0;
        ssize_t n;

        while (length < size - 1 && (n = recv(fd, buffer + length, size - 1 - length, MSG_DONTWAIT)) > 0)
                length += (size_t)n;
        buffer[length] = '\0';
        return length;
}

static void expect_read(int fd, const char *text) {
        char buffer[4096];

        read_now(fd, buffer, sizeof buffer);
        assert_string_equal(buffer, text);
}

static void expect_end(int fd) {
        char byte;

        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

static char *log_text(Rig *rig) {
        char *text = NULL;
        size_t length;
        int fd = -1;
        FileCopy *copy;

        assert_int_equal(file_copy_new(rig->event, console_log_file(rig->console), &copy, &fd, NULL), 0);
        turn(rig);
        assert_int_equal(fd_read_all(fd, 1 << 20, &text, &length), 0);
        file_copy_free(copy);
        fd_drop(&fd);
        return text;
}

static void test_replay_and_live(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = -1, b = -1;

        print(rig, "one\r\n");
        a = attach(rig);
        turn(rig);
        expect_read(a, "one\r\n");
        print(rig, "two\r\n");
        expect_read(a, "two\r\n");
        b = attach(rig);
        turn(rig);
        expect_read(b, "one\r\ntwo\r\n");
        print(rig, "three\r\n");
        expect_read(a, "three\r\n");
        expect_read(b, "three\r\n");
}

static void test_replay_is_the_newest(void **state) {
        Rig *rig = *state;
        AUTO(string_drop) char *got = malloc(CONSOLE_RING_SIZE + 100);
        AUTO(fd_drop) int a = -1;
        char line[32];

        assert_non_null(got);
        for (int i = 0; i < 10000; i++) {
                snprintf(line, sizeof line, "line %05d\n", i);
                print(rig, line);
        }
        a = attach(rig);
        turn(rig);
        assert_int_equal(read_now(a, got, CONSOLE_RING_SIZE + 100), CONSOLE_RING_SIZE);
        assert_string_equal(got + CONSOLE_RING_SIZE - 11, "line 09999\n");
}

static void test_input_of_all(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig), b = attach(rig);
        char got[32] = "";

        assert_int_equal(write(a, "ls\n", 3), 3);
        turn(rig);
        assert_int_equal(write(b, "id\n", 3), 3);
        turn(rig);
        assert_int_equal(read(rig->guest_in, got, sizeof got - 1), 6);
        assert_string_equal(got, "ls\nid\n");
}

/* The guest reads nothing: the clients fill up, the daemon does not, and nothing is lost or out of order. */
static void test_input_pressure(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig);
        size_t written = 0, got = 0;
        uint8_t next = 0;

        for (int idle = 0; idle < 3;) {
                uint8_t data[256];

                for (int i = 0; i < 256; i++)
                        data[i] = (uint8_t)i;
                ssize_t n = send(a, data + written % 256, 256 - written % 256, MSG_DONTWAIT);
                if (n > 0)
                        written += (size_t)n;
                idle = n > 0 ? 0 : idle + 1;
                turn(rig);
        }
        /* A pipe, our buffer and a socket hold it: less than a mebibyte. */
        assert_in_range(written, 64 * 1024, 1 << 20);
        print(rig, "still printing\r\n");
        expect_read(a, "still printing\r\n");

        for (int idle = 0; idle < 3;) {
                uint8_t data[1000];
                ssize_t n = read(rig->guest_in, data, sizeof data);

                for (ssize_t i = 0; i < n; i++)
                        assert_int_equal(data[i], next++);
                got += n > 0 ? (size_t)n : 0;
                idle = n > 0 ? 0 : idle + 1;
                turn(rig);
        }
        assert_int_equal(got, written);
}

static void test_last_words_of_a_client(void **state) {
        Rig *rig = *state;
        int a = attach(rig);
        char data[9000], got[sizeof data + 1];
        ssize_t n;

        memset(data, 'k', sizeof data);
        assert_int_equal(write(a, data, sizeof data), sizeof data);
        fd_drop(&a);
        turn(rig);
        assert_int_equal(rig->ended, 1);
        n = read(rig->guest_in, got, sizeof got);
        assert_int_equal(n, sizeof data);
}

static void test_half_closed_client_still_reads(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig);

        assert_int_equal(shutdown(a, SHUT_WR), 0);
        turn(rig);
        print(rig, "hello");
        expect_read(a, "hello");
        assert_int_equal(rig->ended, 0);
}

/* One client does not read: it is told what it missed; the other gets every byte. */
static void test_slow_client(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int slow = attach(rig), quick = attach(rig);
        AUTO(string_drop) char *got = malloc(4 << 20);
        size_t printed = 0, quick_got = 0;
        char line[1024], *marker;
        unsigned long long skipped;

        assert_non_null(got);
        for (int i = 0; i < 2000; i++) {
                memset(line, 'a' + i % 26, sizeof line - 1);
                line[sizeof line - 1] = '\0';
                print(rig, line);
                printed += strlen(line);
                quick_got += read_now(quick, got, 4 << 20);
                assert_string_equal(got, line);
        }
        assert_int_equal(quick_got, printed);
        assert_int_equal(rig->ended, 0);

        size_t first = read_now(slow, got, 4 << 20), length = first;
        assert_true(first < printed);
        for (size_t n = 1; n > 0; length += n) {
                turn(rig);
                n = read_now(slow, got + length, (4 << 20) - length);
        }
        marker = strstr(got, "\r\n[debmarshal: ");
        assert_non_null(marker);
        assert_int_equal(sscanf(marker, "\r\n[debmarshal: %llu bytes skipped]", &skipped), 1);
        /* Nothing is lost that is not told: what came, less the marker, and what was skipped are all there was. */
        size_t marker_length = (size_t)(strstr(marker, "skipped]\r\n") + strlen("skipped]\r\n") - marker);
        assert_int_equal(length - marker_length + skipped, printed);
        assert_null(strstr(marker + marker_length, "[debmarshal"));
}

static void test_stuck_client_is_cut_off(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int stuck = -1, idle = -1;
        char line[1024];

        console_set_patience(rig->console, 50000);
        stuck = attach(rig);
        memset(line, 'x', sizeof line - 1);
        line[sizeof line - 1] = '\0';
        for (int i = 0; i < 1000; i++)
                print(rig, line);
        idle = attach(rig); /* reads as little, but its socket has room */
        turn(rig);
        for (int i = 0; i < 100 && rig->ended == 0; i++)
                sd_event_run(rig->event, 20000);
        assert_int_equal(rig->ended, 1);
        for (int i = 0; i < 20; i++)
                sd_event_run(rig->event, 20000);
        assert_int_equal(rig->ended, 1);
}

static void test_clients_end(void **state) {
        Rig *rig = *state;
        int a = attach(rig), b = attach(rig);

        fd_drop(&a);
        turn(rig);
        assert_int_equal(rig->ended, 1);
        print(rig, "on");
        expect_read(b, "on");
        assert_int_equal(fd_write_all(rig->guest_out, "last words", 10), 0);
        rig->console = console_free(rig->console);
        assert_int_equal(rig->ended, 2);
        expect_read(b, "last words");
        expect_end(b);
        fd_drop(&b);
}

static void test_too_many_clients(void **state) {
        Rig *rig = *state;
        int fds[CONSOLE_CLIENTS_MAX], fd = -1;
        Error e = ERROR_INIT;

        for (int i = 0; i < CONSOLE_CLIENTS_MAX; i++)
                fds[i] = attach(rig);
        assert_int_equal(console_attach(rig->console, count_ended, rig, &fd, &e), error_errno(ERROR_QUOTA_EXCEEDED));
        assert_int_equal(e.id, ERROR_QUOTA_EXCEEDED);
        error_clear(&e);
        fd_drop(&fds[0]);
        turn(rig);
        fds[0] = attach(rig);
        for (int i = 0; i < CONSOLE_CLIENTS_MAX; i++)
                fd_drop(&fds[i]);
        turn(rig);
        assert_int_equal(rig->ended, CONSOLE_CLIENTS_MAX + 1);
}

static void test_source_swap_keeps_order(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig), guest = -1;
        int pair[2];

        /* Written, and not read yet when the source is replaced. */
        assert_int_equal(fd_write_all(rig->guest_out, "boot loader\r\n", 13), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        guest = pair[1];
        assert_int_equal(console_set_source(rig->console, pair[0], pair[0]), 0);
        assert_int_equal(fd_write_all(guest, "kernel\r\n", 8), 0);
        turn(rig);
        expect_read(a, "boot loader\r\nkernel\r\n");
        assert_int_equal(write(a, "x", 1), 1);
        turn(rig);
        expect_read(guest, "x");
        /* The old source is closed. */
        assert_int_equal(write(rig->guest_out, "?", 1), -1);
        assert_int_equal(errno, EPIPE);
}

static void test_detached_keeps_clients(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig);

        assert_int_equal(console_set_source(rig->console, -1, -1), 0);
        assert_int_equal(write(a, "held", 4), 4);
        turn(rig);
        console_note(rig->console, "debmarshal: nobody there");
        turn(rig);
        expect_read(a, "debmarshal: nobody there\r\n");
        assert_int_equal(rig->ended, 0);

        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(console_set_source(rig->console, pair[0], pair[0]), 0);
        turn(rig);
        expect_read(pair[1], "held");
        fd_drop(&pair[1]);
        /* The source ends by itself, and the loop comes to rest. */
        for (int i = 0; i < 10; i++)
                sd_event_run(rig->event, 0);
        assert_int_equal(sd_event_run(rig->event, 0), 0);
        assert_int_equal(rig->ended, 0);
}

static void test_client_gone_without_source(void **state) {
        Rig *rig = *state;
        int a = attach(rig);

        assert_int_equal(console_set_source(rig->console, -1, -1), 0);
        assert_int_equal(write(a, "x", 1), 1);
        fd_drop(&a);
        turn(rig);
        assert_int_equal(rig->ended, 1);
}

/* What the guest has got on one of its lines. */
static void expect_input(int fd, const char *text) {
        char buffer[64] = "";
        ssize_t n = read(fd, buffer, sizeof buffer - 1);

        if (*text)
                assert_int_equal(n, strlen(text));
        else
                assert_true(n < 0 && errno == EAGAIN);
        assert_string_equal(buffer, text);
}

static void test_input_goes_to_the_line_that_spoke_last(void **state) {
        Rig *rig = *state;
        int out[2], in[2];
        AUTO(fd_drop) int client = attach(rig);

        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_int_equal(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(console_set_second_source(rig->console, out[0], in[1]), 0);
        assert_int_equal(write(client, "a", 1), 1);
        turn(rig);
        expect_input(rig->guest_in, "a");
        expect_input(in[0], "a"); /* nobody knows yet which line the guest listens to */

        assert_int_equal(write(out[1], "serial", 6), 6);
        turn(rig);
        expect_read(client, "serial");
        assert_int_equal(write(client, "b", 1), 1);
        turn(rig);
        expect_input(in[0], "b");
        expect_input(rig->guest_in, "");

        print(rig, "xen");
        expect_read(client, "xen");
        assert_int_equal(write(client, "c", 1), 1);
        turn(rig);
        expect_input(rig->guest_in, "c");

        /* One that goes leaves the input to the other. */
        assert_int_equal(console_set_source(rig->console, -1, -1), 0);
        assert_int_equal(write(client, "d", 1), 1);
        turn(rig);
        expect_input(in[0], "d");
        fd_drop(&out[1]);
        fd_drop(&in[0]);
}

static void test_pty_source(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig);
        struct termios raw;
        int master, slave;
        char got[8] = "";

        memset(&raw, 0, sizeof raw);
        cfmakeraw(&raw);
        assert_int_equal(openpty(&master, &slave, NULL, &raw, NULL), 0);
        assert_int_equal(console_set_source(rig->console, master, master), 0);
        assert_int_equal(write(slave, "menu", 4), 4);
        assert_true(sd_event_run(rig->event, 5 * 1000000ULL) > 0); /* a pty passes things on by and by */
        turn(rig);
        expect_read(a, "menu");
        assert_int_equal(write(a, "\r", 1), 1);
        turn(rig);
        assert_int_equal(read(slave, got, sizeof got), 1);
        assert_string_equal(got, "\r");
        fd_drop(&slave);
        assert_true(sd_event_run(rig->event, 5 * 1000000ULL) > 0); /* EIO: the source is closed */
        turn(rig);
        assert_int_equal(rig->ended, 0);
}

static void test_note_begins_a_line(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = attach(rig);

        console_note(rig->console, "first");
        print(rig, "login: ");
        console_note(rig->console, "second");
        turn(rig);
        expect_read(a, "first\r\nlogin: \r\nsecond\r\n");
        AUTO(string_drop) char *text = log_text(rig);
        assert_string_equal(text, "first\r\nlogin: \r\nsecond\r\n");
}

static void test_log_is_bounded(void **state) {
        Rig *rig = *state;
        char line[32];

        for (int i = 0; i < 5000; i++) {
                snprintf(line, sizeof line, "line %05d\n", i);
                print(rig, line);
                if (i % 100 == 99) {
                        AUTO(string_drop) char *text = log_text(rig);
                        size_t length = strlen(text);

                        assert_true(length <= LOG_MAX);
                        assert_true(i < 800 || length >= LOG_MAX / 2 - sizeof line);
                        assert_string_equal(text + length - 11, line);
                        /* Whole and in order from the first full line on. */
                        unsigned expected = (unsigned)i;
                        for (size_t at = length - 11; at > 11; at -= 11, expected--) {
                                snprintf(line, sizeof line, "line %05u\n", expected);
                                assert_memory_equal(text + at, line, 11);
                        }
                }
        }
}

static void test_log_takes_a_burst(void **state) {
        Rig *rig = *state;
        char data[3 * LOG_MAX];

        memset(data, '.', sizeof data);
        memcpy(data + sizeof data - 4, "end\n", 4);
        assert_int_equal(fd_write_all(rig->guest_out, data, sizeof data), 0);
        turn(rig);
        AUTO(string_drop) char *text = log_text(rig);
        size_t length = strlen(text);
        assert_in_range(length, LOG_MAX / 2, LOG_MAX);
        assert_string_equal(text + length - 4, "end\n");
}

static void test_log_of_before_goes_on(void **state) {
        Rig *rig = *state;
        int fd;

        print(rig, "before\n");
        rig->console = console_free(rig->console);
        fd = openat(rig->dir_fd, "log", O_RDWR | O_APPEND | O_CLOEXEC);
        assert_int_equal(console_new(rig->event, fd, LOG_MAX, &rig->console), 0);
        console_note(rig->console, "after");
        AUTO(string_drop) char *text = log_text(rig);
        assert_string_equal(text, "before\nafter\r\n");
}

/* /dev/full refuses every byte: the console goes on, and clients see all. */
static void test_log_that_cannot_be_written(void **state) {
        Rig *rig = *state;
        AUTO(fd_drop) int a = -1;
        int out[2];

        console_free(rig->console);
        assert_int_equal(console_new(rig->event, open("/dev/full", O_RDWR | O_CLOEXEC), LOG_MAX, &rig->console), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        fd_drop(&rig->guest_out);
        rig->guest_out = out[1];
        assert_int_equal(console_set_source(rig->console, out[0], -1), 0);
        a = attach(rig);
        print(rig, "one");
        print(rig, "two");
        expect_read(a, "onetwo");
}

static void expect_since(Rig *rig, uint64_t position, size_t max, const char *expected) {
        size_t length = 0;
        AUTO(string_drop) char *text = console_text_since(rig->console, position, max, &length);

        assert_string_equal(text, expected);
        assert_int_equal(length, strlen(expected));
}

static void test_text_since(void **state) {
        Rig *rig = *state;
        char large[CONSOLE_RING_SIZE / 2 + 1];
        size_t length = 0;

        expect_since(rig, 0, 100, "");
        print(rig, "before");
        uint64_t position = console_position(rig->console);
        expect_since(rig, position, 100, "");
        print(rig, "one two");
        expect_since(rig, position, 100, "one two");
        expect_since(rig, position, 3, "two");
        expect_since(rig, position, 0, "");

        /* What has fallen out of the ring is gone. */
        memset(large, 'x', sizeof large - 1);
        large[sizeof large - 1] = '\0';
        for (int i = 0; i < 3; i++)
                print(rig, large);
        AUTO(string_drop) char *all = console_text_since(rig->console, position, SIZE_MAX, &length);
        assert_non_null(all);
        assert_int_equal(length, CONSOLE_RING_SIZE);
        assert_int_equal(strspn(all, "x"), length);
        print(rig, "end");
        expect_since(rig, position, 5, "xxend");
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                T(test_replay_and_live),
                T(test_replay_is_the_newest),
                T(test_input_of_all),
                T(test_input_pressure),
                T(test_last_words_of_a_client),
                T(test_half_closed_client_still_reads),
                T(test_slow_client),
                T(test_stuck_client_is_cut_off),
                T(test_clients_end),
                T(test_too_many_clients),
                T(test_source_swap_keeps_order),
                T(test_detached_keeps_clients),
                T(test_client_gone_without_source),
                T(test_input_goes_to_the_line_that_spoke_last),
                T(test_pty_source),
                T(test_note_begins_a_line),
                T(test_text_since),
                T(test_log_is_bounded),
                T(test_log_takes_a_burst),
                T(test_log_of_before_goes_on),
                T(test_log_that_cannot_be_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
