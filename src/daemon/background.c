#include "daemon/background.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

/* Only a byte says ready: a daemon that dies closes the pipe as well. */
static int await(pid_t pid, int pipe_fd) {
        char byte;
        ssize_t n;

        do
                n = read(pipe_fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
                return 0;

        int status;
        pid_t waited;
        do
                waited = waitpid(pid, &status, 0);
        while (waited < 0 && errno == EINTR);
        /* An orderly end without being ready: another daemon serves there already. */
        return waited == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

int background_fork(BackgroundRole *ret_role, int *ret_pipe, int *ret_status, Error *e) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return error_set_errno(e, errno, "Failed to make a pipe");
        AUTO(fd_drop) int reading = ends[0];
        AUTO(fd_drop) int writing = ends[1];
        pid_t pid = fork();
        if (pid < 0)
                return error_set_errno(e, errno, "Failed to go into the background");
        if (pid > 0) {
                fd_drop(&writing);
                *ret_role = BACKGROUND_PARENT;
                *ret_status = await(pid, reading);
                return 0;
        }
        setsid();
        *ret_role = BACKGROUND_DAEMON;
        *ret_pipe = fd_take(&writing);
        return 0;
}

void background_ready(int *pipe_fd, int log_fd) {
        AUTO(fd_drop) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null >= 0) {
                dup2(null, STDIN_FILENO);
                dup2(null, STDOUT_FILENO);
        }
        if (log_fd >= 0)
                dup2(log_fd, STDERR_FILENO);
        else if (null >= 0)
                dup2(null, STDERR_FILENO);
        if (write(*pipe_fd, "", 1) != 1)
                log_debug("Whoever started the daemon has not waited for it");
        fd_drop(pipe_fd);
}
