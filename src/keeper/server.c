/* dnsmasq under the eyes of the init of its PID namespace.
 *
 *   keeper --fork, exec--> launcher --fork--> (in between) --fork--> server
 *
 * The launcher reads its configuration from standard input, once it has loaded: that takes most of the time of a start,
 * and is why the configuration comes through a pipe, when the network is built. It exits with 0 once the server has
 * bound its sockets and answers: that is its readiness, which needs no probing and no sleeping. When it fails it says
 * why on standard error and exits with another status. What is in between exits too, so that the server's new parent is
 * the init: us. Its pid nobody tells us; but the numbers of a PID namespace are given out in order, and which of those
 * after the launcher's is a child of ours waitid() knows. Should the one in between be slow to go, it is mistaken for
 * the server until it is reaped; then the search is made again.
 *
 * The server is started again at once when it ends, but not more often than five times in a minute: then we end too,
 * and with us the namespaces; a network that answers no DHCP had better be seen to have failed. */
#include "keeper/keeper.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time-util.h"

#define RESTARTS_USEC (60 * USEC_PER_SEC)
/* How far behind the launcher's number the server's may be: 2, and some for others who fork just then. */
#define SEARCH_RANGE 8

static _Noreturn void launcher_exec(const Server *s, int input_fd, int words_fd) {
        static const char *const argv[] = { "dnsmasq", "--conf-file=-", NULL };
        static const char *const envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", NULL };
        const char *step = "set up its descriptors";

        if (dup2(input_fd, 0) == 0 && dup2(words_fd, 2) == 2) {
                step = "confine";
                errno = -confine_files(s->program);
                if (errno == 0) {
                        step = "execute";
                        execve(s->program, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)envp);
                }
        }
        dprintf(words_fd, "cannot %s %s: %s", step, s->program, strerror(errno));
        _exit(127);
}

int server_launch(Server *s) {
        int input[2], words[2];
        if (pipe2(input, O_CLOEXEC) < 0)
                return -errno;
        AUTO(fd_drop) int input_read = input[0], input_write = input[1];
        if (pipe2(words, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        AUTO(fd_drop) int words_read = words[0], words_write = words[1];

        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                launcher_exec(s, input_read, words_write);

        fd_drop(&s->input_fd);
        fd_drop(&s->words_fd);
        s->input_fd = fd_take(&input_write);
        s->words_fd = fd_take(&words_read);
        s->launcher = s->search_from = pid;
        s->pid = 0;
        return 0;
}

/* A launcher that is dead already is noticed when it is reaped, not here. */
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

/* The first of the numbers behind the launcher's that is a live child of ours; 0: none. */
static pid_t find_server(const Server *s) {
        for (pid_t pid = s->search_from + 1; pid <= s->search_from + SEARCH_RANGE; pid++) {
                siginfo_t info = { 0 };
                if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0)
                        return pid;
        }
        return 0;
}

/* What the launcher said, on one line without what surrounds it. */
static void read_words(Server *s, char words[SERVER_WORDS_MAX], int status) {
        ssize_t n = read(s->words_fd, words, SERVER_WORDS_MAX - 1);
        size_t end = n > 0 ? (size_t)n : 0, begin = 0;

        while (end > 0 && isspace((unsigned char)words[end - 1]))
                end--;
        while (begin < end && isspace((unsigned char)words[begin]))
                begin++;
        for (size_t i = begin; i < end; i++)
                if (words[i] == '\n')
                        words[i] = ' ';
        memmove(words, words + begin, end - begin);
        words[end - begin] = '\0';
        if (end == begin)
                snprintf(words, SERVER_WORDS_MAX, "%s ended with status %#x and said nothing", s->program, status);
}

/* What a launcher leaves that did not end as it should: the next server could not bind what this one has bound. Each
 * that ends leaves its own child to us. */
static void end_rest(const Server *s) {
        pid_t pid;

        while ((pid = find_server(s)) > 0) {
                (void)kill(pid, SIGKILL);
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
}

/* One child has ended. Returns whether the server is on its way or running. */
static bool server_reaped(Server *s, pid_t pid, int status) {
        if (pid == s->launcher) {
                s->launcher = 0;
                if (status != 0)
                        end_rest(s);
                s->pid = status == 0 ? find_server(s) : 0;
        } else if (pid == s->pid) {
                s->pid = find_server(s);
        }
        return s->launcher != 0 || s->pid != 0;
}

int server_start(Server *s, char words[SERVER_WORDS_MAX]) {
        int r = feed(s);
        if (r < 0) {
                snprintf(words, SERVER_WORDS_MAX, "cannot configure %s: %s", s->program, strerror(-r));
                return r;
        }

        int status;
        pid_t pid;
        do {
                pid = waitpid(-1, &status, 0);
                if (pid > 0 && !server_reaped(s, pid, status)) {
                        read_words(s, words, status);
                        return -EIO;
                }
        } while ((pid < 0 && errno == EINTR) || s->launcher != 0);
        fd_drop(&s->words_fd);
        return 0;
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

void server_supervise(Server *s) {
        for (;;) {
                int status;
                pid_t pid = waitpid(-1, &status, 0);
                if (pid < 0 && errno == EINTR)
                        continue;
                bool alive = pid > 0 && server_reaped(s, pid, status);
                if (alive && s->launcher == 0)
                        fd_drop(&s->words_fd);
                if (!alive && (!restart_allowed(s) || server_launch(s) < 0 || feed(s) < 0))
                        return;
        }
}
