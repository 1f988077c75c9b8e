/* The keeper: the process that a network is.
 *
 * It comes to life as the init of a PID namespace, as root of a user namespace and inside a network namespace, all new,
 * with a child that is to be the server, and descriptors from the daemon: the plan, the server's configuration and its
 * two pipes, and a socket on which it says one thing: "ready", or what went wrong. From then on it has no tie to the
 * daemon, and nobody but the kernel ends it, or a server that will not stay up. */
#include "keeper/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/capabilities.h"
#include "base/fd.h"
#include "base/string-util.h"
#include "net/confine.h"
#include "net/keeper-protocol.h"
#include "net/netlink.h"

#define LOOPBACK_INDEX 1
#define PLAN_MAX       4096

static void say(int *status_fd, const char *text) {
        (void)!write(*status_fd, text, strlen(text));
        fd_drop(status_fd);
}

static int read_plan(int fd, KeeperPlan *ret) {
        AUTO(string_drop) char *text = NULL;
        size_t length;
        int r = fd_read_all(fd, PLAN_MAX, &text, &length);
        return r < 0 ? r : keeper_plan_parse(text, ret);
}

static int build_network(const KeeperPlan *p, const char **ret_step) {
        *ret_step = "open a netlink socket";
        AUTO(netlink_drop) Netlink *nl = NULL;
        int r = netlink_open(&nl);
        if (r < 0)
                return r;

        netlink_link_up(nl, LOOPBACK_INDEX);
        netlink_bridge_add(nl, NETWORK_BRIDGE, BRIDGE_INDEX, &p->mac);
        netlink_address4_add(nl, BRIDGE_INDEX, p->gateway, p->prefix);
        if (!IN6_IS_ADDR_UNSPECIFIED(&p->gateway6)) {
                struct in6_addr link_local;
                inet_pton(AF_INET6, GATEWAY_LINK_LOCAL, &link_local);
                netlink_address6_add(nl, BRIDGE_INDEX, &link_local, 64);
                netlink_address6_add(nl, BRIDGE_INDEX, &p->gateway6, 64);
        }
        return netlink_commit(nl, ret_step);
}

/* All up to the running server. words: why not. */
static int set_up(KeeperPlan *plan, Server *server, char words[SERVER_WORDS_MAX]) {
        const char *step = "read the plan";
        int r = read_plan(KEEPER_FD_PLAN, plan);
        if (r >= 0) {
                step = "give up capabilities";
                r = capabilities_keep(NETWORK_CAPABILITIES);
        }
        if (r >= 0)
                r = build_network(plan, &step);
        if (r < 0) {
                snprintf(words, SERVER_WORDS_MAX, "cannot %s: %s", step, strerror(-r));
                return r;
        }
        server->program = plan->dnsmasq;
        return server_start(server, words);
}

/* Arguments: the server's pid, and the network's name for people who look at a process list. */
int hold_main(int argc, char **argv) {
        KeeperPlan plan;
        Server server = { .config_fd = KEEPER_FD_CONFIG, .input_fd = KEEPER_FD_INPUT, .log_fd = KEEPER_FD_LOG };
        uint64_t server_pid;
        char words[SERVER_WORDS_MAX];
        int status_fd = KEEPER_FD_STATUS, plan_fd = KEEPER_FD_PLAN, program_fd = KEEPER_FD_PROGRAM;

        if (argc < 1 || parse_u64(argv[0], INT32_MAX, &server_pid) < 0)
                return EXIT_FAILURE;
        server.pid = (pid_t)server_pid;
        for (int fd = KEEPER_FD_PLAN; fd < KEEPER_FD_END; fd++)
                if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                        return EXIT_FAILURE; /* not started by the daemon */
        fd_drop(&program_fd);
        /* A server that dies while it is given its configuration is no reason for us to. */
        if (chdir("/") < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return EXIT_FAILURE;

        if (set_up(&plan, &server, words) < 0) {
                say(&status_fd, words);
                return EXIT_FAILURE;
        }
        fd_drop(&plan_fd);
        say(&status_fd, KEEPER_READY);
        server_supervise(&server);
        return EXIT_FAILURE;
}
