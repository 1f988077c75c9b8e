/* This program is also what the tests start: main() looks at its first argument. A few tests need root: without, the
 * program exits with 77 when the others have passed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/spawn.h"
#include "core/test-children.h"

static char self[4096];

/* ---- as the program ---- */

/* Descriptors 3.. hold the texts "0", "1", ...; nothing else is open. The exit status is the number of what is wrong.
 */
static int program_descriptors(int n) {
        for (int i = 0; i < n; i++) {
                char text[16] = "", expected[16];
                snprintf(expected, sizeof expected, "%d", i);
                if (pread(3 + i, text, sizeof text - 1, 0) < 0 || strcmp(text, expected) != 0)
                        return 10 + i;
                if (fcntl(3 + i, F_GETFD) != 0)
                        return 100 + i;
        }
        for (int fd = 3 + n; fd < 1024; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        return 3;
        return 0;
}

static int program_surroundings(void) {
        /* Not all of them: sanitizers handle some. */
        static const int signals[] = { SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGCHLD, SIGUSR1 };
        sigset_t blocked;
        sigprocmask(SIG_SETMASK, NULL, &blocked);
        for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
                struct sigaction act;
                if (sigismember(&blocked, signals[i]) == 1)
                        return 1;
                if (sigaction(signals[i], NULL, &act) < 0 || act.sa_handler != SIG_DFL)
                        return 2;
        }
        int death = -1;
        if (prctl(PR_GET_PDEATHSIG, &death) < 0 || death != 0)
                return 3;
        if (getsid(0) != getpid())
                return 4;
        if (!getenv("PATH") || !getenv("LANG") || getenv("SECRET"))
                return 5;
        for (int fd = 0; fd < 3; fd++) {
                char target[64] = "", path[32];
                snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
                if (readlink(path, target, sizeof target - 1) < 0 || strcmp(target, "/dev/null") != 0)
                        return 6;
        }
        return 0;
}

static int program(int argc, char **argv) {
        if (strcmp(argv[1], "descriptors") == 0 && argc == 3)
                return program_descriptors(atoi(argv[2]));
        if (strcmp(argv[1], "surroundings") == 0)
                return program_surroundings();
        if (strcmp(argv[1], "pause") == 0)
                return pause();
        if (strcmp(argv[1], "echo") == 0 && argc == 3)
                return puts(argv[2]) < 0;
        return 125;
}

/* ---- helpers ---- */

typedef enum Plan { RELEASE, HOLD, STOP, STOP_AND_FREE } Plan;

typedef struct Watcher {
        Spawn *spawn;
        Plan plan;
        bool prepared, done, failed, free_in_done;
        ErrorId id;
        char text[512];
        int pidfd;
        ProcessId process;
        Process watched;
        bool ended;
        ChildExit exit;
} Watcher;

static void on_prepared(Spawn *s) {
        Watcher *w = s->userdata;
        w->prepared = true;
        w->process = s->id;
        if (w->plan == RELEASE)
                spawn_release(s);
        if (w->plan == STOP || w->plan == STOP_AND_FREE)
                spawn_stop(s);
        if (w->plan == STOP_AND_FREE)
                free(s);
}

static void on_done(Spawn *s, const Error *e) {
        Watcher *w = s->userdata;
        w->done = true;
        w->process = s->id;
        w->failed = e != NULL;
        if (e) {
                w->id = e->id;
                snprintf(w->text, sizeof w->text, "%s", error_text(e));
        } else {
                w->pidfd = spawn_take_pidfd(s);
        }
        if (w->free_in_done) {
                spawn_stop(s);
                memset(s, 0xff, sizeof *s);
                free(s);
        }
}

static void on_ended(Process *p, const ChildExit *exit) {
        Watcher *w = p->userdata;
        w->ended = true;
        w->exit = *exit;
}

static void setup(Spawn *s, Watcher *w, char *const *argv) {
        *w = (Watcher){ .spawn = s, .pidfd = -1, .watched = PROCESS_INIT };
        spawn_init(s);
        s->what = "the program";
        s->path = argv[0];
        s->argv = argv;
        s->deadline_usec = 8 * USEC_PER_SEC;
        s->prepared = on_prepared;
        s->done = on_done;
        s->userdata = w;
}

/* Start, release, let it run to its end: its exit status. */
static int run_to_end(sd_event *event, Spawn *s, Watcher *w) {
        Error e = ERROR_INIT;
        assert_int_equal(spawn_start(s, event, &e), 0);
        assert_true(loop_until(event, &w->done));
        if (w->failed)
                fail_msg("%s", w->text);
        assert_int_equal(process_watch(&w->watched, event, &w->process, w->pidfd, on_ended, w), 0);
        assert_true(loop_until(event, &w->ended));
        assert_int_equal(w->exit.how, CHILD_EXITED);
        return w->exit.value;
}

static void run_to_failure(sd_event *event, Spawn *s, Watcher *w) {
        Error e = ERROR_INIT;
        assert_int_equal(spawn_start(s, event, &e), 0);
        assert_false(w->done);
        assert_true(loop_until(event, &w->done));
        assert_true(w->failed);
        assert_int_equal(s->pidfd, -1);
        assert_false(has_children());
}

static void start_held(sd_event *event, Spawn *s, Watcher *w) {
        w->plan = HOLD;
        assert_int_equal(spawn_start(s, event, NULL), 0);
        assert_true(loop_until(event, &w->prepared));
}

static int memfd_of_number(int i) {
        char text[16];
        int fd = -1, length = snprintf(text, sizeof text, "%d", i);
        assert_int_equal(fd_memfd("number", text, (size_t)length, true, &fd), 0);
        return fd;
}

/* ---- what works ---- */

static void test_runs_a_program(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "surroundings" }, NULL };
        setup(&s, &w, argv);
        signal(SIGPIPE, SIG_IGN);
        sigset_t term, before;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, &before);
        setenv("SECRET", "x", 1);
        assert_int_equal(run_to_end(b->event, &s, &w), 0);
        assert_true(w.prepared);
        sigset_t after;
        sigprocmask(SIG_SETMASK, &before, &after);
        assert_true(sigismember(&after, SIGTERM));
        assert_false(sigismember(&after, SIGINT));
}

static void test_output_goes_where_asked(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "echo" }, (char[]){ "hello" }, NULL };
        setup(&s, &w, argv);
        int out = -1;
        assert_int_equal(fd_memfd("out", "", 0, false, &out), 0);
        s.stdio[1] = out;
        assert_int_equal(run_to_end(b->event, &s, &w), 0);
        char text[16] = "";
        assert_int_equal(pread(out, text, sizeof text, 0), 6);
        assert_string_equal(text, "hello\n");
        close(out);
}

/* The sources stand at numbers that are others' targets, in reverse; one is the program's standard input too. */
static void test_descriptors_do_not_clobber(void **state) {
        Baseline *b = *state;
        enum { N = 24 };
        int fds[N];
        for (int i = N - 1; i >= 0; i--)
                fds[i] = memfd_of_number(i);
        assert_true(fds[N - 1] < 3 + N);
        assert_true(fds[0] > fds[N - 1]);

        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "descriptors" }, (char[]){ "24" }, NULL };
        setup(&s, &w, argv);
        s.fds = fds;
        s.n_fds = N;
        s.stdio[0] = fds[3];
        s.stdio[1] = 2;
        s.stdio[2] = 1;
        assert_int_equal(run_to_end(b->event, &s, &w), 0);
        for (int i = 0; i < N; i++)
                close(fds[i]);
}

/* In place of the last one, and not known before the child is there. */
static void test_late_argument(void **state) {
        static const char longest[] = "--abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz 12345678";
        static_assert(sizeof longest - 1 == SPAWN_LATE_MAX, "one more than there may be");
        const char *const words[] = { "late", longest + 1 };
        Baseline *b = *state;

        for (size_t i = 0; i < ARRAY_LEN(words); i++) {
                Spawn s;
                Watcher w;
                char *argv[] = { self, (char[]){ "echo" }, (char[]){ "early" }, NULL };
                char text[SPAWN_LATE_MAX + 2] = "", expected[SPAWN_LATE_MAX + 2];
                setup(&s, &w, argv);
                int out = -1;
                assert_int_equal(fd_memfd("out", "", 0, false, &out), 0);
                s.stdio[1] = out;
                start_held(b->event, &s, &w);
                s.late_argument = words[i];
                spawn_release(&s);
                assert_true(loop_until(b->event, &w.done));
                assert_false(w.failed);
                assert_int_equal(process_watch(&w.watched, b->event, &w.process, w.pidfd, on_ended, &w), 0);
                assert_true(loop_until(b->event, &w.ended));
                assert_int_equal(w.exit.value, 0);
                snprintf(expected, sizeof expected, "%s\n", words[i]);
                assert_true(pread(out, text, sizeof text, 0) > 0);
                assert_string_equal(text, expected);
                assert_string_equal(argv[2], "early");
                close(out);
        }
}

static int prepare_with_kept(void *userdata, const char **ret_step) {
        int *fds = userdata; /* kept, not kept */
        *ret_step = "look at descriptors";
        if (fcntl(fds[0], F_GETFD) < 0)
                return -EBADF;
        return fcntl(fds[1], F_GETFD) < 0 ? 0 : -EEXIST;
}

static void test_prepare_sees_only_its_own(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "descriptors" }, (char[]){ "0" }, NULL };
        setup(&s, &w, argv);
        int fds[2] = { memfd_of_number(0), memfd_of_number(1) };
        s.keep = fds;
        s.n_keep = 1;
        s.prepare = prepare_with_kept;
        s.prepare_data = fds;
        assert_int_equal(run_to_end(b->event, &s, &w), 0);
        close(fds[0]);
        close(fds[1]);
}

static int prepare_as_init(void *userdata UNUSED, const char **ret_step) {
        *ret_step = "be the first";
        return getpid() == 1 ? 0 : -ESRCH;
}

static void test_id_is_the_daemons_view(void **state) {
        if (geteuid() != 0)
                skip();
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        s.clone_flags = CLONE_NEWPID | CLONE_NEWUTS;
        s.prepare = prepare_as_init;
        Error e = ERROR_INIT;
        assert_int_equal(spawn_start(&s, b->event, &e), 0);
        assert_true(loop_until(b->event, &w.done));
        assert_false(w.failed);
        assert_true(w.process.pid > 1);
        assert_true(is_alive(&w.process));
        process_abandon(b->event, w.pidfd, NULL);
}

static int prepare_as_user(void *userdata UNUSED, const char **ret_step) {
        *ret_step = "be root of a user's namespace";
        if (geteuid() != 0 || getegid() != 0 || child_outside_uid() != 0)
                return -EPERM;
        return sethostname("x", 1) < 0 ? -errno : 0;
}

static void test_begins_as_another_user(void **state) {
        if (geteuid() != 0)
                skip();
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { (char[]){ "/bin/true" }, NULL };
        setup(&s, &w, argv);
        s.clone_flags = CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWPID;
        s.become_uid = 54321;
        s.become_gid = 54321;
        s.prepare = prepare_as_user;
        assert_int_equal(run_to_end(b->event, &s, &w), 0);
}

/* ---- what fails ---- */

static void test_exec_failure_has_step_and_reason(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { (char[]){ "/nonexistent/program" }, NULL };
        setup(&s, &w, argv);
        run_to_failure(b->event, &s, &w);
        assert_true(w.prepared);
        assert_int_equal(w.id, ERROR_INTERNAL);
        assert_string_equal(w.text, "cannot start the program: cannot execute /nonexistent/program: "
                                    "No such file or directory");
        assert_true(seen_gone(&w.process));
}

static int prepare_failing(void *userdata UNUSED, const char **ret_step) {
        *ret_step = "mount the moon";
        return -EXDEV;
}

static void test_prepare_failure_has_step_and_reason(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        s.prepare = prepare_failing;
        run_to_failure(b->event, &s, &w);
        assert_false(w.prepared);
        assert_string_equal(w.text, "cannot start the program: cannot mount the moon: Invalid cross-device link");
}

static int prepare_dying(void *userdata UNUSED, const char **ret_step UNUSED) {
        return raise(SIGKILL);
}

static void test_death_in_prepare_is_told(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        s.prepare = prepare_dying;
        run_to_failure(b->event, &s, &w);
        assert_string_equal(w.text, "the program was killed by signal 9 (Killed) before it was started");
}

static int prepare_forever(void *userdata UNUSED, const char **ret_step UNUSED) {
        while (pause() < 0)
                ;
        return 0;
}

static void test_deadline_in_prepare(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        s.prepare = prepare_forever;
        s.deadline_usec = 50 * USEC_PER_MSEC;
        run_to_failure(b->event, &s, &w);
        assert_int_equal(w.id, ERROR_TIMEOUT);
        assert_string_equal(w.text, "the program was not prepared within 0.1 s");
        assert_true(seen_gone(&w.process));
}

static void test_deadline_while_held(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        w.plan = HOLD;
        s.deadline_usec = 100 * USEC_PER_MSEC;
        run_to_failure(b->event, &s, &w);
        assert_true(w.prepared);
        assert_int_equal(w.id, ERROR_TIMEOUT);
        assert_string_equal(w.text, "the program was not recorded within 0.1 s");
}

static void test_deadline_is_set_anew(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        start_held(b->event, &s, &w);
        uint64_t begin = now_monotonic_usec();
        assert_int_equal(spawn_set_deadline(&s, 50 * USEC_PER_MSEC), 0);
        assert_true(loop_until(b->event, &w.done));
        assert_int_equal(w.id, ERROR_TIMEOUT);
        assert_string_equal(w.text, "the program was not recorded within 0.1 s");
        assert_false(spawn_is_ending(&s));
        assert_true(now_monotonic_usec() - begin < 4 * USEC_PER_SEC);
        assert_false(has_children());
}

static void test_killed_while_held(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        start_held(b->event, &s, &w);
        assert_false(spawn_is_ending(&s));
        assert_int_equal(kill(s.id.pid, SIGTERM), 0);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)s.id.pid, &info, WEXITED | WNOWAIT), 0);
        assert_true(spawn_is_ending(&s));
        spawn_release(&s); /* too late, and no SIGPIPE */
        assert_true(loop_until(b->event, &w.done));
        assert_string_equal(w.text, "the program was killed by signal 15 (Terminated) before it was started");
}

static void test_failing_start_leaves_nothing(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        s.clone_flags = CLONE_NEWUSER | CLONE_FS; /* contradict each other */
        AUTO(error_clear) Error e = ERROR_INIT;
        assert_int_equal(spawn_start(&s, b->event, &e), -EINVAL);
        assert_string_equal(error_text(&e), "cannot start the program: Invalid argument");
        loop_for(b->event, 20 * USEC_PER_MSEC);
        assert_false(w.done);
        spawn_stop(&s);

        /* Idle again: what was wrong can be put right. */
        s.clone_flags = 0;
        error_clear(&e);
        assert_int_equal(spawn_start(&s, b->event, &e), 0);
        spawn_stop(&s);
}

/* ---- stopping ---- */

static void test_stop_in_prepared(void **state) {
        Baseline *b = *state;
        for (Plan plan = STOP; plan <= STOP_AND_FREE; plan++) {
                Spawn *s = calloc(1, sizeof *s);
                assert_non_null(s);
                Watcher w;
                char *argv[] = { self, (char[]){ "pause" }, NULL };
                setup(s, &w, argv);
                w.plan = plan;
                Error e = ERROR_INIT;
                assert_int_equal(spawn_start(s, b->event, &e), 0);
                assert_true(loop_until(b->event, &w.prepared));
                assert_true(seen_gone(&w.process));
                loop_for(b->event, 20 * USEC_PER_MSEC);
                assert_false(w.done);
                if (plan == STOP)
                        free(s);
        }
}

static void test_free_in_done(void **state) {
        Baseline *b = *state;
        const char *paths[] = { "/bin/true", "/nonexistent" };
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
                Spawn *s = calloc(1, sizeof *s);
                assert_non_null(s);
                Watcher w;
                char path[32];
                snprintf(path, sizeof path, "%s", paths[i]);
                char *argv[] = { path, NULL };
                setup(s, &w, argv);
                w.free_in_done = true;
                Error e = ERROR_INIT;
                assert_int_equal(spawn_start(s, b->event, &e), 0);
                assert_true(loop_until(b->event, &w.done));
                assert_int_equal(w.failed, i == 1);
                if (w.pidfd >= 0)
                        process_abandon(b->event, w.pidfd, NULL);
        }
}

static void test_stop_at_once_and_twice(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        spawn_stop(&s);
        Error e = ERROR_INIT;
        assert_int_equal(spawn_start(&s, b->event, &e), 0);
        ProcessId id = s.id;
        spawn_stop(&s);
        spawn_stop(&s);
        assert_true(seen_gone(&id));
        loop_for(b->event, 20 * USEC_PER_MSEC);
        assert_false(w.prepared || w.done);
}

static void test_not_taken_is_killed_by_stop(void **state) {
        Baseline *b = *state;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        Error e = ERROR_INIT;
        assert_int_equal(spawn_start(&s, b->event, &e), 0);
        assert_true(loop_until(b->event, &w.done));
        s.pidfd = w.pidfd; /* as if done() had not asked */
        s.event = sd_event_ref(b->event);
        assert_true(is_alive(&w.process));
        spawn_stop(&s);
        assert_true(seen_gone(&w.process));
}

/* ---- the daemon dies ---- */

/* What the daemon-like process tells the test before it is killed. */
typedef struct Told {
        ProcessId held, stubborn;
} Told;

static int tell_fd = -1;
static Told told;

static void tell_and_die(Spawn *s) {
        told.held = s->id;
        if (write(tell_fd, &told, sizeof told) == (ssize_t)sizeof told)
                raise(SIGKILL);
        _exit(1);
}

/* A sibling that is busy for long, and that outlives the daemon. */
static int prepare_stubborn(void *userdata, const char **ret_step UNUSED) {
        int *pipe_fd = userdata;
        (void)child_outlive_parent();
        (void)!write(*pipe_fd, "", 1);
        while (pause() < 0)
                ;
        return 0;
}

static void wait_for_byte(int fd) {
        char byte;
        if (read(fd, &byte, 1) != 1)
                _exit(1);
}

/* Held first, so that the sibling is born with a copy of what holds it. */
static void on_prepared_start_sibling(Spawn *s) {
        Watcher *w = s->userdata;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        Spawn sibling;
        Watcher unused;
        setup(&sibling, &unused, argv);
        int ready[2];
        if (pipe2(ready, O_CLOEXEC) < 0)
                _exit(1);
        sibling.prepare = prepare_stubborn;
        sibling.prepare_data = &ready[1];
        sibling.keep = &ready[1];
        sibling.n_keep = 1;
        if (spawn_start(&sibling, s->event, NULL) < 0)
                _exit(1);
        wait_for_byte(ready[0]);
        told.stubborn = sibling.id;
        w->prepared = true;
        tell_and_die(s);
}

/* Be a daemon that starts a program and dies when it is prepared, or at once. */
static _Noreturn void act_as_daemon(void (*prepared)(Spawn *), SpawnPrepare prepare, bool at_once) {
        sd_event *event = NULL;
        Spawn s;
        Watcher w;
        char *argv[] = { self, (char[]){ "pause" }, NULL };
        setup(&s, &w, argv);
        s.prepared = prepared;
        s.prepare = prepare;
        if (sd_event_new(&event) < 0 || spawn_start(&s, event, NULL) < 0)
                _exit(1);
        if (at_once) {
                usleep(20000);
                tell_and_die(&s);
        }
        loop_until(event, &w.done);
        _exit(2);
}

static Told daemon_dies(void (*prepared)(Spawn *), SpawnPrepare prepare, bool at_once) {
        int tell[2];
        assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                tell_fd = tell[1];
                act_as_daemon(prepared, prepare, at_once);
        }
        close(tell[1]);
        Told t;
        assert_int_equal(read(tell[0], &t, sizeof t), sizeof t);
        close(tell[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        return t;
}

static void test_held_child_goes_with_the_daemon(void **state UNUSED) {
        Told t = daemon_dies(tell_and_die, NULL, false);
        assert_true(seen_gone(&t.held));
}

/* Who it has become may stop it; and the change would end what binds it to the daemon. */
static int prepare_to_be_stopped(void *userdata UNUSED, const char **ret_step UNUSED) {
        return geteuid() == 0 ? child_become(54321, 54321, NULL, 0) : 0;
}

static void on_prepared_stop_it(Spawn *s) {
        siginfo_t info;
        if (kill(s->id.pid, SIGSTOP) < 0 || waitid(P_PID, (id_t)s->id.pid, &info, WSTOPPED) < 0)
                _exit(1);
        tell_and_die(s);
}

static void test_stopped_child_goes_with_the_daemon(void **state UNUSED) {
        Told t = daemon_dies(on_prepared_stop_it, prepare_to_be_stopped, false);
        assert_true(seen_gone(&t.held));
}

static void test_preparing_child_goes_with_the_daemon(void **state UNUSED) {
        Told t = daemon_dies(tell_and_die, prepare_forever, true);
        assert_true(seen_gone(&t.held));
}

static void test_sibling_does_not_hold_it(void **state UNUSED) {
        Told t = daemon_dies(on_prepared_start_sibling, NULL, false);
        assert_true(seen_gone(&t.held));
        assert_true(is_alive(&t.stubborn)); /* else nothing was shown */
        kill(t.stubborn.pid, SIGKILL);
        assert_true(seen_gone(&t.stubborn));
}

static void on_prepared_release(Spawn *s) {
        spawn_release(s);
}

static void on_done_tell_and_die(Spawn *s, const Error *e UNUSED) {
        tell_and_die(s);
}

/* The contrary: what was released stays. */
static void test_released_child_stays(void **state UNUSED) {
        int tell[2];
        assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                tell_fd = tell[1];
                sd_event *event = NULL;
                Spawn s;
                Watcher w;
                char *argv[] = { self, (char[]){ "pause" }, NULL };
                setup(&s, &w, argv);
                s.prepared = on_prepared_release;
                s.done = on_done_tell_and_die;
                if (sd_event_new(&event) >= 0 && spawn_start(&s, event, NULL) >= 0)
                        loop_until(event, &w.done);
                _exit(1);
        }
        close(tell[1]);
        Told t;
        assert_int_equal(read(tell[0], &t, sizeof t), sizeof t);
        close(tell[0]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        usleep(50000);
        assert_true(is_alive(&t.held));
        kill(t.held.pid, SIGKILL);
        assert_true(seen_gone(&t.held));
}

int main(int argc, char **argv) {
        if (argc > 1)
                return program(argc, argv);
        if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
                return 1;

#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_runs_a_program),
                TEST(test_output_goes_where_asked),
                TEST(test_descriptors_do_not_clobber),
                TEST(test_late_argument),
                TEST(test_prepare_sees_only_its_own),
                TEST(test_id_is_the_daemons_view),
                TEST(test_begins_as_another_user),
                TEST(test_exec_failure_has_step_and_reason),
                TEST(test_prepare_failure_has_step_and_reason),
                TEST(test_death_in_prepare_is_told),
                TEST(test_deadline_in_prepare),
                TEST(test_deadline_while_held),
                TEST(test_deadline_is_set_anew),
                TEST(test_killed_while_held),
                TEST(test_failing_start_leaves_nothing),
                TEST(test_stop_in_prepared),
                TEST(test_free_in_done),
                TEST(test_stop_at_once_and_twice),
                TEST(test_not_taken_is_killed_by_stop),
                TEST(test_held_child_goes_with_the_daemon),
                TEST(test_stopped_child_goes_with_the_daemon),
                TEST(test_preparing_child_goes_with_the_daemon),
                TEST(test_sibling_does_not_hold_it),
                TEST(test_released_child_stays),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        return r == 0 && geteuid() != 0 ? 77 : r;
}
