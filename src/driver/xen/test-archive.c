/* Archives as they are on paper, and as cpio reads them, with another one behind. */
#include "base/test-support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/xen/archive.h"

static int empty_file(void) {
        int fd = -1;

        assert_int_equal(fd_memfd("archive", "", 0, false, &fd), 0);
        return fd;
}

static void expect_content(int fd, const char *expected, size_t length) {
        AUTO(string_drop) char *data = NULL;
        size_t got;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(fd_read_all(fd, 1 << 20, &data, &got), 0);
        assert_int_equal(got, length);
        assert_memory_equal(data, expected, length);
}

#define NUMBERS(mode, links, size, name_size)                                                                          \
        "00000000" mode "00000000"                                                                                     \
        "00000000" links "00000000" size "00000000"                                                                    \
        "00000000"                                                                                                     \
        "00000000"                                                                                                     \
        "00000000" name_size "00000000"

static void test_bytes(void **state) {
        static const char expected[] = "070701" NUMBERS("00008124", "00000001", "00000005",
                                                        "00000002") "a\0"
                                                                    "hello\0\0\0"
                                                                    "070701" NUMBERS("00000000", "00000001", "00000000",
                                                                                     "0000000b") "TRAILER!!!\0\0\0\0";
        AUTO(fd_drop) int fd = empty_file();

        (void)state;
        assert_int_equal(archive_add_text(fd, "a", "hello"), 0);
        assert_int_equal(archive_end(fd), 0);
        expect_content(fd, expected, sizeof expected - 1);
}

/* A position of its own, a size that is less than there is, and more. */
static void test_files(void **state) {
        AUTO(fd_drop) int a = empty_file(), b = empty_file(), from = -1;

        (void)state;
        assert_int_equal(fd_memfd("from", "content that goes on", 20, false, &from), 0);
        assert_int_equal(lseek(from, 5, SEEK_SET), 5);
        assert_int_equal(archive_add(a, "file", from, 7), 0);
        assert_int_equal(archive_add_text(b, "file", "content"), 0);
        off_t length = lseek(b, 0, SEEK_CUR);
        assert_int_equal(lseek(b, 0, SEEK_SET), 0);
        AUTO(string_drop) char *expected = NULL;
        size_t got;
        assert_int_equal(fd_read_all(b, 4096, &expected, &got), 0);
        assert_int_equal(got, length);
        expect_content(a, expected, got);
        assert_int_equal(archive_add(a, "file", from, 21), -EIO);
        assert_int_equal(archive_append(a, from, 21), -EIO);
        assert_int_equal(archive_add(a, "file", from, 1ULL << 32), -EFBIG);
        assert_int_equal(archive_add_text(a, "a name that is much too long for an archive of ours", ""), -ENAMETOOLONG);
        assert_int_equal(archive_append(a, -1, 1), -EBADF);
}

/* Larger than the buffer, and behind it an archive that begins where this one ends. */
static void test_two_of_them(void **state) {
        AUTO(fd_drop) int fd = empty_file(), large = empty_file(), second = empty_file();

        (void)state;
        assert_int_equal(ftruncate(large, 200001), 0);
        assert_int_equal(archive_add(fd, "large", large, 200001), 0);
        assert_int_equal(archive_end(fd), 0);
        off_t end = lseek(fd, 0, SEEK_CUR);
        assert_int_equal(end % 4, 0);
        assert_int_equal(archive_add_text(second, "x", "y"), 0);
        off_t size = lseek(second, 0, SEEK_CUR);
        assert_int_equal(archive_append(fd, second, (uint64_t)size), 0);
        char magic[6];
        assert_int_equal(pread(fd, magic, sizeof magic, end), sizeof magic);
        assert_memory_equal(magic, "070701", sizeof magic);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bytes),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_two_of_them),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
