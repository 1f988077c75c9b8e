/* How it works: who is who
 *
 *   daemon ---- worker ------------------------- loader and its children
 *     |         the init of the jail's PID         on the pseudo-terminal's other side, which is the
 *     |         namespace, as the owner            controlling terminal of its session
 *     +-- the pseudo-terminal, as the console's source
 *
 * The worker (core/worker.h) is the one that is jailed, and the loader its child: so the one that waits for the loader,
 * kills what is left of it, reads its answer and opens the files that it names has no more rights than the loader
 * itself; and when the worker dies, with the daemon at the latest, the kernel kills all that there is in the namespace.
 * The tree goes with the namespace of mounts, the output with the last descriptor of it.
 *
 * The answer is a file that exists before (pygrub wants it so), on the tmpfs, read once nobody is left who could write.
 * The daemon looks again at what the worker says and gives.
 *
 * Limits: the tmpfs for the output, RLIMIT_FSIZE; memory and processor time of each process; the number of processes.
 * In the system scope the owner's other processes count into that, so it is set so many above what there is. */
#include "guest/boot-loader.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/argv.h"
#include "base/fd.h"
#include "base/last-lines.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "core/child.h"
#include "core/process.h"
#include "guest/boot-answer.h"
#include "guest/jail.h"

/* Inside the jail. */
#define DISK        "/disk"
#define OUTPUT      "/output"
#define ANSWER_NAME "answer"

#define MEMORY_MAX    (1ULL << 30) /* of each process */
#define PROCESSES_MAX 64
#define SCRATCH_EXTRA (1024 * 1024) /* for the answer, and what rounding to pages takes */
#define NOBODY        65534
#define COLUMNS       80
#define ROWS          24
#define LAST_WORDS    4096 /* bytes of the screen that are looked at */

typedef struct WireChoice {
        uint8_t has_initrd;
        char args[CMDLINE_MAX + 1];
} WireChoice;
enum { WIRE_KERNEL, WIRE_INITRD };

/* ---- in the worker, still as the daemon ---- */

/* What runs a script: "#!/usr/bin/python3 -E". "": it is no script. */
static int read_interpreter(const char *program, char *ret, size_t size) {
        AUTO(fd_drop) int fd = open(program, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char line[256];

        *ret = '\0';
        if (fd < 0)
                return -errno;
        ssize_t n = read(fd, line, sizeof line - 1);
        if (n < 0)
                return -errno;
        line[n] = '\0';
        if (!string_has_prefix(line, "#!"))
                return 0;
        const char *path = line + 2 + strspn(line + 2, " \t");
        snprintf(ret, size, "%.*s", (int)strcspn(path, " \t\r\n"), path);
        return *ret == '/' ? 0 : -ENOEXEC;
}

/* How many threads this user has: what the kernel holds RLIMIT_NPROC against. */
static uint64_t count_threads(uid_t uid) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        uint64_t count = 0;

        while (proc && (entry = readdir(proc))) {
                char path[sizeof entry->d_name + 8];
                struct stat st;

                snprintf(path, sizeof path, "%s/task", entry->d_name);
                if (*entry->d_name >= '1' && *entry->d_name <= '9' && fstatat(dirfd(proc), path, &st, 0) == 0 &&
                    st.st_uid == uid && st.st_nlink > 2)
                        count += st.st_nlink - 2;
        }
        if (proc)
                closedir(proc);
        return count;
}

/* Root's image is for root alone to read, but what looks into it must not be root. */
static int find_identity(const BootLoaderJob *j, Jail *jail, ChildGroups *groups, Error *e) {
        jail->uid = j->owner != 0 ? j->owner : j->jail_uid;
        jail->gid = j->owner != 0 ? NOBODY : (gid_t)j->jail_uid;
        if (!j->privileged || j->owner == 0)
                return 0;

        int r = child_find_groups(j->owner, groups);
        if (r < 0)
                return error_set_errno(e, r, "Failed to look up the groups of uid %u", (unsigned)j->owner);
        size_t kept = 0;
        for (size_t i = 0; i < groups->count; i++)
                if (groups->groups[i] != 0)
                        groups->groups[kept++] = groups->groups[i];
        if (groups->gid != 0)
                jail->gid = groups->gid;
        jail->groups = groups->groups;
        jail->n_groups = kept;
        return 0;
}

static int enter_jail(const BootLoaderJob *j, Error *e) {
        Jail jail = { .privileged = j->privileged,
                      .copy_max = 1, /* nothing is to be */
                      .scratch = OUTPUT,
                      .scratch_size = j->output_max + SCRATCH_EXTRA };
        char interpreter[256];
        const char *step = NULL;
        ChildGroups groups = { 0 };

        int r = read_interpreter(j->path, interpreter, sizeof interpreter);
        if (r < 0)
                return error_set_errno(e, r, "%s cannot be executed", j->path);
        r = find_identity(j, &jail, &groups, e);
        if (r < 0)
                return r;
        jail_add_program(&jail, j->path);
        if (*interpreter)
                jail_add_bind(&jail, interpreter, interpreter, false);
        jail_add_disk(&jail, j->disk_fd, DISK);
        r = jail_prepare(&jail, &step);
        free(groups.groups);
        if (r < 0)
                return error_set_errno(e, r, "it cannot be jailed: failed to %s", string_or(step, "begin"));
        return 0;
}

/* ---- as the owner, in the jail ---- */

/* The owner's other processes must not look at what this one has of the daemon's memory; and it must not outlive it. */
static int settle(Error *e) {
        int r = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : child_die_with_parent();
        if (r < 0)
                return error_set_errno(e, r, "Failed to tie it to the daemon");
        if (worker_is_orphan())
                _exit(EXIT_FAILURE);
        return 0;
}

static int check_disk(Error *e) {
        AUTO(fd_drop) int fd = open(DISK, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
                return error_set_errno(e, errno, "uid %u, as whom it runs, cannot read the disk", (unsigned)getuid());
        return 0;
}

static int make_answer(int output, Error *e) {
        AUTO(fd_drop) int fd = openat(output, ANSWER_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        return fd < 0 ? error_set_errno(e, errno, "Failed to make room for its answer") : 0;
}

static char **build_argv(const BootLoaderJob *j) {
        AUTO(argv_done) Argv a = ARGV_INIT;
        char **argv = NULL;

        argv_add(&a, j->path);
        if (j->cmdline)
                argv_addf(&a, "--args=%s", j->cmdline);
        argv_add(&a, "--output=" OUTPUT "/" ANSWER_NAME);
        argv_add(&a, "--output-format=simple0");
        argv_add(&a, "--output-directory=" OUTPUT);
        argv_add(&a, DISK);
        return argv_take(&a, &argv) < 0 ? NULL : argv;
}

static int limit(int what, uint64_t value) {
        struct rlimit now;

        if (getrlimit(what, &now) < 0)
                return -errno;
        if (value > now.rlim_max)
                value = now.rlim_max;
        return setrlimit(what, &(struct rlimit){ value, value }) < 0 ? -errno : 0;
}

static int set_limits(const BootLoaderJob *j, uint64_t threads) {
        int r = limit(RLIMIT_AS, MEMORY_MAX);
        if (r == 0)
                r = limit(RLIMIT_FSIZE, j->output_max);
        if (r == 0)
                r = limit(RLIMIT_CPU, j->deadline_usec / USEC_PER_SEC + 1);
        return r < 0 ? r : limit(RLIMIT_NPROC, threads + PROCESSES_MAX);
}

static int take_terminal(int terminal) {
        if (setsid() < 0 || ioctl(terminal, TIOCSCTTY, 0) < 0)
                return -errno;
        for (int fd = 0; fd <= 2; fd++)
                if (dup2(terminal, fd) < 0)
                        return -errno;
        return child_close_others(&(ChildFds){ (const int[]){ 0, 1, 2 }, 3 }, 1);
}

/* What goes wrong here is said where the loader itself would say it. */
static _Noreturn void become_loader(const BootLoaderJob *j, uint64_t threads) {
        static const char *const environment[] = { "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "TERM=vt100", "HOME=/", NULL };
        char **argv = build_argv(j);

        int r = take_terminal(j->terminal);
        if (r == 0)
                r = set_limits(j, threads);
        if (r == 0 && !argv)
                r = -ENOMEM;
        if (r == 0) {
                execve(j->path, argv, (char **)(uintptr_t)environment);
                r = -errno;
        }
        dprintf(2, "%s cannot be executed: %s\n", j->path, strerror(-r));
        _exit(127);
}

static int await_end(int pidfd, ChildExit *ret) {
        for (;;) {
                struct pollfd p = { .fd = pidfd, .events = POLLIN };
                if (poll(&p, 1, -1) < 0 && errno != EINTR)
                        return -errno;
                int r = process_reap(pidfd, ret);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
}

/* Nobody but us is to be left in the namespace: then nothing can change any more. */
static void end_others(void) {
        (void)kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) >= 0 || errno == EINTR)
                ;
}

static int run_loader(const BootLoaderJob *j, uint64_t threads, Error *e) {
        AUTO(fd_drop) int pidfd = -1;
        char how[CHILD_EXIT_TEXT_MAX];
        ChildExit exit = { CHILD_UNKNOWN, 0 };

        pid_t pid = child_fork(0, &pidfd);
        if (pid == 0)
                become_loader(j, threads);
        int r = pid < 0 ? pid : await_end(pidfd, &exit);
        end_others();
        if (r < 0)
                return error_set_errno(e, r, "Failed to run it");
        if (exit.how != CHILD_EXITED || exit.value != 0)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "it %s", child_exit_format(&exit, how));
        return 0;
}

/* A regular file of the output, which is the loader's: it may be anything. */
static int open_output(int output, const char *what, const char *name, int *ret_fd, struct stat *ret, Error *e) {
        AUTO(fd_drop) int fd = openat(output, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        AUTO(string_drop) char *why = NULL;

        if (fd < 0) {
                why = string_printf("it cannot be opened: %s",
                                    errno == ELOOP ? "it is a symbolic link" : strerror(errno));
                return error_set_value(e, ERROR_HYPERVISOR_FAILED, what, name, string_or(why, "it cannot be opened"));
        }
        if (fstat(fd, ret) < 0)
                return error_set_errno(e, errno, "Failed to look at the %s", what);
        if (!S_ISREG(ret->st_mode))
                return error_set_value(e, ERROR_HYPERVISOR_FAILED, what, name, "it is no regular file");
        *ret_fd = fd_take(&fd);
        return 0;
}

static int read_answer(int output, BootAnswer *ret, Error *e) {
        AUTO(fd_drop) int fd = -1;
        AUTO(string_drop) char *text = NULL;
        struct stat st;
        size_t length;

        int r = open_output(output, "its answer", ANSWER_NAME, &fd, &st, e);
        if (r < 0)
                return r;
        if (st.st_size == 0)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "it gave no answer");
        r = fd_read_all(fd, BOOT_ANSWER_MAX, &text, &length);
        if (r == -EFBIG)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "its answer is longer than %d bytes", BOOT_ANSWER_MAX);
        if (r < 0)
                return error_set_errno(e, r, "Failed to read its answer");
        r = boot_answer_parse(text, length, OUTPUT, ret, e);
        if (r < 0)
                error_prefix(e, "its answer is bad");
        return r;
}

static int check_size(const char *what, uint64_t size, uint64_t max, Error *e) {
        char shown[SIZE_TEXT_MAX];

        if (size == 0)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "its %s is empty", what);
        if (size > max)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "its %s is larger than the %s that it may be", what,
                                 size_format(max, shown));
        return 0;
}

static int add_output(const BootLoaderJob *j, int output, const char *what, const char *name, WorkerReply *reply,
                      Error *e) {
        struct stat st;
        int fd = -1;

        int r = open_output(output, what, name, &fd, &st, e);
        if (r < 0)
                return r;
        r = fd_set_add(&reply->fds, fd);
        if (r < 0)
                return error_set_errno(e, r, "Failed to pass the %s on", what);
        return check_size(what, (uint64_t)st.st_size, j->output_max, e);
}

static int collect(const BootLoaderJob *j, int output, WorkerReply *reply, Error *e) {
        BootAnswer answer;
        WireChoice wire = { 0 };

        int r = read_answer(output, &answer, e);
        if (r == 0)
                r = add_output(j, output, "kernel", answer.kernel, reply, e);
        if (r == 0 && *answer.ramdisk)
                r = add_output(j, output, "ramdisk", answer.ramdisk, reply, e);
        if (r < 0)
                return r;
        wire.has_initrd = *answer.ramdisk != '\0';
        strcpy(wire.args, answer.args);
        memcpy(reply->data, &wire, sizeof wire);
        reply->length = sizeof wire;
        return 0;
}

static int run(void *input, WorkerReply *reply, Error *e) {
        const BootLoaderJob *j = input;
        uint64_t threads = j->privileged ? count_threads(j->owner) : 0;

        int r = enter_jail(j, e);
        if (r == 0)
                r = settle(e);
        if (r == 0)
                r = check_disk(e);
        if (r < 0)
                return r;
        AUTO(fd_drop) int output = open(OUTPUT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (output < 0)
                return error_set_errno(e, errno, "Failed to open the directory for its output");
        r = make_answer(output, e);
        if (r == 0)
                r = run_loader(j, threads, e);
        return r < 0 ? r : collect(j, output, reply, e);
}

/* ---- in the daemon ---- */

static void choice_clear(BootChoice *c) {
        fd_drop(&c->kernel_fd);
        fd_drop(&c->initrd_fd);
        string_drop(&c->cmdline);
}

/* What the worker passes was checked there, after hostile bytes had been read there. */
static int take_output(const BootLoaderJob *j, const char *what, int *from, int *ret_fd, uint64_t *ret_size, Error *e) {
        struct stat st;
        int flags = fcntl(*from, F_GETFL);

        if (flags < 0 || fstat(*from, &st) < 0)
                return error_set_errno(e, errno, "Failed to look at its %s", what);
        if (!S_ISREG(st.st_mode) || (flags & O_ACCMODE) != O_RDONLY)
                return error_set(e, ERROR_INTERNAL, "its %s is not a file to be read", what);
        int r = check_size(what, (uint64_t)st.st_size, j->output_max, e);
        if (r < 0)
                return r;
        *ret_size = (uint64_t)st.st_size;
        *ret_fd = fd_take(from);
        return 0;
}

static int decode(const BootLoaderJob *j, WorkerReply *reply, BootChoice *choice, Error *e) {
        WireChoice wire;
        int r = 0;

        if (reply->length != sizeof wire)
                return error_set(e, ERROR_INTERNAL, "garbled answer");
        memcpy(&wire, reply->data, sizeof wire);
        if (reply->fds.count != (wire.has_initrd ? 2U : 1U) || !memchr(wire.args, '\0', sizeof wire.args))
                return error_set(e, ERROR_INTERNAL, "garbled answer");
        for (const char *p = wire.args; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return error_set(e, ERROR_INTERNAL, "garbled answer");

        r = take_output(j, "kernel", &reply->fds.fds[WIRE_KERNEL], &choice->kernel_fd, &choice->kernel_size, e);
        if (r == 0 && wire.has_initrd)
                r = take_output(j, "ramdisk", &reply->fds.fds[WIRE_INITRD], &choice->initrd_fd, &choice->initrd_size,
                                e);
        if (r < 0)
                return r;
        choice->cmdline = strdup(wire.args);
        return choice->cmdline ? 0 : error_set_errno(e, ENOMEM, "Failed to keep its answer");
}

/* Takes the terminal from the console; what the loader printed last is there then. */
static void release(BootLoaderJob *j) {
        fd_drop(&j->terminal);
        (void)console_set_source(j->console, -1, -1);
        string_drop(&j->path);
}

static void describe(const BootLoaderJob *j, const Error *why, Error *e) {
        size_t length = 0;
        AUTO(string_drop) char *text = console_text_since(j->console, j->position, LAST_WORDS, &length);
        AUTO(string_drop) char *words = text ? last_lines(text, terminal_strip(text, length)) : NULL;
        AUTO(string_drop) char *late = NULL;
        const char *cause = error_text(why);

        if (why->id == ERROR_TIMEOUT) {
                late = string_printf("it chose no kernel within %.1f s", (double)j->deadline_usec / 1e6);
                cause = string_or(late, cause);
        }
        AUTO(string_drop) char *disk = string_escape(j->disk, 1024);
        error_set(e, why->id, "Boot loader %s on disk \"%s\": %s%s%s", j->name, string_or(disk, "?"), cause,
                  words ? ": " : "", string_or(words, ""));
}

static void worker_done(Worker *w, WorkerReply *reply, const Error *failure) {
        BootLoaderJob *j = w->userdata;
        BootChoice choice = { .kernel_fd = -1, .initrd_fd = -1 };
        AUTO(error_clear) Error why = ERROR_INIT;
        AUTO(error_clear) Error e = ERROR_INIT;

        release(j);
        if (!failure && decode(j, reply, &choice, &why) < 0)
                failure = &why;
        if (failure) {
                describe(j, failure, &e);
                console_note(j->console, error_text(&e));
        } else
                console_note(j->console, "debmarshal: the boot loader has chosen a kernel");
        j->done(j, &choice, failure ? &e : NULL);
        /* j may be gone. */
        choice_clear(&choice);
}

void boot_loader_init(BootLoaderJob *j) {
        *j = (BootLoaderJob){ .disk_fd = -1, .terminal = -1 };
        worker_init(&j->worker);
}

/* Ours becomes the console's source; theirs is the loader's. The size is what pygrub's menu is drawn for. */
static int open_terminal(BootLoaderJob *j, Error *e) {
        struct winsize size = { .ws_row = ROWS, .ws_col = COLUMNS };
        int unlock = 0;
        AUTO(fd_drop) int ours = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);

        if (ours >= 0 && ioctl(ours, TIOCSPTLCK, &unlock) == 0 && ioctl(ours, TIOCSWINSZ, &size) == 0)
                j->terminal = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (j->terminal < 0)
                return error_set_errno(e, errno, "Failed to make a terminal for boot loader %s", j->name);
        int fd = fd_take(&ours);
        int r = console_set_source(j->console, fd, fd);
        return r < 0 ? error_set_errno(e, r, "Failed to show boot loader %s on the console", j->name) : 0;
}

static int start_worker(BootLoaderJob *j, sd_event *event, Error *e) {
        const Jail scope = { .privileged = j->privileged };
        const int keep[] = { j->disk_fd, j->terminal };

        j->worker.what = "it";
        j->worker.run = run;
        j->worker.input = j;
        j->worker.keep = keep;
        j->worker.n_keep = ARRAY_LEN(keep);
        j->worker.clone_flags = jail_clone_flags(&scope);
        j->worker.deadline_usec = j->deadline_usec;
        j->worker.lingering = j->lingering;
        j->worker.done = worker_done;
        j->worker.userdata = j;
        int r = worker_start(&j->worker, event, e);
        j->worker.keep = NULL;
        j->worker.n_keep = 0;
        /* From now on the loader's side is open as long as there is a loader. */
        fd_drop(&j->terminal);
        return r;
}

int boot_loader_start(BootLoaderJob *j, sd_event *event, Error *e) {
        AUTO(string_drop) char *note = string_printf("debmarshal: boot loader %s", j->name);

        int r = boot_loaders_find(j->known, j->name, &j->path, e);
        if (r < 0)
                return r;
        console_note(j->console, string_or(note, "debmarshal: boot loader"));
        j->position = console_position(j->console);
        r = open_terminal(j, e);
        if (r == 0)
                r = start_worker(j, event, e);
        if (r < 0)
                release(j);
        return r;
}

void boot_loader_stop(BootLoaderJob *j) {
        bool active = j->worker.pidfd >= 0;

        worker_stop(&j->worker);
        if (active)
                release(j);
}
