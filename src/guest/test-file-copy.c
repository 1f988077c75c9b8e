#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/bounded-log.h"

#define SIZE (512 * 1024)

typedef struct Rig {
        sd_event *event;
        BoundedLog log;
        FileCopy *copy;
        int fd; /* the reader's */
        unsigned n_ended;
} Rig;

static void count_ended(void *userdata) {
        ((Rig *)userdata)->n_ended++;
}

static void turn(Rig *rig) {
        while (sd_event_run(rig->event, 0) > 0)
                ;
}

/* Numbered lines of eight bytes: the position of each is known. */
static void fill(Rig *rig, unsigned first, unsigned count) {
        char line[16];

        for (unsigned i = first; i < first + count; i++) {
                snprintf(line, sizeof line, "%07u\n", i);
                bounded_log_write(&rig->log, line, 8);
        }
}

static void begin(Rig *rig) {
        assert_int_equal(file_copy_new(rig->event, rig->log.file, &rig->copy, &rig->fd, NULL), 0);
        file_copy_on_end(rig->copy, count_ended, rig);
        assert_int_equal(fcntl(rig->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(fcntl(rig->fd, F_GETFL) & O_NONBLOCK, 0);
}

static int setup(void **state) {
        static Rig rig;
        char path[] = "/tmp/test-file-copy-XXXXXX";

        int fd = mkostemp(path, O_CLOEXEC);
        assert_true(fd >= 0);
        unlink(path);
        rig = (Rig){ .fd = -1 };
        assert_true(sd_event_new(&rig.event) >= 0);
        assert_int_equal(bounded_log_init(&rig.log, fd, SIZE), 0);
        *state = &rig;
        return 0;
}

static int teardown(void **state) {
        Rig *rig = *state;

        file_copy_free(rig->copy);
        bounded_log_done(&rig->log);
        fd_drop(&rig->fd);
        sd_event_unref(rig->event);
        return 0;
}

/* All that comes until end-of-file, the loop turning; the caller's. */
static char *read_to_end(Rig *rig) {
        char *text = calloc(1, 4 * SIZE);
        size_t length = 0;
        ssize_t n;

        assert_non_null(text);
        do {
                turn(rig);
                n = recv(rig->fd, text + length, 5000, MSG_DONTWAIT);
                assert_true(n >= 0);
                length += (size_t)n;
        } while (n > 0);
        return text;
}

static void expect_lines(const char *text, unsigned first, unsigned count) {
        char line[16];

        for (unsigned i = 0; i < count; i++) {
                snprintf(line, sizeof line, "%07u\n", first + i);
                assert_memory_equal(text + 8 * (size_t)i, line, 8);
        }
}

static void test_large_log_comes_whole(void **state) {
        Rig *rig = *state;

        fill(rig, 0, 40000);
        begin(rig);
        turn(rig);
        fill(rig, 40000, 1000); /* is not in the copy */
        char *text = read_to_end(rig);
        assert_int_equal(strlen(text), 8 * 40000);
        expect_lines(text, 0, 40000);
        free(text);

        /* Held until the reader lets go. */
        turn(rig);
        assert_int_equal(rig->n_ended, 0);
        fd_drop(&rig->fd);
        turn(rig);
        assert_int_equal(rig->n_ended, 1);
}

static void test_empty_log_ends_at_once(void **state) {
        Rig *rig = *state;

        begin(rig);
        char *text = read_to_end(rig);
        assert_string_equal(text, "");
        free(text);
}

/* A reader that does not read costs what its socket holds; what is cut off meanwhile it is told. */
static void test_what_is_cut_off_is_told(void **state) {
        Rig *rig = *state;
        unsigned long long skipped = 0;

        fill(rig, 0, 65536); /* full */
        begin(rig);
        turn(rig);
        fill(rig, 65536, 1); /* the older half goes */
        assert_int_equal(rig->log.file->cut_off, 8 * 32768);
        char *text = read_to_end(rig);
        char *marker = strstr(text, "\r\n[debmarshal: ");
        assert_non_null(marker);
        assert_int_equal(sscanf(marker, "\r\n[debmarshal: %llu bytes skipped]", &skipped), 1);
        size_t given = (size_t)(marker - text);
        assert_in_range(given, 1, 200 * 1024);
        assert_int_equal(given + skipped, 8 * 32768);
        expect_lines(text, 0, (unsigned)given / 8);
        char *rest = strstr(marker, "]\r\n") + 3;
        expect_lines(rest, 32768, 32768);
        assert_int_equal(strlen(rest), 8 * 32768);
        free(text);
}

static void test_all_that_is_left_may_be_cut_off(void **state) {
        Rig *rig = *state;

        fill(rig, 0, 65536);
        begin(rig);
        turn(rig);
        fill(rig, 65536, 200000);
        char *text = read_to_end(rig);
        assert_string_equal(text + strlen(text) - strlen("skipped]\r\n"), "skipped]\r\n");
        free(text);
}

static void test_log_ends_before_its_copy(void **state) {
        Rig *rig = *state;

        fill(rig, 0, 40000);
        begin(rig);
        turn(rig);
        bounded_log_done(&rig->log);
        char *text = read_to_end(rig);
        expect_lines(text, 0, 40000);
        free(text);
}

static void test_reader_that_goes(void **state) {
        Rig *rig = *state;

        fill(rig, 0, 40000);
        begin(rig);
        turn(rig);
        fd_drop(&rig->fd);
        turn(rig);
        assert_int_equal(rig->n_ended, 1);
        assert_int_equal(sd_event_run(rig->event, 0), 0); /* and never again */
}

static void test_file_that_shrinks_or_is_none(void **state) {
        Rig *rig = *state;
        SharedFile *file;

        fill(rig, 0, 40000);
        begin(rig);
        turn(rig);
        assert_int_equal(ftruncate(rig->log.file->fd, 0), 0);
        char *text = read_to_end(rig);
        assert_true(strlen(text) < 8 * 40000);
        free(text);

        FileCopy *none = NULL;
        assert_int_equal(shared_file_new(open("/dev/null", O_RDONLY | O_CLOEXEC), &file), 0);
        assert_true(file_copy_new(rig->event, file, &none, &rig->fd, NULL) < 0);
        assert_null(none);
        shared_file_unref(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_large_log_comes_whole),        TEST(test_empty_log_ends_at_once),
                TEST(test_what_is_cut_off_is_told),      TEST(test_all_that_is_left_may_be_cut_off),
                TEST(test_log_ends_before_its_copy),     TEST(test_reader_that_goes),
                TEST(test_file_that_shrinks_or_is_none),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
