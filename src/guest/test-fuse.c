#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "guest/fuse.h"

#define UNTOUCHED 4711

/* Whom the table's mount `id` belongs to, *ret_uid, and what is said of it. */
static int find(const char *table, uint64_t id, uid_t *ret_uid) {
        FILE *f = fmemopen((char *)(uintptr_t)table, strlen(table), "r");

        assert_non_null(f);
        *ret_uid = UNTOUCHED;
        int r = fuse_find_user(f, id, ret_uid);
        fclose(f);
        return r;
}

static void test_table(void **state) {
        static const char table[] =
                "2 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
                "36 2 0:41 / /home/a\\040-\\040b rw,nosuid,nodev shared:7 - fuse.sshfs host:/x\\040user_id=0, "
                "rw,user_id=1000,group_id=1000\n"
                "361 2 0:42 / /mnt/disk rw shared:8 master:1 - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,allow_other\n"
                "37 2 0:43 / /mnt/host rw - virtiofs tag rw\n"
                "38 2 0:44 / /mnt/ids rw - fuse x rw,group_id=0\n"
                "39 2 0:45 / /mnt/word rw - fuse x rw,user_id=me\n"
                "40 2 0:46 / /mnt/most rw - fuse x rw,user_id=4294967294,group_id=0";
        static const struct {
                uint64_t id;
                int found;
                uid_t uid;
        } rows[] = {
                { 36, 1, 1000 },
                { 361, 0, 0 },
                { 37, 0, UNTOUCHED },
                { 38, -EBADMSG, UNTOUCHED },
                { 39, -EBADMSG, UNTOUCHED },
                { 40, 1, 4294967294 },
                { 3, -ESTALE, UNTOUCHED },
                { 41, -ESTALE, UNTOUCHED },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                uid_t uid;
                int r = find(table, rows[i].id, &uid);
                if (r != rows[i].found || (r >= 0 && uid != rows[i].uid))
                        fail_msg("mount %d: %d, uid %u", (int)rows[i].id, r, (unsigned)uid);
        }
}

static void test_garbled_table(void **state) {
        static const char *const tables[] = { "\n",
                                              "36\n",
                                              "36 - \n",
                                              "36 x - fuse\n",
                                              "36 x - fuse y\n",
                                              "36 x - fuse y user_id=\n",
                                              "36 x - fuse y user_id=99999999999999\n" };
        uid_t uid;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(tables); i++)
                assert_true(find(tables[i], 36, &uid) < 0);
}

static void test_other_file_systems(void **state) {
        AUTO(fd_drop) int fd = open("/proc/self/stat", O_PATH | O_CLOEXEC);
        uid_t uid;

        (void)state;
        assert_int_equal(fuse_of_user(fd, &uid), 0);
        assert_int_equal(fuse_of_user(-1, &uid), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_garbled_table),
                cmocka_unit_test(test_other_file_systems),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
