/* How the daemon is found.
 *
 *   1. --address or $DEBMARSHAL_ADDRESS: there, or nowhere.
 *   2. /run/debmarshal/bus, the system's daemon, if there is one and it is for us (skipped with --session). That it
 *      cannot be reached for another reason is an error: what is made in the other scope is not what was asked for.
 *   3. DIR/bus, the caller's own daemon (skipped with --system), where DIR is $XDG_RUNTIME_DIR/debmarshal, or without
 *      an XDG_RUNTIME_DIR of ours /tmp/debmarshal-UID.
 *   4. Start it: debmarshald --scope=session --daemonize returns when its daemon is ready, and 3 again.
 *
 * When two callers come to step 4 at once, one of the two daemons gives way to the other; so what counts is whether
 * step 3 works afterwards, and the exit status only decides which error is told. Sockets are connected by their
 * directory's descriptor: a long path is no obstacle, and the directory that was checked is the one that is used. In
 * /tmp anybody could have made it, hence the check, and the peer must be us or root. */
#include "cli/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define SYSTEM_DIRECTORY   "/run/debmarshal"
#define SOCKET_NAME        "bus"
#define START_TIMEOUT_MSEC 60000
#define START_ERROR_MAX    65536
#define BUSY_USEC          (5 * USEC_PER_SEC) /* so long a full queue of connections is waited for */
#define BUSY_PAUSE_USEC    (20 * USEC_PER_MSEC)

extern char **environ;

static void bus_drop(sd_bus **bus) {
        *bus = sd_bus_flush_close_unref(*bus);
}

static char *session_directory(void) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        struct stat st;

        if (runtime && *runtime == '/' && stat(runtime, &st) == 0 && st.st_uid == geteuid())
                return string_printf("%s/debmarshal", runtime);
        return string_printf("/tmp/debmarshal-%u", (unsigned)geteuid());
}

/* The directory must be somebody's whom we trust, and only theirs to write. */
static int open_directory(const char *path, uid_t owner, int *ret_fd, Error *e) {
        AUTO(fd_drop) int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_uid != owner || (st.st_mode & 022))
                return error_set(e, ERROR_ACCESS_DENIED,
                                 "%s belongs to uid %u with mode %03o: it must be uid %u's, writable by nobody else",
                                 path, (unsigned)st.st_uid, (unsigned)st.st_mode & 0777, (unsigned)owner);
        *ret_fd = fd_take(&fd);
        return 0;
}

/* A full queue empties as soon as the daemon comes to it; nothing tells when. */
static int connect_patiently(int dir_fd, const char *name, int *ret_fd) {
        uint64_t end = now_monotonic_usec() + BUSY_USEC;
        int r;

        while ((r = unix_connect(dir_fd, name, ret_fd)) == -EAGAIN && now_monotonic_usec() < end)
                usleep(BUSY_PAUSE_USEC);
        return r;
}

/* A connected socket to path/bus. A plain -errno without Error: nobody answers there. */
static int connect_directory(const char *path, uid_t owner, int *ret_fd, Error *e) {
        AUTO(fd_drop) int dir = -1, fd = -1;
        struct ucred peer;
        socklen_t length = sizeof peer;

        int r = open_directory(path, owner, &dir, e);
        if (r < 0)
                return r;
        r = connect_patiently(dir, SOCKET_NAME, &fd);
        if (r < 0)
                return r;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
                return -errno;
        if (peer.uid != owner)
                return error_set(e, ERROR_ACCESS_DENIED, "%s/" SOCKET_NAME " is served by uid %u, not by uid %u", path,
                                 (unsigned)peer.uid, (unsigned)owner);
        *ret_fd = fd_take(&fd);
        return 0;
}

/* Begin to speak D-Bus with a peer, over fd (taken) or else to address. */
static int start_bus(Cli *cli, int *fd, const char *address, Error *e) {
        AUTO(bus_drop) sd_bus *bus = NULL;

        int r = sd_bus_new(&bus);
        if (r >= 0)
                r = address ? sd_bus_set_address(bus, address) : sd_bus_set_fd(bus, *fd, *fd);
        if (r >= 0 && !address)
                fd_take(fd);
        if (r >= 0)
                r = sd_bus_negotiate_fds(bus, true);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, false);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                return error_set_errno(e, r, "cannot connect to the daemon%s%s", address ? " at " : "",
                                       string_or(address, ""));
        cli->bus = TAKE(bus);
        return 0;
}

static int connect_address(Cli *cli, const char *address, Error *e) {
        AUTO(fd_drop) int fd = -1;

        if (*address != '/')
                return start_bus(cli, NULL, address, e);
        int r = connect_patiently(AT_FDCWD, address, &fd);
        if (r < 0)
                return error_set_errno(e, r, "cannot connect to the daemon at %s", address);
        return start_bus(cli, &fd, NULL, e);
}

/* Beside this program (a build directory), else where it was installed, else along PATH. */
static char *find_daemon(void) {
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

        if (n > 0) {
                self[n] = '\0';
                AUTO(string_drop)
                char *beside = string_printf("%.*s/debmarshald", (int)(strrchr(self, '/') - self), self);
                if (beside && access(beside, X_OK) == 0)
                        return TAKE(beside);
        }
        return string_printf("%s", access(SBINDIR "/debmarshald", X_OK) == 0 ? SBINDIR "/debmarshald" : "debmarshald");
}

/* Start it with standard error in a file, which unlike a pipe needs no reader once the daemon is on its own. */
static int spawn_daemon(const char *program, int errors, pid_t *ret_pid) {
        static const char *const argv[] = { "debmarshald", "--scope=session", "--daemonize", NULL };
        posix_spawn_file_actions_t actions;

        int r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
        if (r == 0) /* whoever waits for the end of a pipe of ours must not wait for the daemon's */
                r = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
        if (r == 0)
                r = posix_spawnp(ret_pid, program, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

/* Wait for the starting process to end: 0 when it says that the daemon is ready. */
static int await_start(pid_t pid, Error *e) {
        AUTO(fd_drop) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        int status, n;

        if (pidfd < 0)
                return error_set_errno(e, errno, "cannot watch debmarshald");
        do
                n = poll(&p, 1, START_TIMEOUT_MSEC);
        while (n < 0 && errno == EINTR);
        if (n == 0) {
                kill(pid, SIGTERM);
                return error_set(e, ERROR_TIMEOUT, "debmarshald was not ready within %d s", START_TIMEOUT_MSEC / 1000);
        }
        if (waitpid(pid, &status, 0) < 0)
                return error_set_errno(e, errno, "cannot wait for debmarshald");
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

/* Its last words without the line end. */
static char *read_errors(int fd) {
        AUTO(string_drop) char *text = NULL;
        size_t n;

        if (lseek(fd, 0, SEEK_SET) < 0 || fd_read_all(fd, START_ERROR_MAX, &text, &n) < 0)
                return NULL;
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
                text[--n] = '\0';
        return TAKE(text);
}

static int start_daemon(Error *e) {
        AUTO(string_drop) char *program = find_daemon(), *errors = NULL;
        AUTO(fd_drop) int fd = -1;
        pid_t pid = -1;

        if (!program)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        int r = fd_memfd("debmarshald-errors", "", 0, false, &fd);
        if (r < 0)
                return error_set_errno(e, r, "cannot prepare to start debmarshald");
        r = spawn_daemon(program, fd, &pid);
        if (r < 0)
                return error_set_errno(e, r, "no daemon runs, and cannot start %s", program);
        r = await_start(pid, e);
        if (r == 0 || error_is_set(e))
                return r;
        errors = read_errors(fd);
        return error_set(e, ERROR_INTERNAL, "cannot start your daemon: %s",
                         string_or(errors, "debmarshald ended without a word"));
}

static int connect_system(Cli *cli, Error *e) {
        AUTO(fd_drop) int fd = -1;

        int r = connect_directory(SYSTEM_DIRECTORY, 0, &fd, e);
        if (r < 0)
                return r;
        return start_bus(cli, &fd, NULL, e);
}

static int connect_session(Cli *cli, bool may_start, Error *e) {
        AUTO(string_drop) char *directory = session_directory();
        AUTO(error_clear) Error start = ERROR_INIT;
        AUTO(fd_drop) int fd = -1;

        if (!directory)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        int r = connect_directory(directory, geteuid(), &fd, e);
        if (r < 0 && r != -EAGAIN && !error_is_set(e) && may_start) {
                start_daemon(&start);
                r = connect_directory(directory, geteuid(), &fd, e);
        }
        if (r < 0 && error_is_set(&start))
                return error_move(e, &start);
        if (r < 0)
                return error_set_errno(e, r, "no daemon answers at %s/" SOCKET_NAME, directory);
        return start_bus(cli, &fd, NULL, e);
}

/* No daemon, or none that serves us. */
static bool is_absent(int r) {
        return r == -ENOENT || r == -ENOTDIR || r == -ECONNREFUSED || r == -EACCES || r == -EPERM;
}

static int connect_somewhere(Cli *cli, bool may_start, Error *e) {
        AUTO(error_clear) Error system = ERROR_INIT;
        const char *address = cli->address ? cli->address : getenv("DEBMARSHAL_ADDRESS");

        if (cli->address || (address && *address && !cli->system && !cli->session))
                return connect_address(cli, address, e);
        if (!cli->session) {
                int r = connect_system(cli, &system);
                if (r == 0)
                        return 0;
                if ((cli->system || !is_absent(r)) && error_is_set(&system))
                        return error_move(e, &system);
                if (!is_absent(r))
                        return error_set_errno(
                                e, r, "cannot connect to the system daemon at " SYSTEM_DIRECTORY "/" SOCKET_NAME);
                if (cli->system)
                        return error_set_errno(e, r,
                                               "no system daemon answers at " SYSTEM_DIRECTORY "/" SOCKET_NAME
                                               " (systemctl start debmarshald starts it)");
        }
        return connect_session(cli, may_start, e);
}

int daemon_connect(Cli *cli, Error *e) {
        return connect_somewhere(cli, true, e);
}

int daemon_connect_running(Cli *cli, Error *e) {
        return connect_somewhere(cli, false, e);
}
