#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/test-children.h"

typedef struct Ended {
        bool fired;
        ChildExit exit;
        bool idle;
} Ended;

static void on_ended(Process *p, const ChildExit *exit) {
        Ended *e = p->userdata;
        *e = (Ended){ .fired = true, .exit = *exit, .idle = p->pidfd == -1 && !p->source };
}

static pid_t start_child(void (*run)(void)) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                run();
                _exit(EXIT_FAILURE);
        }
        return pid;
}

static void run_pause(void) {
        for (;;)
                pause();
}

static void run_exit_3(void) {
        _exit(3);
}

/* Whoever kills one also reaps it if it goes at once. A loaded machine takes its time: then it is left to us. */
static void assert_killed(pid_t pid) {
        int status;
        if (waitpid(pid, &status, 0) < 0) {
                assert_int_equal(errno, ECHILD);
                return;
        }
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void watch(Process *p, sd_event *event, pid_t pid, Ended *ended) {
        ProcessId id;
        assert_int_equal(process_identify_child(pid, &id), 0);
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        assert_true(pidfd >= 0);
        assert_int_equal(process_watch(p, event, &id, pidfd, on_ended, ended), 0);
}

static void test_identifies_itself(void **state UNUSED) {
        ProcessId a, b;
        assert_int_equal(process_identify(getpid(), &a), 0);
        assert_int_equal(a.pid, getpid());
        assert_true(a.start_time > 0);

        /* A name made to confuse who looks for parentheses or blanks. */
        assert_int_equal(prctl(PR_SET_NAME, "a) R 1 (b) 7"), 0);
        assert_int_equal(process_identify(getpid(), &b), 0);
        prctl(PR_SET_NAME, "test-process");
        assert_true(a.start_time == b.start_time);
}

static void test_no_such_process(void **state UNUSED) {
        ProcessId id;
        assert_int_equal(process_identify(0, &id), -ESRCH);
        assert_int_equal(process_identify(-1, &id), -ESRCH);
        int fd = -1;
        assert_int_equal(process_open(&(ProcessId){ 0 }, &fd), -ESRCH);
        assert_int_equal(process_open(&(ProcessId){ .pid = 0x3fffffff, .start_time = 1 }, &fd), -ESRCH);
        assert_int_equal(fd, -1);
}

static void test_open_refuses_a_later_one(void **state UNUSED) {
        ProcessId id;
        assert_int_equal(process_identify(getpid(), &id), 0);
        int fd = -1;
        assert_int_equal(process_open(&id, &fd), 0);
        close(fd);

        fd = -1;
        id.start_time--;
        assert_int_equal(process_open(&id, &fd), -ESRCH);
        assert_int_equal(fd, -1);
}

static void test_zombie_has_ended(void **state UNUSED) {
        pid_t pid = start_child(run_exit_3);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);

        ProcessId id;
        assert_int_equal(process_identify(pid, &id), -ESRCH);
        assert_int_equal(process_identify_child(pid, &id), 0);
        int fd = -1;
        assert_int_equal(process_open(&id, &fd), -ESRCH);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_watch_tells_the_status(void **state) {
        Baseline *b = *state;
        Process p = PROCESS_INIT;
        Ended ended = { 0 };
        watch(&p, b->event, start_child(run_exit_3), &ended);
        assert_true(loop_until(b->event, &ended.fired));
        assert_true(ended.idle);
        assert_int_equal(ended.exit.how, CHILD_EXITED);
        assert_int_equal(ended.exit.value, 3);
}

static void test_kill_is_told(void **state) {
        Baseline *b = *state;
        Process p = PROCESS_INIT;
        process_kill(&p); /* harmless */
        Ended ended = { 0 };
        watch(&p, b->event, start_child(run_pause), &ended);
        loop_for(b->event, 20 * USEC_PER_MSEC);
        assert_false(ended.fired);
        process_kill(&p);
        assert_true(loop_until(b->event, &ended.fired));
        assert_int_equal(ended.exit.how, CHILD_SIGNALED);
        assert_int_equal(ended.exit.value, SIGKILL);

        char text[CHILD_EXIT_TEXT_MAX];
        assert_string_equal(child_exit_format(&ended.exit, text), "was killed by signal 9 (Killed)");
}

static void run_leader(void) {
        if (setpgid(0, 0) < 0 || fork() < 0)
                _exit(1);
        run_pause();
}

/* The leader dies in any case, its child only where the kernel knows how: then nobody holds the pipe any more. */
static void test_group_is_killed_at_once(void **state) {
        Baseline *b = *state;
        int held[2];
        char byte;
        assert_int_equal(pipe2(held, O_CLOEXEC | O_NONBLOCK), 0);
        pid_t pid = start_child(run_leader);
        close(held[1]);

        Process p = PROCESS_INIT;
        Ended ended = { 0 };
        pid_t child = 0;
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
        while (child == 0) {
                FILE *f = fopen(path, "re");
                assert_non_null(f);
                (void)!fscanf(f, "%d", &child);
                fclose(f);
        }
        watch(&p, b->event, pid, &ended);
        bool known = syscall(SYS_pidfd_send_signal, p.pidfd, 0, NULL, 1U << 2) == 0;
        process_kill_group(&p);
        assert_true(loop_until(b->event, &ended.fired));
        assert_int_equal(ended.exit.value, SIGKILL);
        if (!known)
                kill(child, SIGKILL);
        struct pollfd gone = { .fd = held[0], .events = POLLIN };
        assert_int_equal(poll(&gone, 1, 5000), 1);
        assert_int_equal(read(held[0], &byte, 1), 0);
        close(held[0]);

        /* One that leads no group is killed alone. */
        Ended other = { 0 };
        watch(&p, b->event, start_child(run_pause), &other);
        process_kill_group(&p);
        assert_true(loop_until(b->event, &other.fired));
        process_kill_group(&p); /* harmless */
}

static void test_done_forgets_without_killing(void **state) {
        Baseline *b = *state;
        Process p = PROCESS_INIT;
        Ended ended = { 0 };
        pid_t pid = start_child(run_pause);
        watch(&p, b->event, pid, &ended);
        process_done(&p);
        process_done(&p);
        assert_int_equal(p.pidfd, -1);
        assert_int_equal(p.id.pid, 0);
        assert_int_equal(kill(pid, 0), 0);

        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        loop_for(b->event, 20 * USEC_PER_MSEC);
        assert_false(ended.fired);
}

/* Somebody else's child, as a keeper of a former daemon is. */
static void test_watch_of_a_stranger(void **state) {
        Baseline *b = *state;
        int tell[2];
        assert_int_equal(pipe(tell), 0);
        pid_t between = fork();
        assert_true(between >= 0);
        if (between == 0) {
                pid_t pid = fork();
                if (pid == 0)
                        run_pause();
                _exit(write(tell[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
        }
        pid_t pid;
        assert_int_equal(read(tell[0], &pid, sizeof pid), sizeof pid);
        assert_int_equal(waitpid(between, NULL, 0), between);

        Process p = PROCESS_INIT;
        Ended ended = { 0 };
        watch(&p, b->event, pid, &ended);
        process_kill(&p);
        assert_true(loop_until(b->event, &ended.fired));
        assert_int_equal(ended.exit.how, CHILD_UNKNOWN);
        char text[CHILD_EXIT_TEXT_MAX];
        assert_string_equal(child_exit_format(&ended.exit, text), "ended");
        close(tell[0]);
        close(tell[1]);
}

static void test_abandoned_are_reaped(void **state) {
        Baseline *b = *state;
        pid_t living = start_child(run_pause), dead = start_child(run_exit_3);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), 0);
        process_abandon(b->event, (int)syscall(SYS_pidfd_open, living, 0), NULL);
        process_abandon(b->event, (int)syscall(SYS_pidfd_open, dead, 0), NULL);
        process_abandon(b->event, -1, NULL);
        /* The tear-down sees that both are gone, and their descriptors. */
}

static void test_abandoned_with_the_loop(void **state) {
        Baseline *b = *state;
        pid_t pid = start_child(run_pause);
        sd_event *other;
        assert_true(sd_event_new(&other) >= 0);
        process_abandon(other, (int)syscall(SYS_pidfd_open, pid, 0), NULL);
        sd_event_unref(other);
        assert_killed(pid);
        assert_int_equal(count_open_fds(), b->fds);
}

static void test_unwatched_does_not_live(void **state) {
        Baseline *b = *state;
        pid_t pid = start_child(run_pause);
        Process p = PROCESS_INIT;
        Ended ended = { 0 };
        ProcessId id;
        assert_int_equal(process_identify(pid, &id), 0);
        /* A loop cannot watch when something else stands where its epoll was. */
        sd_event *broken;
        assert_true(sd_event_new(&broken) >= 0);
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_true(dup3(null, sd_event_get_fd(broken), O_CLOEXEC) >= 0);
        close(null);
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        assert_true(process_watch(&p, broken, &id, pidfd, on_ended, &ended) < 0);
        assert_int_equal(p.pidfd, -1);
        assert_killed(pid);
        sd_event_unref(broken);
        assert_int_equal(count_open_fds(), b->fds);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_identifies_itself),        TEST(test_no_such_process),
                TEST(test_open_refuses_a_later_one), TEST(test_zombie_has_ended),
                TEST(test_watch_tells_the_status),   TEST(test_kill_is_told),
                TEST(test_group_is_killed_at_once),  TEST(test_done_forgets_without_killing),
                TEST(test_watch_of_a_stranger),      TEST(test_abandoned_are_reaped),
                TEST(test_abandoned_with_the_loop),  TEST(test_unwatched_does_not_live),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
