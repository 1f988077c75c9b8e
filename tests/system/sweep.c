/* Stops at the N-th system call that a running process begins, counted from when this program says "ready":
 *
 *   sweep PID count      count them until standard input ends
 *   sweep PID kill N     SIGKILL at the N-th, before it is done
 *   sweep PID fail N     let the N-th fail, undone, with an errno that it may have; then let the process go
 *   sweep PID hold N     stop it at the N-th, until standard input ends; then let the process go
 *
 * Prints "ready", and at the end one line: "hit N NUMBER ERRNO TARGET", with the number of the system call, the errno
 * (0: killed, or a call that cannot fail and was left alone) and what its first argument leads to as a descriptor ("-":
 * to nothing); or "short COUNT" when standard input, or the process, ended before the N-th. Only the process itself is
 * traced, none of its children. It is the tool of the suites that kill the daemon everywhere. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t tracee;

static _Noreturn void die(const char *what) {
        fprintf(stderr, "sweep: %s: %s\n", what, strerror(errno));
        exit(2);
}

/* The process has stopped or ended (1), or standard input has (0). */
static int wait_for_stop(int signals, int *status) {
        struct pollfd fds[] = { { .fd = signals, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };

        for (;;) {
                pid_t pid = waitpid(tracee, status, WNOHANG | __WALL);
                if (pid == tracee)
                        return 1;
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

static int error_of(long number) {
        for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
                if (errors[i].number == number)
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

/* What a call's first argument leads to, taken for a descriptor. */
static void print_hit(long n, const struct __ptrace_syscall_info *info, int error) {
        char link[64], target[256];

        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)tracee, (int)info->entry.args[0]);
        ssize_t length = readlink(link, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        printf("hit %ld %lld %d %s\n", n, (long long)info->entry.nr, error, length <= 0 ? "-" : target);
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

int main(int argc, char **argv) {
        const char *mode = argc > 2 ? argv[2] : "";
        long at = argc > 3 ? atol(argv[3]) : 0, seen = 0;
        int status;
        sigset_t mask;

        if (argc < 3 || (tracee = atoi(argv[1])) <= 0) {
                fprintf(stderr, "usage: sweep PID count | kill N | fail N | hold N\n");
                return 2;
        }
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        int signals = signalfd(-1, &mask, SFD_CLOEXEC);
        if (signals < 0)
                die("signalfd");

        if (ptrace(PTRACE_SEIZE, tracee, 0, PTRACE_O_TRACESYSGOOD) < 0 || ptrace(PTRACE_INTERRUPT, tracee, 0, 0) < 0)
                die("PTRACE_SEIZE");
        if (!wait_for_stop(signals, &status))
                die("attach");
        printf("ready\n");
        fflush(stdout);

        for (;;) {
                int deliver = 0;
                if (WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80)) {
                        struct __ptrace_syscall_info info;
                        if (ptrace(PTRACE_GET_SYSCALL_INFO, tracee, sizeof info, &info) < 0)
                                die("PTRACE_GET_SYSCALL_INFO");
                        if (info.op == PTRACE_SYSCALL_INFO_ENTRY && ++seen == at) {
                                bool failing = strcmp(mode, "fail") == 0;
                                int error = failing ? error_of((long)info.entry.nr) : 0;
                                print_hit(seen, &info, error);
                                if (strcmp(mode, "kill") == 0) {
                                        kill(tracee, SIGKILL);
                                        return 0;
                                }
                                if (strcmp(mode, "hold") == 0)
                                        wait_for_input_end();
                                if (error != 0)
                                        fail_call((long)info.entry.nr, error);
                                ptrace(PTRACE_DETACH, tracee, 0, 0);
                                return 0;
                        }
                } else if (WIFSTOPPED(status) && status >> 16 == 0)
                        deliver = WSTOPSIG(status); /* a signal of its own */
                else if (!WIFSTOPPED(status))
                        break;
                if (ptrace(PTRACE_SYSCALL, tracee, 0, deliver) < 0 && errno != ESRCH)
                        die("PTRACE_SYSCALL");
                if (!wait_for_stop(signals, &status)) {
                        ptrace(PTRACE_INTERRUPT, tracee, 0, 0);
                        let_go(signals);
                        break;
                }
        }
        printf("short %ld\n", seen);
        return 0;
}
