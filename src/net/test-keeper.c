/* Needs root and dnsmasq: exits 77 without root. Networks of the system scope belong to a uid that has no user; those
 * of the session scope are made by a child that has become one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/string-util.h"
#include "net/test-net.h"

/* ---- helpers ---- */

static int become(uid_t uid) {
        if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                return -errno;
        return prctl(PR_SET_DUMPABLE, 1);
}

/* As a user of the host would do with nsenter; 0, or the errno of the first step that fails. */
static int enter_as(void *userdata) {
        const ProcessId *keeper = userdata;
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)keeper->pid);
        int user_ns = open(path, O_RDONLY | O_CLOEXEC);
        if (user_ns < 0)
                return errno;
        snprintf(path, sizeof path, "/proc/%d/ns/net", (int)keeper->pid);
        int net_ns = open(path, O_RDONLY | O_CLOEXEC);
        if (net_ns < 0)
                return errno;
        if (setns(user_ns, CLONE_NEWUSER) < 0 || setns(net_ns, CLONE_NEWNET) < 0)
                return errno;
        /* An administrator in there, and not in the host's. */
        return system("ip link set br0 mtu 1400 && test $(cat /sys/class/net/br0/mtu 2>/dev/null || echo 1400) = 1400");
}

static int enter_as_owner(void *userdata) {
        return become(SOME_UID) < 0 ? 99 : enter_as(userdata);
}

static int enter_as_other(void *userdata) {
        return become(OTHER_UID) < 0 ? 99 : enter_as(userdata);
}

/* Children of a process, by the kernel's list. */
static size_t children_of(pid_t pid, pid_t *ret_pids, size_t max) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
        FILE *f = fopen(path, "re");
        size_t n = 0;
        int child;
        while (f && n < max && fscanf(f, "%d", &child) == 1)
                ret_pids[n++] = child;
        if (f)
                fclose(f);
        return n;
}

static pid_t server_of(const Rig *rig) {
        pid_t pids[8] = { 0 };
        assert_int_equal(children_of(rig->network->keeper.pid, pids, 8), 1);
        return pids[0];
}

static char *read_proc(pid_t pid, const char *name) {
        char path[64], *text = NULL;
        size_t length;
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
        assert_int_equal(file_read_all(AT_FDCWD, path, 1 << 20, &text, &length), 0);
        return text;
}

/* A guest for a moment: a veth whose one end is on the bridge and whose other end, with the MAC given, is in a
 * namespace below. Asks the server as a guest does. $1: MAC; $2: what to do there. */
#define GUEST(mac, act)                                                                                                \
        "set -e; ip link add g0 address " mac " type veth peer name p0; ip link set p0 master br0 up; "                \
        "unshare -n sh -c 'echo ready; exec sleep 20' >/dev/null & sleeper=$!; trap \"kill $sleeper\" EXIT; "          \
        "while [ \"$(readlink /proc/$sleeper/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do :; done; "            \
        "ip link set g0 netns /proc/$sleeper/ns/net; "                                                                 \
        "nsenter --net=/proc/$sleeper/ns/net sh -c 'ip link set lo up; ip link set g0 up; " act "'"

/* ---- tests ---- */

static void test_network_comes_and_goes(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_SLAAC);
        rig_up(&rig);
        assert_int_equal(rig.n_recorded, 1);

        int user_ns, net_ns;
        uid_t owner = 0;
        struct stat st;
        assert_int_equal(network_open_namespaces(rig.network, &user_ns, &net_ns, NULL), 0);
        assert_int_equal(ioctl(user_ns, NS_GET_OWNER_UID, &owner), 0);
        assert_int_equal(owner, SOME_UID);
        assert_int_equal(fstat(net_ns, &st), 0);
        assert_true(st.st_ino == rig.network->net_ns);
        assert_int_equal(stat("/proc/self/ns/net", &st), 0);
        assert_true(st.st_ino != rig.network->net_ns);
        close(user_ns);
        close(net_ns);

        AUTO(string_drop) char *command = read_proc(rig.network->keeper.pid, "cmdline");
        assert_string_equal(command, "debmarshal-keeper");
        const char *server_inside = command + strlen(command) + 1;
        assert_string_equal(server_inside, "2");
        assert_string_equal(server_inside + 2, "debmarshal-7");
        AUTO(string_drop) char *name = read_proc(rig.network->keeper.pid, "comm");
        assert_string_equal(name, "debmarshal-keep\n");

        ProcessId server;
        assert_int_equal(process_identify(server_of(&rig), &server), 0);
        assert_int_equal(kill(rig.network->keeper.pid, SIGTERM), 0); /* an init takes no notice */
        loop_for(b->event, 20 * USEC_PER_MSEC);
        assert_false(rig.ended);

        rig_down(&rig);
        assert_false(is_alive(&server)); /* already: the kernel reaps an init last */
        Error e = ERROR_INIT;
        assert_true(network_open_namespaces(rig.network, &user_ns, &net_ns, &e) < 0);
        assert_int_equal(e.id, ERROR_NETWORK_FAILED);
        error_clear(&e);
        rig_free(&rig);
}

static void test_owner_has_her_group_inside(void **state) {
        Baseline *b = *state;
        unsigned inside, outside, count;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.owner.group = 54329;
        rig.owner.group_usec = now_monotonic_usec();
        rig_up(&rig);

        AUTO(string_drop) char *map = read_proc(rig.network->keeper.pid, "gid_map");
        assert_int_equal(sscanf(map, "%u %u %u", &inside, &outside, &count), 3);
        assert_true(inside == 0 && outside == 54329 && count == 1);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_processes_have_no_more_than_they_need(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);

        const pid_t pids[] = { rig.network->keeper.pid, server_of(&rig) };
        for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
                AUTO(string_drop) char *status = read_proc(pids[i], "status");
                assert_non_null(strstr(status, "\nUid:\t54321\t54321\t54321\t54321\n"));
                assert_non_null(strstr(status, "\nGid:\t65534\t65534\t65534\t65534\n"));
                assert_non_null(strstr(status, "\nCapPrm:\t0000000000003400\n"));
                assert_non_null(strstr(status, "\nCapBnd:\t0000000000003400\n"));
                assert_non_null(strstr(status, "\nNoNewPrivs:\t1\n"));
                assert_true(pids[i] == rig.network->keeper.pid || strstr(status, "\nSeccomp:\t2\n"));
        }
        rig_down(&rig);
        rig_free(&rig);
}

static void test_owner_enters_and_nobody_else(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        assert_int_equal(run_in_child(NULL, enter_as_owner, &rig.network->keeper), 0);
        int r = run_in_child(NULL, enter_as_other, &rig.network->keeper);
        assert_true(r == EPERM || r == EACCES);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_guest_gets_its_address_and_names(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_SLAAC);
        rig_up(&rig);
        /* udhcpc runs its script with what it got in the environment. */
        char script[] = "/tmp/test-keeper-XXXXXX";
        int fd = mkostemp(script, O_CLOEXEC);
        static const char text[] = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n"
                                   "[ \"$ip/$subnet/$dns/$domain/$router/$lease\" = "
                                   "10.64.0.2/255.255.255.248/10.64.0.1/debmarshal-7.test//4294967295 ] || exit 0\n"
                                   "ip addr add $ip/$mask dev $interface\n";
        assert_int_equal(fd_write_all(fd, text, sizeof text - 1), 0);
        assert_int_equal(fchmod(fd, 0755), 0);
        close(fd);

        AUTO(string_drop)
        char *command = string_printf(
                GUEST("00:16:3e:00:00:01",
                      "busybox udhcpc -q -n -f -t 3 -i g0 -x hostname:impostor -s %s >/dev/null 2>&1; "
                      "ip addr show dev g0 | grep -q \"inet 10.64.0.2/29\" || exit 10; "
                      "ask() { busybox nslookup \"$1\" 10.64.0.1 2>&1; }; "
                      "ask beta | grep -q \"Address: 10.64.0.3\" || exit 11; "
                      "ask BETA.debmarshal-7.test | grep -q \"fd00:1:2:3:216:3eff:fe00:2\" || exit 12; "
                      "ask 10.64.0.3 | grep -q beta.debmarshal-7.test || exit 13; "
                      "ask gateway | grep -q \"Address: 10.64.0.1\" || exit 14; "
                      "ask fd00:1:2:3:216:3eff:fe00:2 | grep -q beta.debmarshal-7.test || exit 15; "
                      "for no in impostor www.debian.org 10.64.0.4 8.8.8.8; do "
                      "ask $no | grep -q NXDOMAIN || exit 16; done; "
                      "busybox ping -q -c 1 10.64.0.1 >/dev/null || exit 17; "
                      "ip route | grep -q default && exit 18; "
                      "for i in $(seq 50); do ip addr show dev g0 | grep -q \"fd00:1:2:3:216:3eff:fe00:1.*dynamic\" "
                      "&& break; sleep 0.1; done; ip addr show dev g0 | grep -q \"fd00:1:2:3:216:3eff:fe00:1\" || exit "
                      "19; "
                      "ip -6 route | grep -q default && exit 20; exit 0"),
                script);
        assert_int_equal(shell_in(&rig, command), 0);
        unlink(script);
        rig_down(&rig);
        rig_free(&rig);
}

/* ---- DHCPv6, of which there is no small client ---- */

/* A client whose DUID does not tell its MAC, as most are. Prints the address that it is offered, and for how many
 * seconds. */
static int solicit(const char *device) {
        unsigned char message[] = {
                1, 0xab, 0xcd, 0xef,                                                 /* SOLICIT */
                0, 1,    0,    14,   0, 2, 0, 0, 0xab, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, /* the client's DUID */
                0, 3,    0,    12,   0, 0, 0, 1, 0,    0,    0, 0, 0, 0, 0, 0,       /* one address, please */
                0, 8,    0,    2,    0, 0,                                           /* time elapsed */
        };
        struct sockaddr_in6 from = { .sin6_family = AF_INET6, .sin6_port = htons(546) };
        struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(547) };
        to.sin6_scope_id = if_nametoindex(device);
        inet_pton(AF_INET6, "ff02::1:2", &to.sin6_addr);

        int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct timeval patience = { .tv_sec = 5 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0 ||
            sendto(fd, message, sizeof message, 0, (struct sockaddr *)&to, sizeof to) < 0)
                return 1;

        unsigned char answer[1024];
        ssize_t n = recv(fd, answer, sizeof answer, 0);
        if (n < 4 || answer[0] != 2 /* ADVERTISE */)
                return 2;
        for (ssize_t i = 4; i + 4 <= n; i += 4 + (answer[i + 2] << 8 | answer[i + 3])) {
                char text[INET6_ADDRSTRLEN];
                /* The address option is the first in that of the association. */
                if (answer[i + 1] == 3 && i + 4 + 12 + 4 + 24 <= n && answer[i + 17] == 5) {
                        uint32_t valid;
                        memcpy(&valid, answer + i + 40, sizeof valid);
                        printf("%s %u\n", inet_ntop(AF_INET6, answer + i + 20, text, sizeof text), ntohl(valid));
                        return 0;
                }
        }
        return 3;
}

static void test_dhcp6_gives_the_reserved_address(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_DHCP);
        rig_up(&rig);
        int self = open("/proc/self/exe", O_RDONLY); /* inherited by the shells: the user may not reach the file */
        AUTO(string_drop)
        char *command = string_printf(GUEST("00:16:3e:00:00:02",
                                            "ip addr add fe80::2/64 dev g0 nodad; for i in 1 2 3; do "
                                            "got=$(/proc/self/fd/%d --solicit g0); [ -n \"$got\" ] && break; done; "
                                            "test \"$got\" = \"fd00:1:2:3::3 120\" || exit 10"),
                                      self);
        assert_int_equal(shell_in(&rig, command), 0);
        close(self);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_stranger_gets_nothing(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        assert_int_equal(shell_in(&rig, GUEST("00:16:3e:00:00:09",
                                              "busybox udhcpc -q -n -f -t 2 -T 1 -i g0 -s /bin/true >/dev/null 2>&1 "
                                              "&& exit 10; exit 0")),
                         0);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_server_is_started_again(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);

        for (int i = 0; i < 5; i++) {
                pid_t before = server_of(&rig), after[8];
                assert_int_equal(kill(before, SIGKILL), 0);
                uint64_t end = now_monotonic_usec() + 5 * USEC_PER_SEC;
                while ((children_of(rig.network->keeper.pid, after, 8) != 1 || after[0] == before ||
                        shell_in(&rig, "busybox nslookup alpha 10.64.0.1 >/dev/null 2>&1") != 0) &&
                       now_monotonic_usec() < end)
                        ;
                assert_int_not_equal(server_of(&rig), before);
                assert_int_equal(shell_in(&rig, "busybox nslookup alpha 10.64.0.1 >/dev/null"), 0);
        }
        assert_false(rig.ended);
        /* Once more within the minute, and it is given up. */
        assert_int_equal(kill(server_of(&rig), SIGKILL), 0);
        assert_true(loop_until(b->event, &rig.ended));
        rig_free(&rig);
}

/* In place of dnsmasq: says more than a pipe holds, says so in the bridge's alias, the only thing here that it may
 * write, and has a child that outlives it. */
#define CHATTY_SERVER                                                                                                  \
        "#!/bin/sh\n"                                                                                                  \
        "cat >/dev/null\n"                                                                                             \
        "echo 'dnsmasq[2]: started, version 0 cache disabled' >&2\n"                                                   \
        "yes | head -c 1000000 >&2\n"                                                                                  \
        "ip link set br0 alias talked\n"                                                                               \
        "sleep 1 &\n"                                                                                                  \
        "exec sleep 60\n"

static void write_server(char path[], const char *text) {
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        assert_int_equal(fchmod(fd, 0755), 0);
        close(fd);
}

/* However soon after it was ready: each end is seen, and the sixth is the network's. */
static void test_server_that_dies_at_once(void **state) {
        Baseline *b = *state;
        char path[] = "/tmp/test-keeper-XXXXXX";

        write_server(path, "#!/bin/sh\ncat >/dev/null\necho 'dnsmasq[2]: started, version 0 cache disabled' >&2\n");
        for (int i = 0; i < 10; i++) {
                Rig rig;
                rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
                rig.host.dnsmasq_path = path;
                rig_up(&rig);
                assert_true(loop_until(b->event, &rig.ended));
                rig_free(&rig);
        }
        unlink(path);
}

static void test_log_and_orphans_are_taken(void **state) {
        Baseline *b = *state;
        char path[] = "/tmp/test-keeper-XXXXXX";
        pid_t after[8];
        Rig rig;

        write_server(path, CHATTY_SERVER);
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.host.dnsmasq_path = path;
        rig_up(&rig);

        pid_t before = server_of(&rig);
        uint64_t end = now_monotonic_usec() + 10 * USEC_PER_SEC;
        while (shell_in(&rig, "ip link show br0 | grep -q talked") != 0 && now_monotonic_usec() < end)
                ;
        assert_int_equal(shell_in(&rig, "ip link show br0 | grep -q talked"), 0);
        while (children_of(before, after, 8) != 1 && now_monotonic_usec() < end)
                ;
        assert_int_equal(kill(before, SIGKILL), 0);
        while ((children_of(rig.network->keeper.pid, after, 8) != 1 || after[0] == before) &&
               now_monotonic_usec() < end)
                loop_for(b->event, 10 * USEC_PER_MSEC);
        assert_int_not_equal(server_of(&rig), before);
        assert_false(rig.ended);
        rig_down(&rig);
        rig_free(&rig);
        unlink(path);
}

static void test_adoption(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        process_done(&rig.network->process); /* as another daemon would begin */

        rig.network->net_ns++;
        assert_int_equal(keeper_adopt(&rig.host, rig.network, rig_ended, &rig), -ESRCH);
        rig.network->net_ns--;
        rig.network->keeper.start_time++;
        assert_int_equal(keeper_adopt(&rig.host, rig.network, rig_ended, &rig), -ESRCH);
        rig.network->keeper.start_time--;
        assert_int_equal(keeper_adopt(&rig.host, rig.network, rig_ended, &rig), 0);
        rig_down(&rig);
        assert_int_equal(keeper_adopt(&rig.host, rig.network, rig_ended, &rig), -ESRCH);
        rig_free(&rig);
}

/* ---- prepared before ---- */

static void assert_error(const Rig *rig, ErrorId id, const char *words) {
        if (rig->error.id != id || !strstr(error_text(&rig->error), words))
                fail_msg("%s: %s", error_id_name(rig->error.id), error_text(&rig->error));
}

static void expect_failure(Rig *rig, ErrorId id, const char *words) {
        if (keeper_start(&rig->start, &rig->error) == 0) {
                assert_true(loop_until(rig->host.event, &rig->done));
                assert_true(rig->failed);
        }
        assert_error(rig, id, words);
        assert_int_equal(rig->network->keeper.pid, 0);
        rig_free(rig);
}

static void test_spare_becomes_a_network(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_SLAAC);
        rig_prepare(&rig, 60 * USEC_PER_SEC);
        pid_t waiting = rig.start.spawn.id.pid, server[8];
        AUTO(string_drop) char *name = read_proc(waiting, "comm");
        assert_string_equal(name, "debmarshal-keep\n");
        assert_int_equal(children_of(waiting, server, 8), 1);
        assert_int_equal(rig.n_recorded, 0);

        rig.start.network = rig.network;
        rig_up(&rig);
        assert_int_equal(rig.n_recorded, 1);
        assert_int_equal(rig.network->keeper.pid, waiting);
        assert_int_equal(server_of(&rig), server[0]);
        AUTO(string_drop) char *command = read_proc(waiting, "cmdline");
        assert_string_equal(command + sizeof "debmarshal-keeper", "2");
        assert_string_equal(command + sizeof "debmarshal-keeper" + 2, "debmarshal-7");
        assert_int_equal(shell_in(&rig, "busybox nslookup beta 10.64.0.1 | grep -q 10.64.0.3"), 0);
        rig_down(&rig);
        rig_free(&rig);
}

/* At any moment of its preparation, and after. */
static void test_spare_is_wanted_early(void **state) {
        Baseline *b = *state;
        for (uint64_t i = 0; i < 20; i++) {
                Rig rig;
                rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
                rig.start.network = NULL;
                rig.start.spare_usec = 60 * USEC_PER_SEC;
                rig.owner.group_usec = i % 2 ? now_monotonic_usec() : 0; /* else a worker has to ask for it first */
                assert_int_equal(keeper_prepare(&rig.start, &rig.error), 0);
                uint64_t end = now_monotonic_usec() + i * 250;
                while (now_monotonic_usec() < end)
                        assert_true(sd_event_run(b->event, 100) >= 0);
                rig.start.network = rig.network;
                rig_up(&rig);
                assert_int_equal(rig.n_recorded, 1);
                rig_down(&rig);
                rig_free(&rig);
        }
}

static bool is_zombie(pid_t pid) {
        AUTO(string_drop) char *text = read_proc(pid, "stat");
        return strstr(text, ") Z ") != NULL;
}

/* The owner may have done what she likes to what is hers already. */
static void test_spare_has_lost_its_server(void **state) {
        Baseline *b = *state;
        pid_t server[8] = { 0 };
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_prepare(&rig, 60 * USEC_PER_SEC);
        assert_int_equal(children_of(rig.start.spawn.id.pid, server, 8), 1);
        assert_int_equal(kill(server[0], SIGKILL), 0);

        while (!is_zombie(server[0]))
                ;

        rig.start.network = rig.network;
        rig_up(&rig);
        assert_int_equal(shell_in(&rig, "busybox nslookup beta 10.64.0.1 | grep -q 10.64.0.3"), 0);
        rig_down(&rig);
        rig_free(&rig);
}

static void spare_is_lost(Rig *rig, ErrorId id, const char *words) {
        assert_true(loop_until(rig->host.event, &rig->done));
        assert_true(rig->failed);
        assert_error(rig, id, words);
        assert_int_equal(rig->start.state, KEEPER_IDLE);
        assert_int_equal(rig->n_recorded, 0);
}

static void test_spare_waits_so_long_and_no_longer(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.start.deadline_usec = 10 * USEC_PER_SEC;
        uint64_t begin = now_monotonic_usec();
        rig_prepare(&rig, 100 * USEC_PER_MSEC);
        ProcessId waiting = rig.start.spawn.id;
        spare_is_lost(&rig, ERROR_TIMEOUT, "was not recorded within 0.1 s");
        assert_true(now_monotonic_usec() - begin < 5 * USEC_PER_SEC);
        assert_true(seen_gone(&waiting));

        /* And then begins anew, as if nothing had been. */
        rig.done = rig.failed = false;
        error_clear(&rig.error);
        rig.start.network = rig.network;
        rig_up(&rig);
        rig_down(&rig);
        rig_free(&rig);
}

/* Once it has a network its deadline is the network's. */
static void test_spare_has_the_networks_deadline(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_prepare(&rig, 60 * USEC_PER_SEC);
        assert_int_equal(kill(rig.start.spawn.id.pid, SIGSTOP), 0); /* as its owner may */
        rig.start.network = rig.network;
        rig.start.deadline_usec = 200 * USEC_PER_MSEC;
        uint64_t begin = now_monotonic_usec();
        expect_failure(&rig, ERROR_TIMEOUT, "was not executed within 0.2 s");
        assert_true(now_monotonic_usec() - begin < 5 * USEC_PER_SEC);
}

static void test_spare_is_killed(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_prepare(&rig, 60 * USEC_PER_SEC);
        assert_false(keeper_is_ending(&rig.start));
        assert_int_equal(kill(rig.start.spawn.id.pid, SIGKILL), 0);
        while (!keeper_is_ending(&rig.start))
                ;
        assert_false(rig.done);
        spare_is_lost(&rig, ERROR_INTERNAL, "killed by signal 9");
        rig_free(&rig);
}

static void test_spare_cannot_be_recorded(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_prepare(&rig, 60 * USEC_PER_SEC);
        rig.start.network = rig.network;
        rig.record_result = -ENOSPC;
        assert_true(keeper_start(&rig.start, &rig.error) < 0);
        assert_non_null(strstr(error_text(&rig.error), "cannot record"));
        assert_int_equal(rig.network->keeper.pid, 0);
        assert_false(rig.done);
        rig_free(&rig);
}

static void test_spare_is_not_needed(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_prepare(&rig, 60 * USEC_PER_SEC);
        ProcessId waiting = rig.start.spawn.id;
        keeper_start_stop(&rig.start);
        assert_int_equal(rig.owner.held.networks, 0);
        assert_true(seen_gone(&waiting));
        rig_free(&rig);
}

/* ---- failures ---- */

static void test_without_dnsmasq(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.host.dnsmasq_path = "";
        expect_failure(&rig, ERROR_NOT_SUPPORTED, "dnsmasq-base");

        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.host.dnsmasq_path = "/nonexistent/dnsmasq";
        expect_failure(&rig, ERROR_NETWORK_FAILED, "cannot execute /nonexistent/dnsmasq: No such file or directory");
}

static void test_server_says_why(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        assert_int_equal(string_replace(&rig.network->hosts[0].name, "no name"), 0); /* nobody can, but we */
        expect_failure(&rig, ERROR_NETWORK_FAILED, "bad");
}

static void test_record_fails(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.record_result = -ENOSPC;
        expect_failure(&rig, ERROR_INTERNAL, "cannot record");
}

static void test_without_keeper(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.host.keeper_path = "/nonexistent/keeper";
        expect_failure(&rig, ERROR_INTERNAL, "/nonexistent/keeper");
}

static void test_deadline(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.host.keeper_path = "/bin/sleep"; /* says nothing */
        rig.network->name[0] = '\0';
        strcpy(rig.network->name, "30");
        rig.start.deadline_usec = 200 * USEC_PER_MSEC;
        expect_failure(&rig, ERROR_TIMEOUT, "ready within");
}

static void test_keeper_dies_at_once(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig.host.keeper_path = "/bin/true";
        expect_failure(&rig, ERROR_NETWORK_FAILED, "ended before it was ready");
}

static void test_stop_half_way(void **state) {
        Baseline *b = *state;
        for (uint64_t usec = 0; usec < 10000; usec += 500) {
                Rig rig;
                rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
                assert_int_equal(keeper_start(&rig.start, &rig.error), 0);
                uint64_t end = now_monotonic_usec() + usec;
                while (now_monotonic_usec() < end)
                        assert_true(sd_event_run(b->event, 100) >= 0);
                ProcessId keeper = rig.network->keeper;
                rig_free(&rig);
                assert_true(keeper.pid == 0 || seen_gone(&keeper));
        }
}

/* ---- the session scope ---- */

static int session_run(void *userdata UNUSED) {
        if (become(SOME_UID) < 0)
                return 90;
        sd_event *event = NULL;
        assert_true(sd_event_new(&event) >= 0);
        Rig rig;
        rig_init(&rig, event, false, SOME_UID, IPV6_DHCP);
        rig_up(&rig);
        int r = shell_in(&rig, "busybox nslookup beta 10.64.0.1 | grep -q 'Address: fd00:1:2:3::3'");
        if (r == 0)
                r = shell_in(&rig, "test $(id -u):$(id -g) = 0:0");
        rig_down(&rig);
        rig_free(&rig);
        sd_event_unref(event);
        return r;
}

static void test_session_scope(void **state UNUSED) {
        assert_int_equal(run_in_child(NULL, session_run, NULL), 0);
}

static int session_forbidden(void *userdata UNUSED) {
        /* A user namespace in which user namespaces are forbidden. */
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                return 91;
        int fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
                return 92;
        close(fd);

        sd_event *event = NULL;
        Error e = ERROR_INIT;
        assert_true(sd_event_new(&event) >= 0);
        Rig rig;
        rig_init(&rig, event, false, SOME_UID, IPV6_NONE);
        int r = keeper_start(&rig.start, &e) < 0 && e.id == ERROR_NOT_SUPPORTED &&
                                strstr(error_text(&e), "user.max_user_namespaces")
                        ? 0
                        : 93;
        error_clear(&e);
        rig_free(&rig);
        sd_event_unref(event);
        return r;
}

static void test_forbidding_setting_is_named(void **state UNUSED) {
        assert_int_equal(run_in_child(NULL, session_forbidden, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)

int main(int argc, char **argv) {
        if (argc == 3 && strcmp(argv[1], "--solicit") == 0)
                return solicit(argv[2]);
        if (geteuid() != 0)
                return 77;
        const struct CMUnitTest tests[] = {
                TEST(test_network_comes_and_goes),
                TEST(test_owner_has_her_group_inside),
                TEST(test_processes_have_no_more_than_they_need),
                TEST(test_owner_enters_and_nobody_else),
                TEST(test_guest_gets_its_address_and_names),
                TEST(test_dhcp6_gives_the_reserved_address),
                TEST(test_stranger_gets_nothing),
                TEST(test_server_is_started_again),
                TEST(test_log_and_orphans_are_taken),
                TEST(test_server_that_dies_at_once),
                TEST(test_adoption),
                TEST(test_spare_becomes_a_network),
                TEST(test_spare_is_wanted_early),
                TEST(test_spare_has_lost_its_server),
                TEST(test_spare_waits_so_long_and_no_longer),
                TEST(test_spare_has_the_networks_deadline),
                TEST(test_spare_is_killed),
                TEST(test_spare_cannot_be_recorded),
                TEST(test_spare_is_not_needed),
                TEST(test_without_dnsmasq),
                TEST(test_server_says_why),
                TEST(test_record_fails),
                TEST(test_without_keeper),
                TEST(test_deadline),
                TEST(test_keeper_dies_at_once),
                TEST(test_stop_half_way),
                TEST(test_session_scope),
                TEST(test_forbidding_setting_is_named),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
