#include "net/server.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/capabilities.h"
#include "net/confine.h"

static _Noreturn void server_exec(const char *program, int input_fd, int log_fd) {
        static const char *const argv[] = { "dnsmasq", "--conf-file=-", NULL };
        static const char *const envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", NULL };
        const char *step = "set up the descriptors of";
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (dup2(input_fd, 0) == 0 && dup2(log_fd, 2) == 2) {
                step = "confine";
                int r = capabilities_keep(NETWORK_CAPABILITIES);
                if (r == 0)
                        r = confine_files(program);
                if (r == 0)
                        r = confine_calls();
                errno = -r;
                if (r == 0) {
                        step = "execute";
                        execve(program, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)envp);
                }
        }
        dprintf(log_fd, "cannot %s %s: %s", step, program, strerror(errno));
        _exit(127);
}

/* Not fork(), which would first take locks that another thread of the daemon's had when the caller was forked. */
pid_t server_fork(const char *program, int input_fd, int log_fd) {
        pid_t pid = _Fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                server_exec(program, input_fd, log_fd);
        return pid;
}
