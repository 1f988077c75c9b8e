/* network shell, exec, capture: what the owner of a network may do in it without privilege on the host. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/inside.h"
#include "cli/objects.h"
#include "cli/relay.h"
#include "cli/verbs.h"

static int open_namespaces(Cli *cli, const char *path, int *ret_user, int *ret_net, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(fd_drop) int user = -1;

        int r = call(cli, path, NETWORK_INTERFACE, "OpenNamespaces", &reply, e, NULL);
        if (r >= 0)
                r = message_read_fd(reply, &user, e);
        if (r >= 0)
                r = message_read_fd(reply, ret_net, e);
        if (r >= 0)
                *ret_user = fd_take(&user);
        return r;
}

static int enter(Cli *cli, const char *name, Error *e) {
        AUTO(string_drop) char *path = NULL;
        AUTO(json_drop) json_t *network = NULL;
        AUTO(fd_drop) int user_ns = -1, net_ns = -1;

        int r = daemon_connect(cli, e);
        if (r >= 0)
                r = network_path(cli, name, &path, e);
        if (r >= 0)
                r = object_load(cli, OBJECT_NETWORK, path, &network, e);
        if (r >= 0)
                r = open_namespaces(cli, path, &user_ns, &net_ns, e);
        cli->bus = sd_bus_flush_close_unref(cli->bus);
        if (r >= 0)
                r = inside_enter(user_ns, net_ns, value_text(network, "gateway"), value_text(network, "dns_domain"), e);
        return r;
}

/* Only ever returns with an error. The statuses are the shell's: 127 not found, 126 not executable. */
static int become(const char *network, char *const *argv) {
        setenv("DEBMARSHAL_NETWORK", network, 1);
        execvp(argv[0], argv);
        int status = errno == ENOENT ? 127 : 126;
        say("cannot run %s: %s", argv[0], strerror(errno));
        return status;
}

int verb_network_exec(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (enter(cli, args.items[0], &e) < 0)
                return verb_fail(&e);
        return become(args.items[0], args.items + 1);
}

int verb_network_shell(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(string_drop) char *prompt = NULL, *shell = NULL;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (enter(cli, args.items[0], &e) < 0)
                return verb_fail(&e);

        shell = string_printf("%s", string_or(getenv("SHELL"), "/bin/sh"));
        prompt = string_printf("[%s] # ", args.items[0]);
        if (!shell || !prompt)
                return STATUS_FAILED;
        setenv("PS1", prompt, 1);                  /* for a plain sh */
        setenv("debian_chroot", args.items[0], 1); /* Debian's bash shows it in its own prompt */
        if (isatty(STDERR_FILENO))
                say("you are root inside %s, and nowhere else; 'exit' leaves", args.items[0]);
        return become(args.items[0], (char *[]){ shell, NULL });
}

/* The file, else standard output. */
static int open_output(const char *file, int *ret_fd, Error *e) {
        *ret_fd = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
                       : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        return *ret_fd < 0 ? error_set_errno(e, errno, "cannot write %s", string_or(file, "standard output")) : 0;
}

static int start_capture(Cli *cli, const char *name, const char *device, int *ret_fd, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(string_drop) char *path = NULL;

        int r = daemon_connect(cli, e);
        if (r >= 0)
                r = network_path(cli, name, &path, e);
        if (r >= 0)
                r = call(cli, path, NETWORK_INTERFACE, "Capture", &reply, e, "s", string_or(device, ""));
        return r < 0 ? r : message_read_fd(reply, ret_fd, e);
}

static int interrupted_fd;

/* Nothing is waited for any more: neither by a read that is going on nor, wherever this came, by the next. */
static void on_interrupt(int signal) {
        int saved = errno;

        (void)signal;
        (void)fcntl(interrupted_fd, F_SETFL, O_NONBLOCK);
        errno = saved;
}

/* Ctrl-C is how a capture ends, and no failure: what is in the pipe then is still written, so that the last packet is
 * whole. A second one ends even that. */
static int copy_until_interrupt(int from, int to, Error *e) {
        struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };
        char buffer[65536];

        interrupted_fd = from;
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        for (;;) {
                ssize_t n = read(from, buffer, sizeof buffer);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n == 0 || (n < 0 && errno == EAGAIN))
                        return 0;
                if (n < 0)
                        return error_set_errno(e, errno, "cannot read the capture");
                int r = fd_write_all(to, buffer, (size_t)n);
                if (r < 0)
                        return error_set_errno(e, r, "cannot write the capture");
        }
}

int verb_network_capture(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(fd_drop) int from = -1, to = -1;
        const char *device = NULL, *file = NULL;
        const Option options[] = {
                { "device", 'd', "DEVICE", "only this device inside the network, not the whole network",
                  .text = &device },
                { "write", 'w', "FILE", "write to this file, not to standard output", .text = &file },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (string_equal(file, "-"))
                file = NULL;
        if (!file && isatty(STDOUT_FILENO)) {
                error_set(&e, ERROR_INVALID_INPUT,
                          "not writing packets to a terminal: give -w FILE, or pipe into 'tcpdump -r -'");
                return verb_fail(&e);
        }
        /* A file that is there is emptied only when there is something to be put into it. */
        if (start_capture(cli, args.items[0], device, &from, &e) < 0 || open_output(file, &to, &e) < 0)
                return verb_fail(&e);
        if (isatty(STDERR_FILENO))
                say("capturing on %s; Ctrl-C ends it", args.items[0]);
        return copy_until_interrupt(from, to, &e) < 0 ? verb_fail(&e) : STATUS_DONE;
}
