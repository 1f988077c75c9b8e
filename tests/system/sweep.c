/* Stops at the N-th system call that a running process begins, counted from when this program says "ready":
 *
 *   sweep PID count                 count them until standard input ends; print the number
 *   sweep PID kill N                SIGKILL at the N-th, before it is done
 *   sweep PID fail N ERRNO          let the N-th fail with that errno, undone; then let the process go
 *
 * Prints "ready", and at the end one line "N NAME-NUMBER" with the number of the system call, or "short COUNT" when
 * standard input ended before the N-th. Only the process itself is traced, none of its children. It is the tool of the
 * suites that kill the daemon everywhere. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
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

/* At the entry of the call: let the kernel run none in its place, and give the errno at its exit. */
static void fail_call(int signals, int error) {
        struct user_regs_struct regs = get_registers();
        int status;

        regs.orig_rax = (unsigned long)-1;
        set_registers(&regs);
        if (ptrace(PTRACE_SYSCALL, tracee, 0, 0) < 0)
                die("PTRACE_SYSCALL");
        if (!wait_for_stop(signals, &status) || !WIFSTOPPED(status))
                return;
        regs = get_registers();
        regs.rax = (unsigned long)-(long)error;
        set_registers(&regs);
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
        int error = argc > 4 ? atoi(argv[4]) : EIO, status;
        sigset_t mask;

        if (argc < 3 || (tracee = atoi(argv[1])) <= 0) {
                fprintf(stderr, "usage: sweep PID count | kill N | fail N ERRNO\n");
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
                                printf("%ld %llu\n", seen, (unsigned long long)info.entry.nr);
                                fflush(stdout);
                                if (strcmp(mode, "kill") == 0) {
                                        kill(tracee, SIGKILL);
                                        return 0;
                                }
                                fail_call(signals, error);
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
        printf(strcmp(mode, "count") == 0 ? "%ld\n" : "short %ld\n", seen);
        return 0;
}
