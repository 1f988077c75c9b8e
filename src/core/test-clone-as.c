/* Needs root: exits 77 without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "core/clone-as.h"

#define SOME_UID 54321
#define SOME_GID 54322

/* What the child found wrong, as its exit status; 0: nothing. */
static int child_look(void) {
        uid_t r, e, s;
        gid_t rg, eg, sg;
        if (getresuid(&r, &e, &s) < 0 || r != 0 || e != 0 || s != 0)
                return 1;
        if (getresgid(&rg, &eg, &sg) < 0 || rg != 0 || eg != 0 || sg != 0)
                return 2;
        if (getgroups(0, NULL) != 0)
                return 3;
        if (prctl(PR_GET_DUMPABLE) != 0)
                return 4;
        if (setgroups(0, NULL) == 0)
                return 7;
        if (sethostname("inside", 6) < 0)
                return 5;
        if (getpid() != 1)
                return 6;
        return 0;
}

static void test_child_is_the_user(void **state UNUSED) {
        int hold[2];
        assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
        const ChildFds kept[] = { { (const int[]){ 0, 1, 2 }, 3 }, { hold, 2 } };
        int pidfd = -1;
        pid_t pid = clone_as(SOME_UID, SOME_GID, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWPID, kept, 2, &pidfd);
        assert_true(pid >= 0);
        if (pid == 0) {
                int wrong = child_look();
                char byte;
                close(hold[1]);
                (void)!read(hold[0], &byte, 1);
                _exit(wrong);
        }
        close(hold[0]);

        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        AUTO(fd_drop) int ns = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(ns >= 0);
        uid_t owner = 0;
        assert_int_equal(ioctl(ns, NS_GET_OWNER_UID, &owner), 0);
        assert_int_equal(owner, SOME_UID);

        char map[128] = "";
        snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
        AUTO(fd_drop) int map_fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(read(map_fd, map, sizeof map - 1) > 0);
        unsigned inside, outside, count;
        assert_int_equal(sscanf(map, "%u %u %u", &inside, &outside, &count), 3);
        assert_int_equal(inside, 0);
        assert_int_equal(outside, SOME_GID);
        assert_int_equal(count, 1);

        close(hold[1]);
        siginfo_t info = { 0 };
        assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
        assert_int_equal(info.si_code, CLD_EXITED);
        assert_int_equal(info.si_status, 0);
        fd_drop(&pidfd);
}

/* She may stop it before it has done anything at all. */
static void test_child_has_no_stranger_from_the_first_moment_on(void **state UNUSED) {
        int hold[2], strange[2];
        char byte;
        assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
        assert_int_equal(pipe2(strange, O_CLOEXEC), 0);
        const ChildFds kept[] = { { (const int[]){ 0, 1, 2 }, 3 }, { hold, 2 } };
        int pidfd = -1;
        pid_t pid = clone_as(SOME_UID, SOME_GID, CLONE_NEWUSER, kept, 2, &pidfd);
        assert_true(pid >= 0);
        if (pid == 0) {
                close(hold[1]);
                (void)!read(hold[0], &byte, 1);
                _exit(0);
        }
        close(strange[1]);
        struct pollfd end = { .fd = strange[0], .events = POLLIN };
        assert_int_equal(poll(&end, 1, 5000), 1);
        assert_int_equal(read(strange[0], &byte, 1), 0);
        close(strange[0]);
        close(hold[0]);
        close(hold[1]);
        siginfo_t info = { 0 };
        assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
        assert_int_equal(info.si_status, 0);
        fd_drop(&pidfd);
}

/* A group that is not known is not mapped, and is not root's either. */
static void test_group_unknown(void **state UNUSED) {
        const ChildFds kept[] = { { (const int[]){ 0, 1, 2 }, 3 } };
        int pidfd = -1;
        pid_t pid = clone_as(SOME_UID, (gid_t)-1, CLONE_NEWUSER, kept, 1, &pidfd);
        assert_true(pid >= 0);
        if (pid == 0) {
                gid_t r, e, s;
                _exit(getresgid(&r, &e, &s) == 0 && r == 65534 && e == 65534 && s == 65534 && setgid(0) < 0 &&
                                      setgroups(0, NULL) < 0
                              ? 0
                              : 1);
        }
        siginfo_t info = { 0 };
        assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
        assert_int_equal(info.si_status, 0);
        fd_drop(&pidfd);
}

static unsigned count_fds(void) {
        unsigned n = 0;
        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void test_failure_leaves_nothing(void **state UNUSED) {
        unsigned before = count_fds();
        int pidfd = -1;
        assert_int_equal(clone_as(SOME_UID, SOME_GID, CLONE_NEWUSER | CLONE_FS, NULL, 0, &pidfd), -EINVAL);
        assert_int_equal(pidfd, -1);
        assert_int_equal(count_fds(), before);
        assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
        assert_int_equal(errno, ECHILD);
        assert_int_equal(geteuid(), 0);
}

int main(void) {
        if (geteuid() != 0)
                return 77;
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_child_is_the_user),
                cmocka_unit_test(test_child_has_no_stranger_from_the_first_moment_on),
                cmocka_unit_test(test_group_unknown),
                cmocka_unit_test(test_failure_leaves_nothing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
