/* The floor for networks: the kernel calls that nobody can do without, and one dnsmasq with a configuration like
 * debmarshal's for two hosts, until it answers; and the death of it all, until it is reaped. Nothing is shared with
 * what it is the measure of, and nothing is recorded, checked or confined.
 *
 * usage: floor-network [-n ROUNDS] [-u UID] [-s]        as root
 *
 *   -s  serve: for each line "create" or "destroy" on standard input a line "ok<TAB>USEC<TAB>PID" on standard output,
 *       or "error<TAB>TEXT"; destroy takes the network that was created last
 *
 * Without -s: {"create_usec": [...], "destroy_usec": [...]} on standard output. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DNSMASQ      "/usr/sbin/dnsmasq"
#define NETWORKS_MAX 4096
#define BRIDGE       1000

static const char config[] =
        "user=\ngroup=\npid-file=\nkeep-in-foreground\nlog-facility=-\nquiet-dhcp\nquiet-dhcp6\nquiet-ra\n"
        "interface=br0\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\ncache-size=0\nlocal=/#/\n"
        "leasefile-ro\ndhcp-authoritative\ndhcp-rapid-commit\ndhcp-ignore-names\nno-ping\n"
        "dhcp-option=option:router\ndomain=floor.test\n"
        "dhcp-range=10.64.0.0,static,255.255.255.248,infinite\n"
        "enable-ra\nra-param=br0,60,0\ndhcp-range=fd00:1:2:3::,ra-only,64,infinite\n"
        "dhcp-host=00:16:3e:00:00:01,10.64.0.2,a,infinite\n"
        "host-record=a.floor.test,a,10.64.0.2,fd00:1:2:3:216:3eff:fe00:1\n"
        "dhcp-host=00:16:3e:00:00:02,10.64.0.3,b,infinite\n"
        "host-record=b.floor.test,b,10.64.0.3,fd00:1:2:3:216:3eff:fe00:2\n"
        "host-record=gateway.floor.test,gateway,10.64.0.1,fd00:1:2:3::1\n";

static unsigned rounds = 50, uid = 54321;
static pid_t networks[NETWORKS_MAX];
static size_t n_networks;

static uint64_t now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static _Noreturn void die(const char *what) {
        fprintf(stderr, "floor-network: %s: %s\n", what, strerror(errno));
        _exit(1);
}

/* ---- the links, in one batch ---- */

typedef struct Batch {
        char bytes[4096];
        size_t length;
        unsigned count;
} Batch;

static struct nlmsghdr *request(Batch *b, uint16_t type, uint16_t flags) {
        struct nlmsghdr *h = mnl_nlmsg_put_header(b->bytes + b->length);

        h->nlmsg_type = type;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        h->nlmsg_seq = ++b->count;
        return h;
}

static struct nlmsghdr *link_request(Batch *b, uint16_t flags, int index, bool up) {
        struct nlmsghdr *h = request(b, RTM_NEWLINK, flags);
        struct ifinfomsg *link = mnl_nlmsg_put_extra_header(h, sizeof *link);

        link->ifi_index = index;
        link->ifi_flags = link->ifi_change = up ? IFF_UP : 0;
        return h;
}

static void add(Batch *b, const struct nlmsghdr *h) {
        b->length += MNL_ALIGN(h->nlmsg_len);
}

static void add_bridge(Batch *b) {
        struct nlmsghdr *h = link_request(b, NLM_F_CREATE | NLM_F_EXCL, BRIDGE, false);

        mnl_attr_put_strz(h, IFLA_IFNAME, "br0");
        struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
        mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
        mnl_attr_nest_end(h, info);
        add(b, h);

        h = link_request(b, 0, BRIDGE, false);
        struct nlattr *families = mnl_attr_nest_start(h, IFLA_AF_SPEC);
        struct nlattr *inet6 = mnl_attr_nest_start(h, AF_INET6);
        mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        mnl_attr_nest_end(h, inet6);
        mnl_attr_nest_end(h, families);
        add(b, h);

        add(b, link_request(b, 0, BRIDGE, true));
}

static void add_address(Batch *b, uint8_t family, const char *text, uint8_t prefix) {
        struct nlmsghdr *h = request(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(h, sizeof *address);
        unsigned char bytes[16];

        inet_pton(family, text, bytes);
        address->ifa_family = family;
        address->ifa_prefixlen = prefix;
        address->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
        address->ifa_index = BRIDGE;
        mnl_attr_put(h, IFA_LOCAL, family == AF_INET ? 4 : 16, bytes);
        add(b, h);
}

static void make_links(void) {
        struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
        Batch b = { .length = 0 };
        char answers[8192];

        if (!socket || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0)
                die("netlink");
        add(&b, link_request(&b, 0, 1, true));
        add_bridge(&b);
        add_address(&b, AF_INET, "10.64.0.1", 29);
        add_address(&b, AF_INET6, "fe80::1", 64);
        add_address(&b, AF_INET6, "fd00:1:2:3::1", 64);
        if (mnl_socket_sendto(socket, b.bytes, b.length) < 0)
                die("netlink send");

        for (unsigned seen = 0; seen < b.count;) {
                int left = (int)mnl_socket_recvfrom(socket, answers, sizeof answers);
                if (left < 0)
                        die("netlink receive");
                for (struct nlmsghdr *h = (struct nlmsghdr *)answers; mnl_nlmsg_ok(h, left);
                     h = mnl_nlmsg_next(h, &left), seen++) {
                        const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
                        if (e->error != 0) {
                                errno = -e->error;
                                die("netlink request");
                        }
                }
        }
        mnl_socket_close(socket);
}

/* ---- the processes ---- */

/* It says in its log that it has started when it answers. */
static void await_start(int log_fd) {
        char said[4096];
        size_t filled = 0;
        ssize_t n;

        while ((n = read(log_fd, said + filled, sizeof said - filled)) > 0) {
                filled += (size_t)n;
                if (memmem(said, filled, ": started, ", strlen(": started, ")))
                        return;
        }
        die("dnsmasq");
}

static void run_dnsmasq(int config_fd) {
        int log[2];

        if (pipe(log) < 0)
                die("pipe");
        pid_t pid = fork();
        if (pid < 0)
                die("fork");
        if (pid == 0) {
                char *const args[] = { (char *)(uintptr_t) "dnsmasq", (char *)(uintptr_t) "--conf-file=-", NULL };
                char *const environment[] = { (char *)(uintptr_t) "LANG=C", NULL };
                if (dup2(config_fd, 0) < 0 || dup2(log[1], 2) < 0 || close(log[0]) < 0 || close(log[1]) < 0)
                        die("dup2");
                execve(DNSMASQ, args, environment);
                die(DNSMASQ);
        }
        close(log[1]);
        await_start(log[0]); /* and keep its end of the pipe, for what it may have to say later */
}

static _Noreturn void be_init(int config_fd, int ready_fd) {
        make_links();
        run_dnsmasq(config_fd);
        if (write(ready_fd, "r", 1) != 1)
                die("ready");
        close(ready_fd);
        for (;;)
                if (waitpid(-1, NULL, 0) < 0)
                        pause();
}

static void put(const char *path, const char *text) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                die(path);
        close(fd);
}

static _Noreturn void make_namespaces(int config_fd, int ready_fd, int pid_fd) {
        char map[32];

        if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0 ||
            unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID) < 0)
                die("unshare");
        put("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1\n", uid);
        put("/proc/self/uid_map", map);
        put("/proc/self/gid_map", map);

        pid_t pid = fork();
        if (pid < 0)
                die("fork");
        if (pid == 0)
                be_init(config_fd, ready_fd);
        if (write(pid_fd, &pid, sizeof pid) != (ssize_t)sizeof pid)
                die("pid");
        _exit(0);
}

/* 0 and the pid of what is to be killed, or -1. */
static int create(pid_t *ret) {
        int ready[2], pids[2], config_fd = memfd_create("config", MFD_CLOEXEC);
        char byte;

        if (config_fd < 0 || write(config_fd, config, sizeof config - 1) < 0 || lseek(config_fd, 0, SEEK_SET) < 0 ||
            pipe2(ready, O_CLOEXEC) < 0 || pipe2(pids, O_CLOEXEC) < 0)
                die("create");
        pid_t middle = fork();
        if (middle < 0)
                die("fork");
        if (middle == 0)
                make_namespaces(config_fd, ready[1], pids[1]);
        close(config_fd);
        close(ready[1]);
        close(pids[1]);

        bool good = read(pids[0], ret, sizeof *ret) == (ssize_t)sizeof *ret && read(ready[0], &byte, 1) == 1;
        waitpid(middle, NULL, 0);
        close(ready[0]);
        close(pids[0]);
        return good ? 0 : -1;
}

static int destroy(pid_t pid) {
        return kill(pid, SIGKILL) < 0 || waitpid(pid, NULL, 0) != pid ? -1 : 0;
}

/* ---- the two ways to use it ---- */

static void answer(int r, uint64_t start, pid_t pid) {
        if (r < 0)
                printf("error\tthe floor failed\n");
        else
                printf("ok\t%llu\t%d\n", (unsigned long long)(now_usec() - start), (int)pid);
        fflush(stdout);
}

static void serve(void) {
        char line[64];

        while (fgets(line, sizeof line, stdin)) {
                uint64_t start = now_usec();
                if (strcmp(line, "create\n") == 0 && n_networks < NETWORKS_MAX) {
                        int r = create(&networks[n_networks]);
                        answer(r, start, networks[n_networks]);
                        n_networks += r == 0;
                } else if (strcmp(line, "destroy\n") == 0 && n_networks > 0) {
                        n_networks--;
                        answer(destroy(networks[n_networks]), start, networks[n_networks]);
                } else {
                        answer(-1, start, 0);
                }
        }
        while (n_networks > 0)
                destroy(networks[--n_networks]);
}

static void print_list(const char *name, const uint64_t *usec, const char *end) {
        printf("\"%s\": [", name);
        for (unsigned i = 0; i < rounds; i++)
                printf("%s%llu", i ? ", " : "", (unsigned long long)usec[i]);
        printf("]%s", end);
}

static int measure(void) {
        uint64_t *created = calloc(rounds, sizeof *created), *destroyed = calloc(rounds, sizeof *destroyed);

        if (!created || !destroyed)
                return 1;
        for (unsigned i = 0; i < rounds; i++) {
                pid_t pid;
                uint64_t start = now_usec();
                if (create(&pid) < 0)
                        return 1;
                created[i] = now_usec() - start;
                start = now_usec();
                if (destroy(pid) < 0)
                        return 1;
                destroyed[i] = now_usec() - start;
        }
        printf("{");
        print_list("create_usec", created, ", ");
        print_list("destroy_usec", destroyed, "}\n");
        free(created);
        free(destroyed);
        return 0;
}

int main(int argc, char **argv) {
        bool server = false;

        for (int option; (option = getopt(argc, argv, "n:u:s")) >= 0;) {
                if (option == 'n')
                        rounds = (unsigned)strtoul(optarg, NULL, 10);
                else if (option == 'u')
                        uid = (unsigned)strtoul(optarg, NULL, 10);
                else if (option == 's')
                        server = true;
                else
                        return 2;
        }
        if (geteuid() != 0) {
                fprintf(stderr, "floor-network: needs root\n");
                return 77;
        }
        /* The init of the new namespaces becomes our child when the process between has gone. */
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                die("prctl");
        if (!server)
                return measure();
        serve();
        return 0;
}
