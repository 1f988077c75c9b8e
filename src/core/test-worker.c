/* A few tests need root: without, the program exits with 77 when the others have passed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/string-util.h"
#include "core/child.h"
#include "core/test-children.h"
#include "core/worker.h"

typedef struct Outcome {
        bool done, failed, free_in_done;
        ErrorId id;
        char text[4608];
        char data[WORKER_REPLY_MAX];
        size_t length;
        FdSet fds;
} Outcome;

static void on_done(Worker *w, WorkerReply *reply, const Error *e) {
        Outcome *o = w->userdata;
        o->done = true;
        o->failed = e != NULL;
        if (e) {
                assert_null(reply);
                o->id = e->id;
                snprintf(o->text, sizeof o->text, "%s", error_text(e));
        } else {
                memcpy(o->data, reply->data, reply->length);
                o->length = reply->length;
                for (size_t i = 0; i < reply->fds.count; i++)
                        fd_set_add(&o->fds, fd_take(&reply->fds.fds[i]));
        }
        if (o->free_in_done) {
                memset(w, 0xff, sizeof *w);
                free(w);
        }
}

static void setup(Worker *w, Outcome *o, WorkerRun run) {
        memset(o, 0, sizeof *o);
        worker_init(w);
        w->what = "thinking";
        w->run = run;
        w->deadline_usec = 8 * USEC_PER_SEC;
        w->done = on_done;
        w->userdata = o;
}

static void run_to_end(sd_event *event, Worker *w, Outcome *o) {
        AUTO(error_clear) Error e = ERROR_INIT;
        assert_int_equal(worker_start(w, event, &e), 0);
        assert_false(o->done);
        assert_true(loop_until(event, &o->done));
        if (!o->free_in_done) {
                assert_int_equal(w->pidfd, -1);
                assert_int_equal(w->socket, -1);
        }
}

/* What a step returned, as the answer. */
static int say(WorkerReply *reply, int value) {
        memcpy(reply->data, &value, sizeof value);
        reply->length = sizeof value;
        return 0;
}

static int said(const Outcome *o) {
        int value;
        if (o->failed)
                fail_msg("%s", o->text);
        assert_int_equal(o->length, sizeof value);
        memcpy(&value, o->data, sizeof value);
        return value;
}

static int run_upper(void *input, WorkerReply *reply, Error *e UNUSED) {
        const char *text = input;
        for (; text[reply->length]; reply->length++)
                reply->data[reply->length] = (char)(text[reply->length] - 32);
        return 0;
}

static void test_answers(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_upper);
        w.input = (char[]){ "hello" };
        run_to_end(b->event, &w, &o);
        assert_false(o.failed);
        assert_int_equal(o.length, 5);
        assert_memory_equal(o.data, "HELLO", 5);

        /* It may be used again; and nothing at all is an answer too. */
        w.input = (char[]){ "" };
        o.done = false;
        run_to_end(b->event, &w, &o);
        assert_false(o.failed);
        assert_int_equal(o.length, 0);
}

static int run_most(void *input UNUSED, WorkerReply *reply, Error *e UNUSED) {
        memset(reply->data, 'x', WORKER_REPLY_MAX);
        reply->length = WORKER_REPLY_MAX;
        for (int i = 0; i < FD_SET_MAX; i++)
                fd_set_add(&reply->fds, open("/dev/null", O_RDONLY | O_CLOEXEC));
        return 0;
}

static void test_biggest_answer(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_most);
        run_to_end(b->event, &w, &o);
        assert_false(o.failed);
        assert_int_equal(o.length, WORKER_REPLY_MAX);
        assert_int_equal(o.data[WORKER_REPLY_MAX - 1], 'x');
        assert_int_equal(o.fds.count, FD_SET_MAX);
        for (size_t i = 0; i < FD_SET_MAX; i++)
                assert_int_equal(fcntl(o.fds.fds[i], F_GETFD), FD_CLOEXEC);
        fd_set_clear(&o.fds);
}

static int run_too_long(void *input UNUSED, WorkerReply *reply, Error *e UNUSED) {
        reply->length = WORKER_REPLY_MAX + 1;
        return 0;
}

static int run_refuse(void *input UNUSED, WorkerReply *reply, Error *e) {
        fd_set_add(&reply->fds, open("/dev/null", O_RDONLY | O_CLOEXEC)); /* not sent */
        return error_set(e, ERROR_ACCESS_DENIED, "%s is not yours", "that");
}

static int run_refuse_at_length(void *input UNUSED, WorkerReply *reply UNUSED, Error *e) {
        char *text = malloc(100000);
        memset(text, 'y', 99999);
        text[99999] = '\0';
        int r = error_set(e, ERROR_INVALID_INPUT, "%s", text);
        free(text);
        return r;
}

static int run_errno(void *input UNUSED, WorkerReply *reply UNUSED, Error *e UNUSED) {
        return -ENOSPC;
}

static void test_errors_arrive(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_refuse);
        run_to_end(b->event, &w, &o);
        assert_true(o.failed);
        assert_int_equal(o.id, ERROR_ACCESS_DENIED);
        assert_string_equal(o.text, "that is not yours");

        setup(&w, &o, run_errno);
        run_to_end(b->event, &w, &o);
        assert_int_equal(o.id, ERROR_INTERNAL);
        assert_string_equal(o.text, "thinking failed: No space left on device");

        setup(&w, &o, run_too_long);
        run_to_end(b->event, &w, &o);
        assert_string_equal(o.text, "thinking failed: Message too long");

        setup(&w, &o, run_refuse_at_length);
        run_to_end(b->event, &w, &o);
        assert_int_equal(o.id, ERROR_INVALID_INPUT);
        assert_int_equal(strlen(o.text), 4096);
}

static int run_die(void *input UNUSED, WorkerReply *reply UNUSED, Error *e UNUSED) {
        return raise(SIGKILL);
}

static int run_exit(void *input UNUSED, WorkerReply *reply UNUSED, Error *e UNUSED) {
        _exit(0);
}

static void test_death_is_told(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_die);
        run_to_end(b->event, &w, &o);
        assert_true(o.failed);
        assert_int_equal(o.id, ERROR_INTERNAL);
        assert_string_equal(o.text, "thinking: the process for it was killed by signal 9 (Killed)");

        setup(&w, &o, run_exit);
        run_to_end(b->event, &w, &o);
        assert_string_equal(o.text, "thinking: the process for it exited with status 0");
}

/* A worker that was taken over says what it likes. */
static int run_rubbish(void *input, WorkerReply *reply UNUSED, Error *e UNUSED) {
        const uint32_t headers[][3] = { { ERROR_NONE, 0, 8 },
                                        { ERROR_ID_COUNT, 0, 0 },
                                        { 1, UINT32_MAX, 1 },
                                        { ERROR_NONE, 0, UINT32_MAX },
                                        { UINT32_MAX, 0, 0 } };
        const size_t *which = input;
        for (int fd = 3; fd < 1024; fd++) {
                struct stat st;
                if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
                        continue;
                (void)fd_send(fd, headers[*which], *which == 0 ? 5 : sizeof headers[0], NULL, 0);
        }
        return 0;
}

static void test_rubbish_is_refused(void **state) {
        Baseline *b = *state;
        for (size_t i = 0; i < 5; i++) {
                Worker w;
                Outcome o;
                setup(&w, &o, run_rubbish);
                w.input = &i;
                run_to_end(b->event, &w, &o);
                assert_true(o.failed);
                assert_string_equal(o.text, "thinking: garbled answer");
        }
}

static int run_forever(void *input UNUSED, WorkerReply *reply UNUSED, Error *e UNUSED) {
        while (pause() < 0)
                ;
        return 0;
}

static void test_deadline(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_forever);
        w.deadline_usec = 50 * USEC_PER_MSEC;
        run_to_end(b->event, &w, &o);
        assert_true(o.failed);
        assert_int_equal(o.id, ERROR_TIMEOUT);
        assert_string_equal(o.text, "thinking took longer than 0.1 s");
}

static void test_stop(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_forever);
        worker_stop(&w);
        assert_int_equal(worker_start(&w, b->event, NULL), 0);
        worker_stop(&w);
        worker_stop(&w);
        loop_for(b->event, 50 * USEC_PER_MSEC);
        assert_false(o.done);
        assert_false(has_children());
}

/* Anybody of this user may trace it. */
static int run_held(void *input UNUSED, WorkerReply *reply UNUSED, Error *e UNUSED) {
        (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        return run_forever(NULL, NULL, NULL);
}

/* The number of the process behind a pidfd. */
static pid_t pidfd_number(int pidfd) {
        char path[64], line[64];
        pid_t pid = -1;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
        FILE *f = fopen(path, "re");
        while (f && pid < 0 && fgets(line, sizeof line, f))
                (void)sscanf(line, "Pid: %d", &pid);
        if (f)
                fclose(f);
        return pid;
}

/* A process that traces that one, so that it stays a zombie, killed as it may be, until its tracer is. */
static pid_t trace(pid_t traced) {
        int tell[2];
        char byte;
        assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                uint64_t end = now_monotonic_usec() + 5 * USEC_PER_SEC;
                while (ptrace(PTRACE_SEIZE, traced, 0, 0) < 0)
                        if (now_monotonic_usec() > end)
                                _exit(1);
                (void)!write(tell[1], "", 1);
                for (;;)
                        pause();
        }
        close(tell[1]);
        assert_int_equal(read(tell[0], &byte, 1), 1);
        close(tell[0]);
        return pid;
}

static const Charge one_stream = { .streams = 1 };

static void test_lingers(void **state) {
        Baseline *b = *state;
        for (int stopped = 0; stopped < 2; stopped++) {
                Owner owner = { 0 };
                Worker w;
                Outcome o;
                setup(&w, &o, run_held);
                w.deadline_usec = stopped ? 8 * USEC_PER_SEC : 300 * USEC_PER_MSEC;
                w.lingering = (Lingering){ &owner, &one_stream };
                assert_int_equal(worker_start(&w, b->event, NULL), 0);
                pid_t tracer = trace(pidfd_number(w.pidfd));
                assert_int_equal(owner.held.streams, 0);
                if (stopped)
                        worker_stop(&w);
                else
                        assert_true(loop_until(b->event, &o.done));
                assert_int_equal(owner.held.streams, 1);
                loop_for(b->event, 300 * USEC_PER_MSEC);
                assert_int_equal(owner.held.streams, 1);

                assert_int_equal(kill(tracer, SIGKILL), 0);
                assert_int_equal(waitpid(tracer, NULL, 0), tracer);
                uint64_t end = now_monotonic_usec() + 10 * USEC_PER_SEC;
                while (owner.held.streams > 0 && now_monotonic_usec() < end)
                        loop_for(b->event, USEC_PER_MSEC);
                assert_int_equal(owner.held.streams, 0);
        }
}

/* One that has answered is charged to nobody, as long as it may take to exit. */
static void test_answered_does_not_linger(void **state) {
        Baseline *b = *state;
        Owner owner = { 0 };
        Worker w;
        Outcome o;
        setup(&w, &o, run_upper);
        w.input = (char[]){ "hello" };
        w.lingering = (Lingering){ &owner, &one_stream };
        run_to_end(b->event, &w, &o);
        assert_false(o.failed);
        assert_int_equal(owner.held.streams, 0);
}

static void test_free_in_done(void **state) {
        Baseline *b = *state;
        const WorkerRun runs[] = { run_upper, run_die, run_refuse };
        for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
                Worker *w = calloc(1, sizeof *w);
                assert_non_null(w);
                Outcome o;
                setup(w, &o, runs[i]);
                w->input = (char[]){ "x" };
                o.free_in_done = true;
                run_to_end(b->event, w, &o);
        }
}

static void test_start_fails_without_descriptors(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_upper);
        struct rlimit before, none;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = before;
        none.rlim_cur = 3;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        AUTO(error_clear) Error e = ERROR_INIT;
        int r = worker_start(&w, b->event, &e);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(r, -EMFILE);
        assert_string_equal(error_text(&e), "cannot start thinking: Too many open files");
        worker_stop(&w);
}

static int run_look_at_fds(void *input, WorkerReply *reply, Error *e UNUSED) {
        const int *fds = input;
        int wrong = 0;
        for (int fd = 0; fd < 3; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        wrong |= 1;
        if (fcntl(fds[0], F_GETFD) < 0)
                wrong |= 2;
        int open_fds = 0;
        for (int fd = 3; fd < 1024; fd++)
                open_fds += fcntl(fd, F_GETFD) >= 0;
        if (open_fds != 2) /* the kept one, and the socket */
                wrong |= 4;
        return say(reply, wrong);
}

static void test_keeps_only_what_is_listed(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        int fds[2] = { open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC) };
        int saved = dup(0);
        setup(&w, &o, run_look_at_fds);
        w.input = fds;
        w.keep = fds;
        w.n_keep = 1;
        close(0); /* a hole in the daemon's stdio is not one in the worker's */
        run_to_end(b->event, &w, &o);
        dup2(saved, 0);
        close(saved);
        assert_int_equal(said(&o), 0);
        close(fds[0]);
        close(fds[1]);
}

static void test_goes_with_the_daemon(void **state UNUSED) {
        int tell[2];
        assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                Worker w;
                Outcome o;
                sd_event *event;
                setup(&w, &o, run_forever);
                if (sd_event_new(&event) < 0 || worker_start(&w, event, NULL) < 0)
                        _exit(1);
                ProcessId id;
                if (process_identify(pidfd_number(w.pidfd), &id) < 0 || write(tell[1], &id, sizeof id) != sizeof id)
                        _exit(1);
                usleep(20000);
                raise(SIGKILL);
        }
        close(tell[1]);
        ProcessId id;
        assert_int_equal(read(tell[0], &id, sizeof id), sizeof id);
        close(tell[0]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_true(seen_gone(&id));
}

/* ---- steps ---- */

static uint64_t capability_set(const char *name) {
        AUTO(string_drop) char *text = NULL;
        size_t length;
        uint64_t value = UINT64_MAX;
        if (file_read_all(AT_FDCWD, "/proc/self/status", 65536, &text, &length) < 0)
                return value;
        const char *line = strstr(text, name);
        if (line)
                value = strtoull(line + strlen(name), NULL, 16);
        return value;
}

static int run_become(void *input UNUSED, WorkerReply *reply, Error *e UNUSED) {
        const gid_t groups[] = { 54322, 54323 };
        int r = child_become(54321, 54321, groups, 2);
        if (r < 0)
                return say(reply, r);
        gid_t now[4];
        if (getgroups(4, now) != 2 || now[0] != 54322 || now[1] != 54323)
                return say(reply, 1);
        if (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0 || setgroups(0, NULL) == 0)
                return say(reply, 2);
        if (capability_set("CapEff:") != 0 || capability_set("CapPrm:") != 0 || capability_set("CapInh:") != 0)
                return say(reply, 3);
        int death = 0;
        if (child_die_with_parent() < 0 || prctl(PR_GET_PDEATHSIG, &death) < 0 || death != SIGKILL)
                return say(reply, 4);
        return say(reply, 0);
}

static int run_become_user(void *input, WorkerReply *reply, Error *e UNUSED) {
        const uid_t *uid = input;
        int r = child_become_user(*uid);
        if (r < 0)
                return say(reply, r);
        if (getuid() != *uid || geteuid() != *uid)
                return say(reply, 1);
        if (*uid == 54321 && (getgid() != 65534 || getgroups(0, NULL) != 0))
                return say(reply, 2);
        if (*uid == 1 && getgid() != 1) /* daemon */
                return say(reply, 3);
        if (*uid == 0 && (capability_set("CapEff:") == 0 || getgid() != 0))
                return say(reply, 4);
        if (*uid != 0 && capability_set("CapPrm:") != 0)
                return say(reply, 5);
        return say(reply, 0);
}

static int run_drop(void *input UNUSED, WorkerReply *reply, Error *e UNUSED) {
        int r = child_drop_capabilities();
        if (r < 0)
                return say(reply, r);
        if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
                return say(reply, 1);
        if (capability_set("CapEff:") || capability_set("CapPrm:") || capability_set("CapInh:") ||
            capability_set("CapAmb:"))
                return say(reply, 2);
        if (input && capability_set("CapBnd:") != 0)
                return say(reply, 3);
        return say(reply, 0);
}

static int run_map_root(void *input UNUSED, WorkerReply *reply, Error *e UNUSED) {
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || unshare(CLONE_NEWUSER) < 0)
                return say(reply, -errno);
        int r = child_map_root(child_outside_uid(), child_outside_gid());
        if (r < 0)
                return say(reply, r);
        if (geteuid() != 0 || getegid() != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
                return say(reply, 1);
        return say(reply, 0);
}

static int step_result(sd_event *event, WorkerRun run, void *input) {
        Worker w;
        Outcome o;
        setup(&w, &o, run);
        w.input = input;
        run_to_end(event, &w, &o);
        return said(&o);
}

static void test_become(void **state) {
        if (geteuid() != 0)
                skip();
        Baseline *b = *state;
        assert_int_equal(step_result(b->event, run_become, NULL), 0);
}

static void test_become_user(void **state) {
        if (geteuid() != 0)
                skip();
        Baseline *b = *state;
        uid_t uids[] = { 54321, 1, 0 };
        for (size_t i = 0; i < ARRAY_LEN(uids); i++)
                assert_int_equal(step_result(b->event, run_become_user, &uids[i]), 0);
}

static void test_become_without_privilege(void **state) {
        Baseline *b = *state;
        assert_int_equal(step_result(b->event, run_become, NULL), -EPERM);
}

static void test_drop_capabilities(void **state) {
        Baseline *b = *state;
        bool bounding_too = geteuid() == 0;
        assert_int_equal(step_result(b->event, run_drop, bounding_too ? &bounding_too : NULL), 0);
}

static void test_map_root(void **state) {
        Baseline *b = *state;
        assert_int_equal(step_result(b->event, run_map_root, NULL), 0);
}

/* In namespaces of its own; and whether it knows that the daemon lives. */
static int run_in_namespaces(void *input UNUSED, WorkerReply *reply, Error *e UNUSED) {
        return say(reply, getpid() == 1 && !worker_is_orphan() ? 0 : -1);
}

static int run_look_at_namespaces(void *input, WorkerReply *reply, Error *e UNUSED) {
        static const char *const names[] = { "mnt", "net", "ipc", "uts" };
        const int *parents = input;
        int same = 0;

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char path[32];
                struct stat own, daemons;
                snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
                if (fstat(parents[i], &daemons) < 0 || stat(path, &own) < 0 || own.st_ino == daemons.st_ino)
                        same |= 1 << i;
        }
        return say(reply, same);
}

/* The same that a jail asks for. */
static void test_more_namespaces(void **state) {
        static const char *const names[] = { "mnt", "net", "ipc", "uts" };
        Baseline *b = *state;
        Worker w;
        Outcome o;
        int fds[ARRAY_LEN(names)];

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char path[32];
                snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
                fds[i] = open(path, O_RDONLY | O_CLOEXEC);
                assert_true(fds[i] >= 0);
        }
        setup(&w, &o, run_look_at_namespaces);
        w.input = fds;
        w.keep = fds;
        w.n_keep = ARRAY_LEN(fds);
        w.clone_flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
        run_to_end(b->event, &w, &o);
        assert_int_equal(said(&o), 0);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++)
                close(fds[i]);
}

/* They are the child's to make: the start does not wait for the kernel. */
static void test_namespaces_without_privilege(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;

        setup(&w, &o, run_in_namespaces);
        w.clone_flags = CLONE_NEWNET | CLONE_NEWNS;
        run_to_end(b->event, &w, &o);
        assert_true(o.failed);
        assert_int_equal(o.id, ERROR_INTERNAL);
        assert_string_equal(o.text, "cannot make its namespaces: Operation not permitted");
}

static void test_namespaces(void **state) {
        Baseline *b = *state;
        Worker w;
        Outcome o;
        setup(&w, &o, run_in_namespaces);
        w.clone_flags = CLONE_NEWPID | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
        run_to_end(b->event, &w, &o);
        assert_int_equal(said(&o), 0);
}

/* Its answer tells what it saw, by a status, once the other end of its socket has gone. */
static int run_orphan(void *input UNUSED, WorkerReply *reply UNUSED, Error *e UNUSED) {
        while (!worker_is_orphan())
                usleep(1000);
        _exit(33);
}

static void test_orphan(void **state) {
        Baseline *b = *state;
        AUTO(error_clear) Error e = ERROR_INIT;
        Worker w;
        Outcome o;
        setup(&w, &o, run_orphan);
        assert_int_equal(worker_start(&w, b->event, &e), 0);
        int pidfd = fcntl(w.pidfd, F_DUPFD_CLOEXEC, 3);
        assert_int_equal(shutdown(w.socket, SHUT_RDWR), 0);

        siginfo_t info = { 0 };
        assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(info.si_status, 33);
        worker_stop(&w);
        close(pidfd);
}

/* A deadline that cannot be had. */
static void test_start_fails_before_anything_runs(void **state) {
        Baseline *b = *state;
        AUTO(error_clear) Error e = ERROR_INIT;
        siginfo_t info = { 0 };
        Outcome o;
        Worker w;

        setup(&w, &o, run_upper);
        w.deadline_usec = UINT64_MAX;
        assert_true(worker_start(&w, b->event, &e) < 0);
        assert_non_null(strstr(error_text(&e), "cannot start thinking: "));
        assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1);
        assert_int_equal(errno, ECHILD);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_answers),
                TEST(test_biggest_answer),
                TEST(test_errors_arrive),
                TEST(test_death_is_told),
                TEST(test_rubbish_is_refused),
                TEST(test_deadline),
                TEST(test_stop),
                TEST(test_lingers),
                TEST(test_answered_does_not_linger),
                TEST(test_free_in_done),
                TEST(test_start_fails_without_descriptors),
                TEST(test_start_fails_before_anything_runs),
                TEST(test_keeps_only_what_is_listed),
                TEST(test_goes_with_the_daemon),
                TEST(test_become),
                TEST(test_become_user),
                TEST(test_drop_capabilities),
                TEST(test_map_root),
                TEST(test_namespaces),
                TEST(test_more_namespaces),
                TEST(test_orphan),
        };
        const struct CMUnitTest plain[] = { TEST(test_become_without_privilege),
                                            TEST(test_namespaces_without_privilege) };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        bool was_root = geteuid() == 0;
        if (r != 0 || (was_root && setresuid(54321, 54321, 54321) < 0) ||
            cmocka_run_group_tests(plain, NULL, NULL) != 0)
                return 1;
        return was_root ? 0 : 77;
}
