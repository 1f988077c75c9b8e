/* dnsmasq under the eyes of the init of its PID namespace, of which it is a child and stays one.
 *
 * It waits for its configuration, which comes through a pipe when the network is built. Its log is a pipe as well. That
 * it has started it says there when its sockets are bound, which needs no probing and no sleeping; when it fails, the
 * log ends with the reason. What it says later is read and forgotten: were nobody to read, it would write to the host's
 * log instead.
 *
 * The server is started again at once when it ends, but not more often than five times in a minute: then we end too,
 * and with us the namespaces; a network that answers no DHCP had better be seen to have failed. */
#include "keeper/keeper.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time-util.h"
#include "net/server.h"

#define RESTARTS_USEC (60 * USEC_PER_SEC)
/* Said by dnsmasq's main(), with the version and the size of the cache behind it. */
#define READY_WORDS ": started, version "

static int server_launch(Server *s) {
        int input[2], log[2];
        if (pipe2(input, O_CLOEXEC) < 0)
                return -errno;
        AUTO(fd_drop) int input_read = input[0], input_write = input[1];
        if (pipe2(log, O_CLOEXEC) < 0)
                return -errno;
        AUTO(fd_drop) int log_read = log[0], log_write = log[1];

        s->pid = server_fork(s->program, input_read, log_write);
        if (s->pid < 0)
                return (int)s->pid;

        fd_drop(&s->input_fd);
        fd_drop(&s->log_fd);
        s->input_fd = fd_take(&input_write);
        s->log_fd = fd_take(&log_read);
        return 0;
}

/* A server that is dead already is noticed when it is reaped, not here. */
static int feed(Server *s) {
        off_t at = 0;
        ssize_t n;
        do
                n = sendfile(s->input_fd, s->config_fd, &at, 1 << 20);
        while (n > 0 || (n < 0 && errno == EINTR));
        int r = n < 0 && errno != EPIPE ? -errno : 0;
        fd_drop(&s->input_fd);
        return r;
}

/* Returns whether it is ready; otherwise it has ended, and words holds the last of what it said. */
static bool read_until_ready(Server *s, char words[SERVER_WORDS_MAX]) {
        size_t filled = 0;
        for (;;) {
                if (filled == SERVER_WORDS_MAX - 1) {
                        filled /= 2;
                        memmove(words, words + SERVER_WORDS_MAX - 1 - filled, filled);
                }
                ssize_t n = read(s->log_fd, words + filled, SERVER_WORDS_MAX - 1 - filled);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                filled += (size_t)n;
                if (memmem(words, filled, READY_WORDS, strlen(READY_WORDS)))
                        return true;
        }
        words[filled] = '\0';
        return false;
}

/* On one line without what surrounds it. */
static void tidy_words(char words[SERVER_WORDS_MAX]) {
        size_t begin = 0, end = strlen(words);

        while (end > 0 && isspace((unsigned char)words[end - 1]))
                end--;
        while (begin < end && isspace((unsigned char)words[begin]))
                begin++;
        for (size_t i = begin; i < end; i++)
                if (words[i] == '\n')
                        words[i] = ' ';
        memmove(words, words + begin, end - begin);
        words[end - begin] = '\0';
}

int server_start(Server *s, char words[SERVER_WORDS_MAX]) {
        /* It may have waited for long, and have been killed meanwhile. Where it cannot live at all the next one says
         * why. */
        int r = waitpid(s->pid, NULL, WNOHANG) == s->pid ? server_launch(s) : 0;
        if (r >= 0)
                r = feed(s);
        if (r < 0) {
                snprintf(words, SERVER_WORDS_MAX, "cannot configure %s: %s", s->program, strerror(-r));
                return r;
        }
        if (read_until_ready(s, words))
                return 0;

        int status = 0;
        while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
                ;
        tidy_words(words);
        if (!*words)
                snprintf(words, SERVER_WORDS_MAX, "%s ended with status %#x and said nothing", s->program, status);
        return -EIO;
}

/* May it be started once more? Counts it. */
static bool restart_allowed(Server *s) {
        uint64_t now = now_monotonic_usec();
        uint64_t *oldest = &s->restarts[s->n_restarts % ARRAY_LEN(s->restarts)];
        if (s->n_restarts >= ARRAY_LEN(s->restarts) && now - *oldest < RESTARTS_USEC)
                return false;
        *oldest = now;
        s->n_restarts++;
        return true;
}

/* The log's end is for waitpid() to tell of. */
static void forget_log(Server *s) {
        char said[4096];
        ssize_t n = read(s->log_fd, said, sizeof said);
        if (n == 0)
                fd_drop(&s->log_fd);
}

/* Orphans too become children of ours: what the server forks for a TCP connection outlives it. Returns whether the
 * server is alive. */
static bool reap(const Server *s) {
        bool alive = true;
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
                alive = alive && pid != s->pid;
        return alive;
}

void server_supervise(Server *s) {
        sigset_t child_signal;
        sigemptyset(&child_signal);
        sigaddset(&child_signal, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child_signal, NULL);
        AUTO(fd_drop) int signal_fd = signalfd(-1, &child_signal, SFD_CLOEXEC);
        if (signal_fd < 0)
                return;

        for (;;) {
                /* The first time too: it may have died already, before the signal was blocked. */
                if (!reap(s) && (!restart_allowed(s) || server_launch(s) < 0 || feed(s) < 0))
                        return;

                struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN }, { .fd = s->log_fd, .events = POLLIN } };
                struct signalfd_siginfo info;
                if (poll(fds, ARRAY_LEN(fds), -1) < 0)
                        continue;
                if (fds[1].revents)
                        forget_log(s);
                if (fds[0].revents)
                        (void)!read(signal_fd, &info, sizeof info);
        }
}
