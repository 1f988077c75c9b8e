/* Stops at the N-th system call that a running process begins, counted from when this program says "ready":
 *
 *   sweep PID count      count them until standard input ends
 *   sweep PID kill N     SIGKILL at the N-th, before it is done
 *   sweep PID fail N     let the N-th fail, undone, with an errno that it may have; then let the process go
 *   sweep PID hold N     stop it at the N-th, until standard input ends; then let the process go
 *   sweep PID list-below     say each call that its children begin, and theirs, until they become other programs
 *   sweep PID kill-below N [NUMBER]  SIGKILL for the process at the N-th of those, or of those with that number, before
 *                        that is done
 *
 * Prints "ready", and at the end one line: "hit N NUMBER ERRNO TARGET", with the number of the system call, the errno
 * (0: killed, or a call that cannot fail and was left alone) and what its first argument leads to as a descriptor ("-":
 * to nothing); or "short COUNT" when standard input, or the process, ended before the N-th. For children the target is
 * followed by a tab and what they ask for there: the bytes of a write, the numbers of a hypercall. It is the tool of
 * the suites that kill the daemon everywhere. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t tracee;
static bool below; /* it is the children's calls that count */

static _Noreturn void die(const char *what) {
        fprintf(stderr, "sweep: %s: %s\n", what, strerror(errno));
        exit(2);
}

/* A process has stopped or ended: its pid; or standard input has: 0. */
static pid_t wait_for_stop(int signals, int *status) {
        struct pollfd fds[] = { { .fd = signals, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };

        for (;;) {
                pid_t pid = waitpid(below ? -1 : tracee, status, WNOHANG | __WALL);
                if (pid > 0)
                        return pid;
                if (pid < 0)
                        die("waitpid");
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        die("poll");
                if (fds[0].revents) {
                        struct signalfd_siginfo info;
                        (void)!read(signals, &info, sizeof info);
                        continue;
                }
                if (fds[1].revents)
                        return 0;
        }
}

static void set_registers(struct user_regs_struct *regs) {
        struct iovec io = { regs, sizeof *regs };
        if (ptrace(PTRACE_SETREGSET, tracee, 1 /* NT_PRSTATUS */, &io) < 0)
                die("PTRACE_SETREGSET");
}

static struct user_regs_struct get_registers(void) {
        struct user_regs_struct regs;
        struct iovec io = { &regs, sizeof regs };
        if (ptrace(PTRACE_GETREGSET, tracee, 1, &io) < 0)
                die("PTRACE_GETREGSET");
        return regs;
}

/* With what each call fails when the host is short of something. 0: it cannot fail when its arguments are right. */
static const struct {
        long number;
        int error;
} errors[] = {
        { SYS_exit_group, 0 },
        { SYS_rt_sigreturn, 0 },
        { SYS_rt_sigprocmask, 0 },
        { SYS_rt_sigaction, 0 },
        { SYS_clock_gettime, 0 }, /* a call where the processor gives no time to all, as under Xen */
        { SYS_getpid, 0 },
        { SYS_getppid, 0 },
        { SYS_gettid, 0 },
        { SYS_getuid, 0 },
        { SYS_geteuid, 0 },
        { SYS_getgid, 0 },
        { SYS_getegid, 0 },
        { SYS_umask, 0 },
        { SYS_pidfd_send_signal, 0 },
        { SYS_kill, 0 },
        { SYS_restart_syscall, 0 },
        { SYS_wait4, EINTR },
        { SYS_waitid, EINTR },
        { SYS_clone, EAGAIN },
        { SYS_clone3, EAGAIN },
        { SYS_openat, EMFILE },
        { SYS_open, EMFILE },
        { SYS_socket, EMFILE },
        { SYS_socketpair, EMFILE },
        { SYS_pipe2, EMFILE },
        { SYS_accept4, EMFILE },
        { SYS_dup, EMFILE },
        { SYS_fcntl, EMFILE },
        { SYS_pidfd_open, EMFILE },
        { SYS_memfd_create, ENFILE },
        { SYS_timerfd_create, EMFILE },
        { SYS_write, ENOSPC },
        { SYS_pwrite64, ENOSPC },
        { SYS_ftruncate, ENOSPC },
        { SYS_fallocate, ENOSPC },
        { SYS_mkdirat, ENOSPC },
        { SYS_mkdir, ENOSPC },
        { SYS_mknodat, ENOSPC },
        { SYS_linkat, ENOSPC },
        { SYS_renameat, ENOSPC },
        { SYS_bind, ENOSPC },
        { SYS_mmap, ENOMEM },
        { SYS_munmap, ENOMEM },
        { SYS_mremap, ENOMEM },
        { SYS_mprotect, ENOMEM },
        { SYS_brk, ENOMEM },
        { SYS_epoll_ctl, ENOMEM },
        { SYS_sendmsg, ENOBUFS },
        { SYS_sendto, ENOBUFS },
        { SYS_recvmsg, ENOMEM },
        { SYS_recvfrom, ENOMEM },
        { SYS_connect, ENOMEM },
};

static int error_of(const struct __ptrace_syscall_info *info) {
        if (info->entry.nr == SYS_epoll_ctl && info->entry.args[1] == EPOLL_CTL_DEL)
                return 0; /* who lets go of what it watches needs nothing for it */
        for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
                if (errors[i].number == (long)info->entry.nr)
                        return errors[i].error;
        return EIO;
}

/* At the entry of the call: let the kernel run none in its place, and give the errno at its exit. A close() that fails
 * has closed; a brk() that fails gives no errno but an older end. */
static void fail_call(long number, int error) {
        struct user_regs_struct regs = get_registers();
        int status;

        if (number != SYS_close) {
                regs.orig_rax = (unsigned long)-1;
                set_registers(&regs);
        }
        if (ptrace(PTRACE_SYSCALL, tracee, 0, 0) < 0)
                die("PTRACE_SYSCALL");
        if (waitpid(tracee, &status, __WALL) != tracee || !WIFSTOPPED(status))
                return;
        regs = get_registers();
        regs.rax = number == SYS_brk ? 0 : (unsigned long)-(long)error;
        set_registers(&regs);
}

/* ---- what a call is about ---- */

static ssize_t read_memory(pid_t pid, uint64_t address, void *buffer, size_t size) {
        struct iovec ours = { buffer, size }, theirs = { (void *)(uintptr_t)address, size };
        return process_vm_readv(pid, &ours, 1, &theirs, 1, 0);
}

/* The bytes, printable: what is not becomes a dot. */
static void describe_write(pid_t pid, uint64_t address, uint64_t length, char *text, size_t size) {
        ssize_t n = read_memory(pid, address, text, length < size ? length : size - 1);

        for (ssize_t i = 0; i < n; i++)
                if (text[i] < ' ' || text[i] > '~')
                        text[i] = '.';
        text[n < 0 ? 0 : n] = '\0';
}

/* Of privcmd, Xen's device: the hypercall's number, its first argument, and what that leads to: the command of one that
 * has a struct. */
static void describe_ioctl(pid_t pid, const uint64_t *arguments, const char *target, char *text, size_t size) {
        uint64_t call[2] = { 0, 0 };
        uint32_t command = 0;

        snprintf(text, size, "ioctl %llx", (unsigned long long)arguments[1]);
        if (!strstr(target, "privcmd") || (arguments[1] & 0xff) != 0 ||
            read_memory(pid, arguments[2], call, sizeof call) != sizeof call)
                return;
        (void)read_memory(pid, call[1], &command, sizeof command);
        snprintf(text, size, "hypercall %llu of %llu or %u", (unsigned long long)call[0],
                 call[1] < 0x10000 ? (unsigned long long)call[1] : 0, command);
}

static void describe(pid_t pid, const struct __ptrace_syscall_info *info, const char *target, char *text, size_t size) {
        *text = '\0';
        if (info->entry.nr == SYS_write || info->entry.nr == SYS_sendto)
                describe_write(pid, info->entry.args[1], info->entry.args[2], text, size);
        else if (info->entry.nr == SYS_ioctl)
                describe_ioctl(pid, (const uint64_t *)info->entry.args, target, text, size);
}

/* What the first argument leads to, taken for a descriptor. */
static void print_call(const char *word, pid_t pid, long n, const struct __ptrace_syscall_info *info, int error) {
        char link[64], target[256], what[128];

        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, (int)info->entry.args[0]);
        ssize_t length = readlink(link, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        printf("%s %ld %lld %d %s", word, n, (long long)info->entry.nr, error, length <= 0 ? "-" : target);
        if (below) {
                describe(pid, info, target, what, sizeof what);
                printf("\t%s", what);
        }
        putchar('\n');
        fflush(stdout);
}

static void wait_for_input_end(void) {
        char byte;
        while (read(STDIN_FILENO, &byte, 1) > 0)
                ;
}

/* Set the process free, whatever state it is in. */
static void let_go(int signals) {
        int status;

        if (ptrace(PTRACE_DETACH, tracee, 0, 0) == 0 || errno != ESRCH)
                return;
        if (ptrace(PTRACE_INTERRUPT, tracee, 0, 0) < 0)
                return;
        if (wait_for_stop(signals, &status) || waitpid(tracee, &status, __WALL) == tracee)
                ptrace(PTRACE_DETACH, tracee, 0, 0);
}

/* Its children stay where they are until the daemon is gone, and go with it. Its other threads have to be waited for,
 * or it would not be gone. */
static void wait_for_death(void) {
        pid_t pid;
        int status;

        do
                pid = waitpid(-1, &status, __WALL);
        while (pid > 0 && (pid != tracee || WIFSTOPPED(status)));
}

/* At a point: do what the mode says. */
static void act(const char *mode, pid_t pid, long n, const struct __ptrace_syscall_info *info) {
        bool failing = strcmp(mode, "fail") == 0;
        int error = failing ? error_of(info) : 0;

        print_call("hit", pid, n, info, error);
        if (strncmp(mode, "kill", 4) == 0) {
                kill(tracee, SIGKILL);
                if (below)
                        wait_for_death();
                return;
        }
        if (strcmp(mode, "hold") == 0)
                wait_for_input_end();
        if (error != 0)
                fail_call((long)info->entry.nr, error);
        ptrace(PTRACE_DETACH, tracee, 0, 0);
}

/* Let a stopped process go on to its next stop. */
static void go_on(pid_t pid, int status) {
        bool was_event = status >> 16 != 0, was_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
        int deliver = was_event || was_call ? 0 : WSTOPSIG(status); /* a signal of its own */

        if (below && status >> 16 == PTRACE_EVENT_EXEC) {
                ptrace(PTRACE_DETACH, pid, 0, 0); /* another program now */
                return;
        }
        if (ptrace(below && pid == tracee ? PTRACE_CONT : PTRACE_SYSCALL, pid, 0, deliver) < 0 && errno != ESRCH)
                die("go on");
}

/* The call that a process is about to begin: true. One that has been killed since is about to end. */
static bool is_at_call(pid_t pid, int status, struct __ptrace_syscall_info *info) {
        if (WSTOPSIG(status) != (SIGTRAP | 0x80))
                return false;
        if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof *info, info) < 0) {
                if (errno != ESRCH)
                        die("PTRACE_GET_SYSCALL_INFO");
                return false;
        }
        return info->op == PTRACE_SYSCALL_INFO_ENTRY;
}

/* only: the number of the calls that count, -1 for all. status: of its first stop. */
static int run(const char *mode, long at, long only, int status, int signals) {
        bool listing = strncmp(mode, "list", 4) == 0;
        pid_t pid = tracee;
        long seen = 0;

        do {
                struct __ptrace_syscall_info info;

                if (!WIFSTOPPED(status)) {
                        if (pid == tracee)
                                break;
                        continue;
                }
                if (is_at_call(pid, status, &info) && (only < 0 || (long)info.entry.nr == only)) {
                        if (++seen == at) {
                                act(mode, pid, seen, &info);
                                return 0;
                        }
                        if (listing)
                                print_call("call", pid, seen, &info, 0);
                }
                go_on(pid, status);
        } while ((pid = wait_for_stop(signals, &status)) > 0);

        if (pid == 0 && !below) {
                ptrace(PTRACE_INTERRUPT, tracee, 0, 0);
                let_go(signals);
        }
        printf("short %ld\n", seen);
        return 0; /* whatever is still traced is let go with us */
}

int main(int argc, char **argv) {
        const char *mode = argc > 2 ? argv[2] : "";
        long at = argc > 3 ? atol(argv[3]) : 0;
        long options = PTRACE_O_TRACESYSGOOD;
        int status;
        sigset_t mask;

        if (argc < 3 || (tracee = atoi(argv[1])) <= 0) {
                fprintf(stderr,
                        "usage: sweep PID count | kill N | fail N | hold N | list-below | kill-below N [NUMBER]\n");
                return 2;
        }
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        int signals = signalfd(-1, &mask, SFD_CLOEXEC);
        if (signals < 0)
                die("signalfd");

        below = strstr(mode, "-below") != NULL;
        if (below)
                options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
        if (ptrace(PTRACE_SEIZE, tracee, 0, options) < 0 || ptrace(PTRACE_INTERRUPT, tracee, 0, 0) < 0)
                die("PTRACE_SEIZE");
        if (wait_for_stop(signals, &status) != tracee)
                die("attach");
        printf("ready\n");
        fflush(stdout);
        return run(mode, at, argc > 4 ? atol(argv[4]) : -1, status, signals);
}
