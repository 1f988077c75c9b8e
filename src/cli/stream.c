/* connect, listen, ssh: TCP into a network and out of it. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/argv.h"
#include "base/fd.h"
#include "base/string-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/objects.h"
#include "cli/relay.h"
#include "cli/stream.h"
#include "cli/verbs.h"

static int parse_port(const char *text, uint64_t least, uint16_t *ret, Error *e) {
        uint64_t n;

        if (parse_u64(text, 65535, &n) < 0 || n < least)
                return error_set(e, ERROR_INVALID_INPUT, "no port: %s", text);
        *ret = (uint16_t)n;
        return 0;
}

static int open_connection(Cli *cli, const char *network, const char *host, const char *port_text, int *ret_fd,
                           Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(string_drop) char *path = NULL;
        uint16_t port = 0;

        int r = parse_port(port_text, 1, &port, e);
        if (r >= 0)
                r = daemon_connect(cli, e);
        if (r >= 0)
                r = network_path(cli, network, &path, e);
        if (r >= 0)
                r = call(cli, path, NETWORK_INTERFACE, "Connect", &reply, e, "sq", host, port);
        return r < 0 ? r : message_read_fd(reply, ret_fd, e);
}

static int relay_standard(int fd, Error *e) {
        Relay relay = { .in = STDIN_FILENO,
                        .out = STDOUT_FILENO,
                        .socket = fd,
                        .half_close = true,
                        .whole_input = true,
                        .signal_fd = -1 };

        signal(SIGPIPE, SIG_IGN);
        return relay_run(&relay, e);
}

/* What ssh's ProxyUseFdpass wants: one byte with the descriptor, over the socket that is our standard output. */
static int pass_descriptor(int fd, Error *e) {
        int r = fd_send(STDOUT_FILENO, "", 1, &fd, 1);

        return r < 0 ? error_set_errno(e, r, "cannot pass the connection on; is standard output a socket?") : 0;
}

int verb_connect(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(fd_drop) int fd = -1;
        bool fdpass = false;
        const Option options[] = {
                { "fdpass", 0, NULL, "hand the connected socket to ssh (ProxyUseFdpass)", .flag = &fdpass },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (open_connection(cli, args.items[0], args.items[1], args.items[2], &fd, &e) < 0 ||
            (fdpass ? pass_descriptor(fd, &e) : relay_standard(fd, &e)) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

static int open_listener(Cli *cli, const char *network, uint16_t port, int *ret_fd, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(string_drop) char *path = NULL;

        int r = daemon_connect(cli, e);
        if (r >= 0)
                r = network_path(cli, network, &path, e);
        if (r >= 0)
                r = call(cli, path, NETWORK_INTERFACE, "Listen", &reply, e, "q", port);
        return r < 0 ? r : message_read_fd(reply, ret_fd, e);
}

static int accept_one(int listener, int *ret_fd, Error *e) {
        struct pollfd p = { .fd = listener, .events = POLLIN };
        int fd;

        while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        return error_set_errno(e, errno, "cannot accept a connection");
                poll(&p, 1, -1);
        }
        *ret_fd = fd;
        return 0;
}

/* The port the kernel chose, for a script that asked for any. */
static void tell_port(int listener) {
        AUTO(string_drop) char *text = NULL;

        if (address_format(listener, &text) == 0)
                say("listening on %s", text);
}

int verb_listen(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(fd_drop) int listener = -1, fd = -1;
        uint16_t port = 0;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (parse_port(args.items[1], 0, &port, &e) < 0 || open_listener(cli, args.items[0], port, &listener, &e) < 0)
                return verb_fail(&e);
        tell_port(listener);
        if (accept_one(listener, &fd, &e) < 0)
                return verb_fail(&e);
        fd_drop(&listener);
        return relay_standard(fd, &e) < 0 ? verb_fail(&e) : STATUS_DONE;
}

/* Among the hosts of one network: by name, or by address. */
static bool knows_host(const json_t *hosts, const char *host) {
        for (size_t i = 0; i < json_array_size(hosts); i++) {
                const json_t *h = json_array_get(hosts, i);
                if (strcasecmp(value_text(h, "name"), host) == 0 || string_equal(value_text(h, "address"), host))
                        return true;
        }
        return false;
}

/* The one network of the caller's that has this host. */
static int network_of_host(Cli *cli, const char *host, char **ret, Error *e) {
        AUTO(json_drop) json_t *networks = NULL;
        AUTO(string_list_free) char **found = NULL;
        AUTO(string_drop) char *joined = NULL;

        int r = objects_load(cli, OBJECT_NETWORK, false, &networks, e);
        for (size_t i = 0; r >= 0 && i < json_array_size(networks); i++) {
                const char *name = value_text(json_array_get(networks, i), "name");
                AUTO(string_drop) char *path = NULL;
                AUTO(json_drop) json_t *hosts = NULL;

                r = network_path(cli, name, &path, e);
                if (r >= 0)
                        r = network_hosts(cli, path, &hosts, e);
                if (r >= 0 && knows_host(hosts, host) && string_list_append(&found, name) < 0)
                        return error_set(e, ERROR_INTERNAL, "out of memory");
        }
        if (r < 0)
                return r;
        if (!found)
                return error_set(e, ERROR_INVALID_INPUT, "none of your networks has a host %s", host);
        if (string_list_length(found) > 1) {
                joined = string_list_join(found, ", ");
                return error_set(e, ERROR_INVALID_INPUT, "several of your networks have a host %s: %s; say NETWORK/%s",
                                 host, string_or(joined, ""), host);
        }
        return string_replace(ret, found[0]) < 0 ? error_set(e, ERROR_INTERNAL, "out of memory") : 0;
}

int target_parse(const char *text, char **ret_user, char **ret_network, char **ret_host) {
        const char *at = strrchr(text, '@'), *rest = at ? at + 1 : text, *slash = strchr(rest, '/');
        AUTO(string_drop) char *user = at ? string_printf("%.*s", (int)(at - text), text) : NULL;
        AUTO(string_drop) char *network = slash ? string_printf("%.*s", (int)(slash - rest), rest) : NULL;
        AUTO(string_drop) char *host = string_printf("%s", slash ? slash + 1 : rest);

        if ((at && !user) || (slash && !network) || !host)
                return -ENOMEM;
        /* ssh takes a word with a hyphen first for an option. */
        if (!*host || *host == '-' || (at && (!*user || *user == '-')) || (slash && !*network))
                return -EINVAL;
        *ret_user = TAKE(user);
        *ret_network = TAKE(network);
        *ret_host = TAKE(host);
        return 0;
}

char *proxy_quote(const char *word) {
        size_t n = 0;
        char *quoted = NULL;

        /* At the worst each byte becomes the four of '\'' or the two of %%. */
        quoted = string_printf("%*s", (int)(4 * strlen(word) + 2), "");
        if (!quoted)
                return NULL;
        quoted[n++] = '\'';
        for (const char *s = word; *s; s++) {
                if (*s == '\'') {
                        memcpy(quoted + n, "'\\''", 4);
                        n += 4;
                        continue;
                }
                if (*s == '%')
                        quoted[n++] = '%';
                quoted[n++] = *s;
        }
        quoted[n++] = '\'';
        quoted[n] = '\0';
        return quoted;
}

/* "debmarshal connect --fdpass ..." for ssh to run by its shell, with the daemon that we were told to use. */
static char *proxy_command(const Cli *cli, const char *network, const char *host) {
        AUTO(string_drop) char *self = NULL, *address = NULL, *where = NULL, *net = NULL, *to = NULL;
        char path[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

        path[n < 0 ? 0 : n] = '\0';
        self = proxy_quote(string_or(path, "debmarshal"));
        address = proxy_quote(string_or(cli->address, ""));
        net = proxy_quote(network);
        to = proxy_quote(host);
        if (!self || !address || !net || !to)
                return NULL;
        where = cli->address ? string_printf(" --address=%s", address)
                             : string_printf("%s", cli->system    ? " --system"
                                                   : cli->session ? " --session"
                                                                  : "");
        return where ? string_printf("%s%s connect --fdpass -- %s %s %%p", self, where, net, to) : NULL;
}

static int run_ssh(const Cli *cli, const char *user, const char *network, const char *host, const Arguments *args,
                   Error *e) {
        AUTO(string_drop) char *proxy = proxy_command(cli, network, host);
        AUTO(argv_done) Argv argv = ARGV_INIT;
        AUTO(string_list_free) char **items = NULL;

        if (!proxy)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        argv_add(&argv, "ssh");
        argv_add_pairf(&argv, "-o", "ProxyCommand=%s", proxy);
        argv_add_pair(&argv, "-o", "ProxyUseFdpass=yes");
        /* Rigs come and go, and so do their keys; nobody stands between the two ends of a passed socket. */
        argv_add_pair(&argv, "-o", "StrictHostKeyChecking=no");
        argv_add_pair(&argv, "-o", "UserKnownHostsFile=/dev/null");
        argv_add_pair(&argv, "-o", "GlobalKnownHostsFile=/dev/null");
        argv_add_pair(&argv, "-o", "LogLevel=ERROR");
        /* A connection that the user shares may lead to another host of that name. */
        argv_add_pair(&argv, "-o", "ControlPath=none");
        if (user)
                argv_add_pair(&argv, "-l", user);
        argv_add(&argv, host);
        for (size_t i = 1; i < args->count; i++)
                argv_add(&argv, args->items[i]);
        int r = argv_take(&argv, &items);
        if (r < 0)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        execvp("ssh", items);
        return error_set_errno(e, errno, "cannot run ssh");
}

int verb_ssh(Cli *cli, int argc, char **argv) {
        AUTO(string_drop) char *user = NULL, *network = NULL, *host = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        int r = target_parse(args.items[0], &user, &network, &host);
        if (r == -EINVAL)
                return verb_usage(cli, "'%s' is not [USER@][NETWORK/]HOST", args.items[0]);
        if (r < 0) {
                error_set(&e, ERROR_INTERNAL, "out of memory");
                return verb_fail(&e);
        }
        if (!network && (daemon_connect(cli, &e) < 0 || network_of_host(cli, host, &network, &e) < 0))
                return verb_fail(&e);
        run_ssh(cli, user, network, host, &args, &e); /* only ever returns with an error */
        return verb_fail(&e);
}
