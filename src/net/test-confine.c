/* Children that are confined as the server is, and then try what it must not and what it needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/capabilities.h"
#include "base/macros.h"
#include "net/confine.h"

/* A file and a listening socket of the user's, made before. */
static char file[] = "/tmp/test-confine-XXXXXX";
static struct sockaddr_un listening = { .sun_family = AF_UNIX };
static int file_fd = -1, listener = -1;

static int set_up(void **state UNUSED) {
        file_fd = mkostemp(file, O_CLOEXEC);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        snprintf(listening.sun_path, sizeof listening.sun_path, "%s.socket", file);
        return file_fd < 0 || bind(listener, (struct sockaddr *)&listening, sizeof listening) < 0 ||
                               listen(listener, 1) < 0
                       ? -1
                       : 0;
}

static int tear_down(void **state UNUSED) {
        close(file_fd);
        close(listener);
        return unlink(file) < 0 || unlink(listening.sun_path) < 0 ? -1 : 0;
}

/* ---- what is tried; -1 and errno, as of the call ---- */

static long connect_to_user(void) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&listening, sizeof listening);
}

static long pair(void) {
        int fds[2];
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
}

static long vsock(void) {
        return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static long change_mode(void) {
        return chmod(file, 0777);
}

static long change_open_mode(void) {
        return fchmod(file_fd, 0777);
}

static long change_mode_2(void) {
        return syscall(452, AT_FDCWD, file, 0777, AT_SYMLINK_NOFOLLOW);
}

static long change_owner(void) {
        return chown(file, geteuid(), (gid_t)-1);
}

static long change_times(void) {
        return utimensat(AT_FDCWD, file, NULL, 0);
}

static long change_times_of_old(void) {
        return utimes(file, NULL);
}

static long change_attributes(void) {
        return setxattr(file, "user.test", "x", 1, 0);
}

static long trace(void) {
        return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL);
}

static long shared_memory(void) {
        return shmget(IPC_PRIVATE, 4096, 0600);
}

static long ring(void) {
        char parameters[128] = { 0 };
        return syscall(SYS_io_uring_setup, 1, parameters);
}

static long new_namespace(void) {
        return unshare(CLONE_NEWUSER);
}

static long child_in_a_namespace(void) {
        long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
                _exit(0);
        return pid;
}

static long read_file(void) {
        return open(file, O_RDONLY | O_CLOEXEC);
}

static long internet(void) {
        return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static long internet6(void) {
        return socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static long netlink(void) {
        return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
}

static long read_program(void) {
        return open("/usr/bin/env", O_RDONLY | O_CLOEXEC);
}

static long child(void) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
                _exit(0);
        return pid < 0 ? -1 : waitpid(pid, &status, 0);
}

/* ---- trying ---- */

/* The errno with which it ends there, 0 if it succeeds. */
static int confined(long (*try)(void)) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (capabilities_freeze() < 0 || confine_files("/usr/bin/env") < 0 || confine_calls() < 0)
                        _exit(255);
                _exit(try() < 0 ? errno : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void check_all(long (*const tries[])(void), size_t n, int expected) {
        for (size_t i = 0; i < n; i++) {
                int r = confined(tries[i]);
                if (r != expected)
                        fail_msg("attempt %zu ended with %d", i, r);
        }
}

static void test_calls_that_are_refused(void **state UNUSED) {
        static long (*const tries[])(void) = {
                connect_to_user, pair,         vsock,         change_mode,         change_open_mode,
                change_mode_2,   change_owner, change_times,  change_times_of_old, change_attributes,
                trace,           ring,         shared_memory, new_namespace,       child_in_a_namespace,
        };

        if (prctl(PR_GET_SECCOMP) < 0)
                skip();
        check_all(tries, ARRAY_LEN(tries), EPERM);
}

static void test_files_that_are_refused(void **state UNUSED) {
        static long (*const tries[])(void) = { read_file };

        if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 0)
                skip();
        check_all(tries, ARRAY_LEN(tries), EACCES);
}

static void test_what_a_server_needs(void **state UNUSED) {
        static long (*const tries[])(void) = { internet, internet6, netlink, read_program, child };

        check_all(tries, ARRAY_LEN(tries), 0);
}

/* Or else their refusal would not mean anything. */
static void test_they_work_unconfined(void **state UNUSED) {
        static long (*const tries[])(void) = { connect_to_user, pair,         change_mode,         change_open_mode,
                                               change_owner,    change_times, change_times_of_old, read_file };

        for (size_t i = 0; i < ARRAY_LEN(tries); i++)
                assert_true(tries[i]() >= 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_calls_that_are_refused),
                cmocka_unit_test(test_files_that_are_refused),
                cmocka_unit_test(test_what_a_server_needs),
                cmocka_unit_test(test_they_work_unconfined),
        };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
