/* Needs root: exits 77 without. The session scope is tried by a child that is an ordinary user. What a jail is like is
 * asked of a shell inside, and of /proc from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/string-util.h"
#include "base/test-remove.h"
#include "core/spawn.h"
#include "core/test-children.h"
#include "guest/jail.h"

#define JAIL_UID 54321
#define USER_UID 54999 /* in no user database */

typedef struct Run {
        Spawn spawn;
        bool done, failed, ended;
        char text[512];
        ProcessId id;
        Process process;
        ChildExit exit;
        int out; /* what it prints */
} Run;

static void on_prepared(Spawn *s) {
        spawn_release(s);
}

static void on_done(Spawn *s, const Error *e) {
        Run *r = s->userdata;
        r->done = true;
        r->failed = e != NULL;
        r->id = s->id;
        if (e)
                snprintf(r->text, sizeof r->text, "%s", error_text(e));
        else
                r->process.pidfd = spawn_take_pidfd(s);
}

static void on_ended(Process *p, const ChildExit *exit) {
        Run *r = p->userdata;
        r->ended = true;
        r->exit = *exit;
}

/* Start it in the jail and see that it was executed; or not, with r->text saying why. */
static bool start(sd_event *event, Run *r, Jail *j, char *const *argv, const int stdio[3]) {
        *r = (Run){ .process = PROCESS_INIT, .out = -1 };
        spawn_init(&r->spawn);
        r->spawn.what = "the inmate";
        r->spawn.path = argv[0];
        r->spawn.argv = argv;
        if (stdio)
                memcpy(r->spawn.stdio, stdio, sizeof r->spawn.stdio);
        r->spawn.deadline_usec = 8 * USEC_PER_SEC;
        r->spawn.prepared = on_prepared;
        r->spawn.done = on_done;
        r->spawn.userdata = r;
        jail_enclose(j, &r->spawn);
        AUTO(error_clear) Error e = ERROR_INIT;
        if (spawn_start(&r->spawn, event, &e) < 0) {
                snprintf(r->text, sizeof r->text, "%s", error_text(&e));
                return false;
        }
        assert_true(loop_until(event, &r->done));
        if (r->failed)
                return false;
        assert_int_equal(process_watch(&r->process, event, &r->id, r->process.pidfd, on_ended, r), 0);
        return true;
}

/* Run a script by the shell in the jail, which the caller has furnished beside; its output, to be freed. */
static char *shell(sd_event *event, Jail *j, const char *script) {
        int out = -1;
        assert_int_equal(fd_memfd("out", "", 0, false, &out), 0);
        char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, strdup(script), NULL };
        jail_add_system(j, argv[0]);
        Run r;
        if (!start(event, &r, j, argv, (int[3]){ -1, out, out }))
                fail_msg("%s", r.text);
        assert_true(loop_until(event, &r.ended));
        free(argv[2]);

        char *text = NULL;
        size_t length;
        lseek(out, 0, SEEK_SET);
        assert_int_equal(fd_read_all(out, 65536, &text, &length), 0);
        close(out);
        return text;
}

static void check_shell(sd_event *event, Jail *j, const char *script, const char *expected) {
        AUTO(string_drop) char *text = shell(event, j, script);
        assert_string_equal(text, expected);
}

static void check_failure(sd_event *event, Jail *j, const char *expected) {
        char *argv[] = { (char[]){ "/bin/sh" }, NULL };
        Run r;
        assert_false(start(event, &r, j, argv, NULL));
        assert_string_equal(r.text, expected);
}

static Jail system_jail(void) {
        return (Jail){ .privileged = true, .uid = JAIL_UID, .gid = JAIL_UID };
}

static char *make_file(char *path, const char *content, mode_t mode) {
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, content, strlen(content)), 0);
        assert_int_equal(fchmod(fd, mode), 0);
        close(fd);
        return path;
}

/* ---- what is inside ---- */

static void test_only_what_is_listed(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        AUTO(string_drop) char *text = shell(b->event, &j, "echo /* /usr/* /dev/* /etc/*");
        assert_non_null(strstr(text, "/bin /dev /etc /lib "));
        assert_null(strstr(text, "/root"));
        assert_null(strstr(text, "/proc"));
        assert_null(strstr(text, "/tmp"));
        assert_null(strstr(text, "/usr/bin"));
        assert_non_null(strstr(text, " /dev/null /dev/random /dev/urandom /dev/zero "));
        assert_non_null(strstr(text, " /etc/ld.so.cache\n"));
}

static void test_nothing_can_be_written(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        check_shell(b->event, &j,
                    "for f in /x /dev/x /usr/x /usr/lib/x /etc/ld.so.cache; do (echo > $f) 2>/dev/null && echo $f; "
                    "done; echo > /dev/null && echo ok",
                    "ok\n");
}

static void test_limits_and_names(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        j.n_files_max = 77;
        j.file_size_max = 512 * 3;
        jail_add_bind(&j, "/bin/uname", "/bin/uname", false);
        jail_add_bind(&j, "/usr/bin/id", "/bin/id", false);
        check_shell(b->event, &j, "echo $$; ulimit -n; ulimit -c; ulimit -f; umask; uname -n; id -u; id -g; id -G",
                    "1\n77\n0\n3\n0077\njail\n54321\n54321\n54321\n");
}

static void test_devices_work(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        jail_add_bind(&j, "/bin/dd", "/bin/dd", false);
        check_shell(b->event, &j, "dd if=/dev/urandom of=/dev/null bs=1 count=3 2>/dev/null && echo ok", "ok\n");

        /* One that only root may open on the host, as /dev/kvm is in places. */
        char dir[] = "/run/test-jail-XXXXXX", node[64];
        assert_non_null(mkdtemp(dir));
        snprintf(node, sizeof node, "%s/null", dir);
        assert_int_equal(mknod(node, S_IFCHR | 0600, makedev(1, 3)), 0);
        Jail k = system_jail();
        jail_add_device(&k, node);
        jail_add_device(&k, "/dev/there-is-no-such-device");
        char script[128];
        snprintf(script, sizeof script, "echo x > %s && echo ok", node);
        check_shell(b->event, &k, script, "ok\n");
        unlink(node);
        rmdir(dir);
}

/* A device node of root's, 0600, is opened as root and again as another, with "&&" or "||" before the second's word. */
static void check_device_of_root(Baseline *b, void (*add)(Jail *j, const char *path), const char *joint) {
        char dir[] = "/run/test-jail-XXXXXX", node[64], script[512];
        assert_non_null(mkdtemp(dir));
        snprintf(node, sizeof node, "%s/null", dir);
        assert_int_equal(mknod(node, S_IFCHR | 0600, makedev(1, 3)), 0);
        Jail j = system_jail();
        j.becomes_itself = true;
        add(&j, node);
        jail_add_bind(&j, "/usr/bin/setpriv", "/usr/bin/setpriv", false);
        snprintf(script, sizeof script,
                 "exec 2>/dev/null; echo >%s && echo root; exec setpriv --reuid=%d --regid=%d --clear-groups "
                 "/bin/sh -c 'echo >%s %s echo another'",
                 node, JAIL_UID, JAIL_UID, node, joint);
        check_shell(b->event, &j, script, "root\nanother\n");
        unlink(node);
        rmdir(dir);
}

/* It may open what is root's until it has become another, and that alone: the mode says who else may, not the rights
 * that root has elsewhere. */
static void test_becomes_another_itself(void **state) {
        check_device_of_root(*state, jail_add_root_device, "||");
}

/* What is the jail's uid's it may open before as well as after. */
static void test_opens_its_devices_before_and_after(void **state) {
        check_device_of_root(*state, jail_add_device, "&&");
}

static void test_filtered_makes_no_process(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        j.filtered = true;
        check_shell(b->event, &j, "exec 2>&1; echo alone; /bin/sh -c 'echo another'; echo no",
                    "alone\n/bin/sh: 1: Cannot fork\n");
}

static void test_filtered_refuses_ioctls(void **state) {
        static const unsigned refused[] = { TIOCSTI, TCGETS };
        Baseline *b = *state;
        Jail j = system_jail();
        j.filtered = true;
        jail_add_bind(&j, "/bin/stty", "/bin/stty", false);
        check_shell(b->event, &j, "exec stty 2>&1", "stty: 'standard input': Inappropriate ioctl for device\n");
        Jail k = system_jail();
        k.filtered = true;
        k.refused_ioctls = refused;
        k.n_refused_ioctls = ARRAY_LEN(refused);
        jail_add_bind(&k, "/bin/stty", "/bin/stty", false);
        check_shell(b->event, &k, "exec stty 2>&1", "stty: 'standard input': Operation not permitted\n");
}

/* ---- files ---- */

static void test_files_by_descriptor(void **state) {
        Baseline *b = *state;
        char open_path[] = "/tmp/test-jail-XXXXXX", secret_path[] = "/tmp/test-jail-XXXXXX",
             gone_path[] = "/tmp/test-jail-XXXXXX", swapped_path[] = "/tmp/test-jail-XXXXXX",
             other_path[] = "/tmp/test-jail-XXXXXX";
        int fds[4] = {
                open(make_file(open_path, "open", 0644), O_RDONLY | O_CLOEXEC),
                open(make_file(secret_path, "secret", 0600), O_RDONLY | O_CLOEXEC),
                open(make_file(gone_path, "gone", 0644), O_RDONLY | O_CLOEXEC),
                open(make_file(swapped_path, "first", 0644), O_RDONLY | O_CLOEXEC),
        };
        unlink(gone_path);
        assert_int_equal(rename(make_file(other_path, "second", 0644), swapped_path), 0);
        lseek(fds[1], 3, SEEK_SET);

        static const char *const targets[] = { "/files/open", "/files/secret", "/files/gone", "/files/swapped" };
        Jail j = system_jail();
        for (size_t i = 0; i < 4; i++)
                jail_add_fd(&j, fds[i], targets[i]);
        check_shell(b->event, &j,
                    "for f in /files/*; do read x < $f; echo $f $x; (echo > $f) 2>/dev/null && echo written; done",
                    "/files/gone gone\n/files/open open\n/files/secret secret\n/files/swapped first\n");
        assert_int_equal(lseek(fds[1], 0, SEEK_CUR), 3);
        for (size_t i = 0; i < 4; i++)
                close(fds[i]);
        unlink(open_path);
        unlink(secret_path);
        unlink(swapped_path);
}

static void test_copies_have_a_cap(void **state) {
        Baseline *b = *state;
        int fd = -1;
        assert_int_equal(fd_memfd("big", "0123456789", 10, true, &fd), 0);
        Jail j = system_jail();
        jail_add_fd(&j, fd, "/kernel");
        j.copy_max = 9;
        check_failure(b->event, &j, "cannot start the inmate: cannot bring /kernel into the jail: File too large");
        j.copy_max = 10;
        check_shell(b->event, &j, "read x < /kernel; echo $x", "0123456789\n");
        close(fd);
}

static void test_what_is_refused(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        jail_add_bind(&j, "/there/is/nothing", "/x", true);
        jail_add_bind(&j, "/there/is/none", "/y", false);
        check_failure(b->event, &j,
                      "cannot start the inmate: cannot bring /there/is/none into the jail: No such file or directory");

        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        j = system_jail();
        jail_add_fd(&j, ends[0], "/pipe");
        check_failure(b->event, &j, "cannot start the inmate: cannot bring /pipe into the jail: Invalid argument");
        close(ends[0]);
        close(ends[1]);

        j = (Jail){ .privileged = true };
        check_failure(b->event, &j, "cannot start the inmate: cannot be a jail: Invalid argument");

        j = system_jail();
        for (int i = 0; i <= JAIL_BINDS_MAX; i++)
                jail_add_bind(&j, "/bin/sh", "/bin/sh", false);
        check_failure(b->event, &j, "cannot start the inmate: cannot be a jail: Invalid argument");

        /* And a program that is not there. */
        j = system_jail();
        check_failure(b->event, &j, "cannot start the inmate: cannot execute /bin/sh: No such file or directory");
}

/* A console's ends: FIFOs work both ways through a mount that is read-only. */
static void test_fifos_can_be_bound(void **state) {
        Baseline *b = *state;
        char dir[] = "/tmp/test-jail-XXXXXX", fifo[64];
        assert_non_null(mkdtemp(dir));
        snprintf(fifo, sizeof fifo, "%s/fifo", dir);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(chown(fifo, JAIL_UID, JAIL_UID), 0);
        int fd = open(fifo, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        Jail j = system_jail();
        jail_add_bind(&j, fifo, "/console", false);
        check_shell(b->event, &j, "echo hello > /console && echo ok", "ok\n");
        char text[8] = "";
        assert_int_equal(read(fd, text, sizeof text), 6);
        assert_string_equal(text, "hello\n");
        close(fd);
        unlink(fifo);
        rmdir(dir);
}

/* ---- an emulator, seen from outside ---- */

static char *proc_file(pid_t pid, const char *name) {
        char path[64], *text = NULL;
        size_t length;
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
        if (file_read_all(AT_FDCWD, path, 1024 * 1024, &text, &length) < 0)
                fail_msg("cannot read %s", path);
        return text;
}

static void check_status(pid_t pid, uid_t uid, bool privileged) {
        AUTO(string_drop) char *status = proc_file(pid, "status");
        char line[128];
        snprintf(line, sizeof line, "\nUid:\t%u\t%u\t%u\t%u\n", uid, uid, uid, uid);
        assert_non_null(strstr(status, line));
        snprintf(line, sizeof line, "\nGid:\t%u\t%u\t%u\t%u\n", uid, uid, uid, uid);
        assert_non_null(strstr(status, line));
        static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
        for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
                snprintf(line, sizeof line, "\n%s:\t0000000000000000\n", sets[i]);
                assert_non_null(strstr(status, line));
        }
        assert_non_null(strstr(status, "\nNoNewPrivs:\t1\n"));
        assert_non_null(strstr(status, "\nSeccomp:\t2\n"));
        if (privileged)
                assert_non_null(strstr(status, "\nGroups:\t \n"));
}

static void check_namespaces(pid_t pid, bool privileged) {
        static const char *const names[] = { "mnt", "pid", "net", "ipc", "uts", "user" };
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char path[64], ours[64] = "", theirs[64] = "";
                snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
                assert_true(readlink(path, ours, sizeof ours - 1) > 0);
                snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, names[i]);
                assert_true(readlink(path, theirs, sizeof theirs - 1) > 0);
                bool same = strcmp(ours, theirs) == 0;
                assert_int_equal(same, privileged && strcmp(names[i], "user") == 0);
        }
        AUTO(string_drop) char *links = proc_file(pid, "net/dev");
        /* Two lines of headings, and the loopback. */
        char *line = links;
        for (int i = 0; i < 2; i++) {
                line = strchr(line, '\n');
                assert_non_null(line++);
        }
        assert_non_null(strstr(line, "lo:"));
        line = strchr(line, '\n');
        assert_non_null(line);
        assert_null(strchr(line + 1, ':'));
}

static void check_mounts(pid_t pid) {
        AUTO(string_drop) char *mounts = proc_file(pid, "mountinfo");
        size_t n = 0;
        for (const char *line = mounts; *line; line = strchr(line, '\n') + 1, n++) {
                char where[256], flags[256];
                assert_int_equal(sscanf(line, "%*s %*s %*s %*s %255s %255s", where, flags), 2);
                assert_true(string_has_prefix(flags, "ro,"));
                assert_non_null(strstr(flags, "nosuid"));
                assert_true(strstr(flags, "nodev") || string_has_prefix(where, "/dev/"));
                assert_null(strstr(line, "shared:"));
        }
        assert_true(n > 5 && n <= JAIL_BINDS_MAX + 1);

        char path[64];
        struct stat st;
        snprintf(path, sizeof path, "/proc/%d/root/usr/bin/sh", (int)pid);
        assert_int_equal(stat(path, &st), -1);
        assert_int_equal(errno, ENOENT);
}

static void check_emulator(sd_event *event, Jail *j, const char *program, const char *machine, uid_t uid) {
        if (access(program, X_OK) < 0)
                fail_msg("%s is not installed", program);
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        char *argv[] = { strdup(program),
                         (char[]){ "-M" },
                         strdup(machine),
                         (char[]){ "-nodefaults" },
                         (char[]){ "-display" },
                         (char[]){ "none" },
                         (char[]){ "-S" },
                         (char[]){ "-sandbox" },
                         (char[]){ "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" },
                         (char[]){ "-qmp" },
                         (char[]){ "stdio" },
                         NULL };
        jail_add_system(j, argv[0]);
        Run r;
        if (!start(event, &r, j, argv, (int[3]){ pair[1], pair[1], 2 }))
                fail_msg("%s", r.text);
        close(pair[1]);

        struct pollfd p = { .fd = pair[0], .events = POLLIN };
        assert_int_equal(poll(&p, 1, 9000), 1);
        char greeting[64] = "";
        assert_true(read(pair[0], greeting, sizeof greeting - 1) > 0);
        assert_true(string_has_prefix(greeting, "{\"QMP\": "));
        check_status(r.id.pid, uid, j->privileged);
        check_namespaces(r.id.pid, j->privileged);
        check_mounts(r.id.pid);

        process_kill(&r.process);
        assert_true(loop_until(event, &r.ended));
        close(pair[0]);
        free(argv[0]);
        free(argv[2]);
}

static void test_emulators_run(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        check_emulator(b->event, &j, "/usr/bin/qemu-system-x86_64", "q35", JAIL_UID);
        j = system_jail();
        check_emulator(b->event, &j, "/usr/bin/qemu-system-aarch64", "virt", JAIL_UID);
}

/* ---- for a boot loader ---- */

static void test_scratch(void **state) {
        Baseline *b = *state;
        Jail j = system_jail();
        j.scratch = "/scratch/here";
        j.scratch_size = 64 * 1024;
        jail_add_bind(&j, "/bin/dd", "/bin/dd", false);
        check_shell(b->event, &j,
                    "cd /scratch/here && echo x > y && read z < y && echo $z; ./y 2>/dev/null || echo noexec; "
                    "dd if=/dev/zero of=big bs=1k count=1000 2>/dev/null || echo full; "
                    "(echo > /scratch/x) 2>/dev/null || echo ro",
                    "x\nnoexec\nfull\nro\n");
}

static void test_groups(void **state) {
        Baseline *b = *state;
        const gid_t groups[] = { 777, 778 };
        Jail j = system_jail();
        j.groups = groups;
        j.n_groups = 2;
        jail_add_bind(&j, "/usr/bin/id", "/bin/id", false);
        check_shell(b->event, &j, "id -u; id -g; id -G", "54321\n54321\n54321 777 778\n");
}

/* By what the descriptor is, not by a name; with the file's own mode; never writable, never copied. */
static void test_disks(void **state) {
        Baseline *b = *state;
        char path[] = "/tmp/test-jail-XXXXXX", other[] = "/tmp/test-jail-XXXXXX";
        int fd = open(make_file(path, "disk", 0600), O_RDWR | O_CLOEXEC);
        assert_int_equal(fchown(fd, JAIL_UID, JAIL_UID), 0);
        Jail j = system_jail();
        jail_add_disk(&j, fd, "/disk");
        check_shell(b->event, &j, "read x < /disk; echo $x; (echo > /disk) 2>/dev/null || echo ro", "disk\nro\n");

        assert_int_equal(fchown(fd, 0, 0), 0);
        Jail k = system_jail();
        jail_add_disk(&k, fd, "/disk");
        check_shell(b->event, &k, "(read x < /disk) 2>/dev/null || echo not its own", "not its own\n");

        assert_int_equal(rename(make_file(other, "other", 0644), path), 0);
        Jail l = system_jail();
        jail_add_disk(&l, fd, "/disk");
        jail_add_program(&l, "/bin/sh");
        check_failure(b->event, &l,
                      "cannot start the inmate: cannot bring /disk into the jail: No such file or directory");
        close(fd);
        unlink(path);
}

/* ---- other surroundings, each in a process of its own ---- */

/* cmocka's assertions end that process with a status that is not 0. */
static void in_child(void (*run)(sd_event *event)) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                sd_event *event = NULL;
                setenv("CMOCKA_TEST_ABORT", "1", 1);
                if (sd_event_new(&event) < 0)
                        _exit(9);
                run(event);
                _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void run_as_user(sd_event *event) {
        assert_int_equal(child_become(USER_UID, USER_UID, NULL, 0), 0);
        /* Its own files are read by itself, whatever the mode; and nothing can be mounted but by a namespace. */
        char path[] = "/tmp/test-jail-XXXXXX";
        int fd = open(make_file(path, "mine", 0600), O_RDONLY | O_CLOEXEC);
        Jail j = { .privileged = false };
        jail_add_fd(&j, fd, "/file");
        jail_add_bind(&j, "/usr/bin/id", "/bin/id", false);
        check_shell(event, &j, "read x < /file; echo $x; id -u; (echo > /x) 2>/dev/null || echo ro",
                    "mine\n54999\nro\n");
        unlink(path);

        Jail k = { .privileged = false };
        check_emulator(event, &k, "/usr/bin/qemu-system-x86_64", "q35", USER_UID);
}

static void test_session_scope(void **state UNUSED) {
        in_child(run_as_user);
}

/* A root that is a plain directory of a file system whose mounts are shared with the host: nothing of the jail may show
 * up outside. */
static void furnish(const char *dir) {
        static const char *const folders[] = { "proc", "dev", "usr", "bin" };
        char path[128];
        for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
                snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
                assert_int_equal(mkdir(path, 0755), 0);
        }
        snprintf(path, sizeof path, "%s/lib", dir);
        assert_int_equal(symlink("usr/lib", path), 0);
        snprintf(path, sizeof path, "%s/lib64", dir);
        assert_int_equal(symlink("usr/lib64", path), 0);
        snprintf(path, sizeof path, "%s/proc", dir);
        assert_int_equal(mount("proc", path, "proc", 0, NULL), 0);
        static const char *const binds[] = { "/dev", "/usr" };
        for (size_t i = 0; i < ARRAY_LEN(binds); i++) {
                snprintf(path, sizeof path, "%s%s", dir, binds[i]);
                assert_int_equal(mount(binds[i], path, NULL, MS_BIND | MS_REC, NULL), 0);
        }
        snprintf(path, sizeof path, "%s/bin/sh", dir);
        assert_int_equal(symlink("/usr/bin/sh", path), 0);
}

static char chroot_dir[] = "/tmp/test-jail-XXXXXX";

static void run_in_chroot(sd_event *event) {
        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
        assert_non_null(mkdtemp(chroot_dir));
        furnish(chroot_dir);
        AUTO(string_drop) char *before = proc_file(getpid(), "mountinfo");
        assert_int_equal(chroot(chroot_dir), 0);
        assert_int_equal(chdir("/"), 0);

        Jail j = system_jail();
        check_shell(event, &j, "echo /*", "/bin /dev /etc /lib /lib64 /usr\n");

        /* Out again, to count. */
        int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        assert_int_equal(setns(self, CLONE_NEWNS), 0);
        AUTO(string_drop) char *after = proc_file(getpid(), "mountinfo");
        assert_string_equal(before, after);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        umount2(chroot_dir, MNT_DETACH);
        static const char *const mounts[] = { "proc", "dev", "usr" };
        for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
                char path[128];
                snprintf(path, sizeof path, "%s/%s", chroot_dir, mounts[i]);
                assert_int_equal(umount2(path, MNT_DETACH), 0);
        }
        assert_int_equal(test_remove_tree(chroot_dir), 0);
}

static void test_daemon_in_a_chroot(void **state UNUSED) {
        in_child(run_in_chroot);
}

int main(void) {
        if (geteuid() != 0) {
                fprintf(stderr, "needs root\n");
                return 77;
        }
#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_only_what_is_listed),
                TEST(test_nothing_can_be_written),
                TEST(test_limits_and_names),
                TEST(test_devices_work),
                TEST(test_becomes_another_itself),
                TEST(test_filtered_makes_no_process),
                TEST(test_filtered_refuses_ioctls),
                TEST(test_opens_its_devices_before_and_after),
                TEST(test_files_by_descriptor),
                TEST(test_copies_have_a_cap),
                TEST(test_what_is_refused),
                TEST(test_fifos_can_be_bound),
                TEST(test_emulators_run),
                TEST(test_scratch),
                TEST(test_groups),
                TEST(test_disks),
                TEST(test_session_scope),
                TEST(test_daemon_in_a_chroot),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
