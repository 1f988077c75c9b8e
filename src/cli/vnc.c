/* domain vnc: a local TCP port in front of the domain's VNC stream, for viewers that know nothing else.
 *
 * The domain's own socket is private to its owner; a TCP port is everybody's on this host. So the listener stands on
 * the loopback only, and a client is served only if the kernel says that its socket belongs to our uid or to root
 * (/proc/net/tcp has the uid of every socket). One client after another is served, each with a new stream. One more
 * stream is held and never spoken to: its end is the domain's. */
#include "cli/vnc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/objects.h"
#include "cli/relay.h"
#include "cli/stream.h"
#include "cli/verbs.h"

/* So long may the emulator take to close the stream of a viewer that has gone: one that hangs never does. */
#define VIEWER_GONE_USEC (2 * USEC_PER_SEC)

int loopback_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_length) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
        const char *colon = strrchr(text, ':');
        char host[64] = "127.0.0.1";
        uint64_t port;

        if (colon)
                snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
        if (parse_u64(colon ? colon + 1 : text, 65535, &port) < 0)
                return -EINVAL;
        memset(ret, 0, sizeof *ret);
        if (string_equal(host, "[::1]")) {
                *v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
                                             .sin6_port = htons((uint16_t)port),
                                             .sin6_addr = IN6ADDR_LOOPBACK_INIT };
                *ret_length = sizeof *v6;
                return 0;
        }
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *ret_length = sizeof *v4;
        if (string_equal(host, "localhost"))
                strcpy(host, "127.0.0.1");
        if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
                return -EINVAL;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127 ? 0 : -EPERM;
}

int address_format(int socket, char **ret) {
        struct sockaddr_storage address = { 0 };
        socklen_t length = sizeof address;
        char host[INET6_ADDRSTRLEN] = "", port[8] = "";

        if (getsockname(socket, (struct sockaddr *)&address, &length) < 0)
                return -errno;
        if (getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port, sizeof port,
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                return -EAFNOSUPPORT;
        *ret = strchr(host, ':') ? string_printf("[%s]:%s", host, port) : string_printf("%s:%s", host, port);
        return *ret ? 0 : -ENOMEM;
}

static int open_listener(const char *text, int *ret_fd, Error *e) {
        AUTO(fd_drop) int fd = -1;
        struct sockaddr_storage address = { 0 };
        socklen_t length = 0;
        int one = 1;

        int r = loopback_parse(text, &address, &length);
        if (r == -EPERM)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "%s is not on the loopback: whoever reaches the port would own the screen", text);
        if (r < 0)
                return error_set(e, ERROR_INVALID_INPUT, "no address: %s (127.0.0.1:5901 is one)", text);
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
            bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 4) < 0)
                return error_set_errno(e, errno, "cannot listen on %s", text);
        *ret_fd = fd_take(&fd);
        return 0;
}

/* An address as /proc/net/tcp and tcp6 write it: 32-bit words of the host's byte order in hexadecimal. */
static void proc_address(const struct sockaddr_storage *address, char *buffer, size_t size) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        const uint32_t *words = (const uint32_t *)(const void *)&v6->sin6_addr;

        if (address->ss_family == AF_INET)
                snprintf(buffer, size, "%08X:%04X", v4->sin_addr.s_addr, ntohs(v4->sin_port));
        else
                snprintf(buffer, size, "%08X%08X%08X%08X:%04X", words[0], words[1], words[2], words[3],
                         ntohs(v6->sin6_port));
}

/* Whose socket is at the other end? -ENOENT when the table does not have it, or it is not connected any more: one that
 * its owner has closed stays there for a while, as root's. */
static int peer_uid(int fd, uid_t *ret) {
        struct sockaddr_storage local = { 0 }, remote = { 0 };
        socklen_t local_length = sizeof local, remote_length = sizeof remote;
        char ours[64], theirs[64], line[512];
        int r = -ENOENT;

        if (getsockname(fd, (struct sockaddr *)&local, &local_length) < 0 ||
            getpeername(fd, (struct sockaddr *)&remote, &remote_length) < 0)
                return -errno;
        proc_address(&local, ours, sizeof ours);
        proc_address(&remote, theirs, sizeof theirs);
        FILE *table = fopen(local.ss_family == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", "re");
        if (!table)
                return -errno;
        while (r == -ENOENT && fgets(line, sizeof line, table)) {
                char from[64], to[64];
                unsigned state, uid;

                /* slot, local, remote, state, queues, timer, retransmissions, uid: seen from the client's end. */
                if (sscanf(line, " %*s %63s %63s %x %*s %*s %*s %u", from, to, &state, &uid) == 4 &&
                    string_equal(from, theirs) && string_equal(to, ours) && state == TCP_ESTABLISHED) {
                        *ret = uid;
                        r = 0;
                }
        }
        fclose(table);
        return r;
}

static bool may_watch(int client) {
        uid_t uid = (uid_t)-1, later;

        /* The kernel looks at the owner after the state: between them the socket was not closed if it is connected even
         * now. */
        if (peer_uid(client, &uid) == 0 && (uid == getuid() || uid == 0) && peer_uid(client, &later) == 0)
                return true;
        say("refused a client that is not ours");
        return false;
}

/* Serve one client; an error that is the client's alone is told and forgotten. */
static int serve_client(Cli *cli, const char *path, int client, Error *e) {
        AUTO(error_clear) Error lost = ERROR_INIT;
        AUTO(fd_drop) int stream = -1;

        if (!may_watch(client))
                return 0;
        int r = call_for_fd(cli, path, DOMAIN_INTERFACE, "OpenVnc", &stream, e);
        if (r < 0)
                return r;
        Relay relay = { .in = client,
                        .out = client,
                        .socket = stream,
                        .half_close = true,
                        .signal_fd = -1,
                        .linger_usec = VIEWER_GONE_USEC };
        if (relay_run(&relay, &lost) < 0)
                say("lost a client: %s", error_text(&lost));
        return 0;
}

/* Until the viewer (a pidfd; -1: none) ends, or the domain does, whose end shows on witness. */
static int serve(Cli *cli, const char *path, int listener, int viewer, int witness, Error *e) {
        struct pollfd p[] = {
                { .fd = listener, .events = POLLIN },
                { .fd = viewer, .events = POLLIN },
                { .fd = witness, .events = POLLRDHUP },
        };

        for (;;) {
                AUTO(fd_drop) int client = -1;

                if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
                        return error_set_errno(e, errno, "cannot wait for viewers");
                if (p[1].revents || p[2].revents)
                        return 0;
                if (!p[0].revents)
                        continue;
                client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                int r = client < 0 ? 0 : serve_client(cli, path, client, e);
                if (r < 0)
                        return r;
        }
}

/* The viewer is a shell's word list, so that it may have options; the address is appended as TigerVNC and most others
 * want it. */
static int start_viewer(const char *viewer, int listener, pid_t *ret_pid, int *ret_pidfd, Error *e) {
        AUTO(string_drop) char *address = NULL, *command = NULL;

        if (address_format(listener, &address) < 0 || !address)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        char *colon = strrchr(address, ':');
        if (colon)
                *colon = '\0';
        command = string_printf("exec %s '%s::%s'", viewer, address, colon ? colon + 1 : "");
        if (!command)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        pid_t pid = fork();
        if (pid < 0)
                return error_set_errno(e, errno, "cannot start %s", viewer);
        if (pid == 0) {
                signal(SIGPIPE, SIG_DFL);
                execl("/bin/sh", "sh", "-c", command, (char *)NULL);
                _exit(127);
        }
        *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        *ret_pid = pid;
        return *ret_pidfd < 0 ? error_set_errno(e, errno, "cannot watch %s", viewer) : 0;
}

static int viewer_status(pid_t pid) {
        int status;

        if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
                return STATUS_FAILED;
        return WEXITSTATUS(status);
}

/* The first stream is asked for before anybody is sent there: a domain without a screen is an error at once. */
static int prepare(Cli *cli, const char *name, char **ret_path, int *ret_witness, Error *e) {
        int r = daemon_connect(cli, e);

        if (r >= 0)
                r = domain_path(cli, name, ret_path, e);
        return r < 0 ? r : call_for_fd(cli, *ret_path, DOMAIN_INTERFACE, "OpenVnc", ret_witness, e);
}

int verb_domain_vnc(Cli *cli, int argc, char **argv) {
        AUTO(string_drop) char *path = NULL, *address = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(fd_drop) int listener = -1, viewer_fd = -1, witness = -1;
        const char *listen_on = NULL, *viewer = NULL;
        const Option options[] = {
                { "listen", 'l', "127.0.0.1:PORT", "listen there; by default on any free port", .text = &listen_on },
                { "exec", 'x', "VIEWER", "run this viewer, and end with it", .text = &viewer },
                { 0 },
        };
        pid_t pid = 0;
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        signal(SIGPIPE, SIG_IGN);
        if (prepare(cli, args.items[0], &path, &witness, &e) < 0 ||
            open_listener(string_or(listen_on, "127.0.0.1:0"), &listener, &e) < 0 ||
            (viewer && start_viewer(viewer, listener, &pid, &viewer_fd, &e) < 0))
                return verb_fail(&e);
        if (!viewer && address_format(listener, &address) == 0) {
                puts(address);
                fflush(stdout);
        }
        if (serve(cli, path, listener, viewer_fd, witness, &e) < 0)
                return verb_fail(&e);
        if (viewer)
                return viewer_status(pid);
        say("%s has ended", args.items[0]);
        return STATUS_DONE;
}
