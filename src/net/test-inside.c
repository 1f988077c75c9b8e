/* Needs root, dnsmasq and /dev/net/tun: exits 77 without root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/string-util.h"
#include "net/inside.h"
#include "net/test-net.h"

typedef struct Act {
        InsideJob job;
        bool done;
        FdSet fds;
        Error error;
} Act;

static void on_act(InsideJob *j, FdSet *fds, const Error *e) {
        Act *a = j->userdata;
        a->done = true;
        if (e) {
                assert_null(fds);
                error_copy(&a->error, e);
                return;
        }
        for (size_t i = 0; i < fds->count; i++)
                assert_int_equal(fd_set_add(&a->fds, fd_take(&fds->fds[i])), 0);
}

static void act_init(Act *a, const Rig *rig, InsideAct act) {
        *a = (Act){ .done = false };
        inside_init(&a->job);
        a->job.host = &rig->host;
        a->job.act = act;
        a->job.deadline_usec = 5 * USEC_PER_SEC;
        a->job.done = on_act;
        a->job.userdata = a;
}

static void act_run(Act *a, const Rig *rig) {
        assert_int_equal(inside_start(&a->job, rig->network, &a->error), 0);
        assert_true(loop_until(rig->host.event, &a->done));
}

static void act_clear(Act *a) {
        inside_stop(&a->job);
        fd_set_clear(&a->fds);
        error_clear(&a->error);
}

static void act_to(Act *a, const char *address, uint16_t port) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
        memcpy(&a->job.to, &in, sizeof in);
        a->job.to_length = sizeof in;
}

/* ---- taps ---- */

static int tap_is_port(void *userdata) {
        const char *name = userdata;
        AUTO(string_drop)
        char *command = string_printf("ip -o link show dev %s | grep -q ',UP.* master br0' && "
                                      "! ip -o addr show dev %s | grep -q inet6",
                                      name, name);
        return command ? run_shell(command) : 1;
}

static void test_taps(void **state) {
        Baseline *b = *state;
        Rig rig;
        Act a;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_SLAAC);
        rig_up(&rig);
        act_init(&a, &rig, INSIDE_TAPS);
        a.job.n_taps = 3;
        act_run(&a, &rig);
        assert_false(error_is_set(&a.error));
        assert_int_equal(a.fds.count, 3);

        for (size_t i = 0; i < 3; i++) {
                struct ifreq request = { 0 };
                assert_int_equal(ioctl(a.fds.fds[i], TUNGETIFF, &request), 0);
                assert_int_equal(request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_PERSIST),
                                 IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
                assert_int_equal(if_nametoindex(request.ifr_name), 0); /* not in the host's namespace */
                assert_int_equal(run_in_child(&rig, tap_is_port, request.ifr_name), 0);
        }
        act_clear(&a);
        assert_int_not_equal(shell_in(&rig, "ip -o link show | grep -q tap"), 0); /* gone with their descriptors */
        rig_down(&rig);
        rig_free(&rig);
}

static void test_owner_took_the_bridge_away(void **state) {
        Baseline *b = *state;
        Rig rig;
        Act a;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        assert_int_equal(shell_in(&rig, "ip link del br0"), 0);
        act_init(&a, &rig, INSIDE_TAPS);
        a.job.n_taps = 1;
        act_run(&a, &rig);
        assert_int_equal(a.error.id, ERROR_INTERNAL);
        assert_non_null(strstr(error_text(&a.error), "cannot find the bridge br0"));
        assert_int_equal(a.fds.count, 0);
        act_clear(&a);
        rig_down(&rig);
        rig_free(&rig);
}

/* ---- sockets ---- */

static void test_listen_then_connect(void **state) {
        Baseline *b = *state;
        Rig rig;
        Act listener, client;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);

        act_init(&listener, &rig, INSIDE_LISTEN);
        act_to(&listener, "10.64.0.1", 0);
        act_run(&listener, &rig);
        assert_false(error_is_set(&listener.error));
        struct sockaddr_in in;
        socklen_t length = sizeof in;
        assert_int_equal(getsockname(listener.fds.fds[0], (struct sockaddr *)&in, &length), 0);
        assert_int_equal(ntohl(in.sin_addr.s_addr), 0x0a400001);

        act_init(&client, &rig, INSIDE_CONNECT);
        act_to(&client, "10.64.0.1", ntohs(in.sin_port));
        act_run(&client, &rig);
        assert_false(error_is_set(&client.error));
        assert_int_equal(fcntl(client.fds.fds[0], F_GETFL) & O_NONBLOCK, 0);

        AUTO(fd_drop) int accepted = accept4(listener.fds.fds[0], NULL, NULL, SOCK_CLOEXEC);
        assert_true(accepted >= 0);
        char byte = 0;
        assert_int_equal(write(client.fds.fds[0], "x", 1), 1);
        assert_int_equal(read(accepted, &byte, 1), 1);
        assert_int_equal(byte, 'x');

        act_clear(&client);
        act_clear(&listener);
        rig_down(&rig);
        rig_free(&rig);
}

static void expect_act_fails(const Rig *rig, InsideAct act, const char *address, uint16_t port, const char *words) {
        Act a;
        act_init(&a, rig, act);
        a.job.deadline_usec = USEC_PER_SEC;
        act_to(&a, address, port);
        act_run(&a, rig);
        if (a.error.id != ERROR_CONNECTION_FAILED || !strstr(error_text(&a.error), words))
                fail_msg("%s: %s", error_id_name(a.error.id), error_text(&a.error));
        act_clear(&a);
}

static void test_sockets_that_fail(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        expect_act_fails(&rig, INSIDE_CONNECT, "10.64.0.1", 9, "Failed to connect to 10.64.0.1:9: Connection refused");
        expect_act_fails(&rig, INSIDE_CONNECT, "127.0.0.1", 22, "Connection refused"); /* the host's is another */
        expect_act_fails(&rig, INSIDE_CONNECT, "192.0.2.1", 80, "Network is unreachable");
        expect_act_fails(&rig, INSIDE_CONNECT, "10.64.0.5", 80, "Failed to connect to 10.64.0.5:80: ");
        expect_act_fails(&rig, INSIDE_LISTEN, "10.64.0.1", 53, "Failed to listen on 10.64.0.1:53: Address already");
        expect_act_fails(&rig, INSIDE_LISTEN, "10.64.0.2", 80, "Cannot assign");
        rig_down(&rig);
        rig_free(&rig);
}

static void test_dead_network(void **state) {
        Baseline *b = *state;
        Rig rig;
        Act a;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        rig_down(&rig);
        act_init(&a, &rig, INSIDE_TAPS);
        a.job.n_taps = 1;
        assert_true(inside_start(&a.job, rig.network, &a.error) < 0);
        assert_int_equal(a.error.id, ERROR_NETWORK_FAILED);
        act_clear(&a);
        rig_free(&rig);
}

/* ---- captures ---- */

typedef struct Watch {
        Capture capture;
        int read_fd;
        bool started, ended;
        Error error;
} Watch;

static void on_started(Capture *c, int read_fd, const Error *e) {
        Watch *w = c->userdata;
        w->started = true;
        w->read_fd = read_fd;
        error_copy(&w->error, e);
}

static void on_ended(Capture *c) {
        ((Watch *)c->userdata)->ended = true;
}

static void watch_start(Watch *w, const Rig *rig, const char *device) {
        *w = (Watch){ .read_fd = -1 };
        capture_init(&w->capture);
        w->capture.host = &rig->host;
        w->capture.device = device;
        w->capture.started = on_started;
        w->capture.ended = on_ended;
        w->capture.userdata = w;
        if (capture_start(&w->capture, rig->network, &w->error) == 0)
                assert_true(loop_until(rig->host.event, &w->started));
}

static void watch_clear(Watch *w) {
        capture_stop(&w->capture);
        fd_drop(&w->read_fd);
        error_clear(&w->error);
}

/* Everything that comes within a moment, for tcpdump to read. Returns what it says of it. */
static char *read_capture(int fd) {
        char path[] = "/tmp/test-inside-XXXXXX", buffer[65536];
        AUTO(fd_drop) int file = mkostemp(path, O_CLOEXEC);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        while (poll(&p, 1, 500) == 1) {
                ssize_t n = read(fd, buffer, sizeof buffer);
                if (n <= 0)
                        break;
                assert_int_equal(fd_write_all(file, buffer, (size_t)n), 0);
        }
        AUTO(string_drop) char *command = string_printf("tcpdump -n -e -r %s 2>/dev/null", path);
        FILE *f = popen(command, "re");
        assert_non_null(f);
        char *text = NULL;
        size_t length;
        assert_int_equal(fd_read_all(fileno(f), 1 << 20, &text, &length), 0);
        assert_int_equal(pclose(f), 0);
        unlink(path);
        return text;
}

static unsigned count(const char *text, const char *word) {
        unsigned n = 0;
        for (const char *p = text; (p = strstr(p, word)); p++)
                n++;
        return n;
}

/* Two guests on two veths, the first pinging the second twice and the gateway once. */
#define TWO_GUESTS                                                                                                     \
        "set -e; for i in 1 2; do ip link add g$i type veth peer name p$i; ip link set p$i master br0 up; "            \
        "unshare -n sleep 20 & eval s$i=$!; done; trap 'kill $s1 $s2' EXIT; "                                          \
        "for s in $s1 $s2; do while [ \"$(readlink /proc/$s/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do :; "   \
        "done; done; "                                                                                                 \
        "for i in 1 2; do eval s=\\$s$i; ip link set g$i netns /proc/$s/ns/net; "                                      \
        "nsenter --net=/proc/$s/ns/net sh -c \"ip link set g$i up; ip addr add 10.64.0.$((i + 1))/29 dev g$i\"; "      \
        "done; "                                                                                                       \
        "nsenter --net=/proc/$s1/ns/net sh -c 'busybox ping -q -c 2 -i 0.1 10.64.0.3; "                                \
        "busybox ping -q -c 1 10.64.0.1' >/dev/null"

static void test_capture_sees_each_frame_once(void **state) {
        Baseline *b = *state;
        Rig rig;
        Watch w;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        watch_start(&w, &rig, NULL);
        assert_false(error_is_set(&w.error));
        assert_int_equal(shell_in(&rig, TWO_GUESTS), 0);

        AUTO(string_drop) char *text = read_capture(w.read_fd);
        assert_int_equal(count(text, "10.64.0.2 > 10.64.0.3: ICMP echo request"), 2);
        assert_int_equal(count(text, "10.64.0.3 > 10.64.0.2: ICMP echo reply"), 2);
        assert_int_equal(count(text, "10.64.0.2 > 10.64.0.1: ICMP echo request"), 1);
        assert_int_equal(count(text, "10.64.0.1 > 10.64.0.2: ICMP echo reply"), 1);
        watch_clear(&w);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_capture_of_one_device(void **state) {
        Baseline *b = *state;
        Rig rig;
        Watch w;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        watch_start(&w, &rig, NETWORK_BRIDGE);
        assert_false(error_is_set(&w.error));
        assert_int_equal(shell_in(&rig, TWO_GUESTS), 0);

        AUTO(string_drop) char *text = read_capture(w.read_fd);
        assert_int_equal(count(text, "10.64.0.3: ICMP"), 0); /* forwarded beside it */
        assert_int_equal(count(text, "10.64.0.2 > 10.64.0.1: ICMP echo request"), 1);
        assert_int_equal(count(text, "10.64.0.1 > 10.64.0.2: ICMP echo reply"), 1);
        watch_clear(&w);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_capture_ends(void **state) {
        Baseline *b = *state;
        Rig rig;
        Watch w;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);

        watch_start(&w, &rig, NULL);
        char path[64], status[4096];
        snprintf(path, sizeof path, "/proc/%d/status", (int)w.capture.process.id.pid);
        AUTO(fd_drop) int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, status, sizeof status - 1);
        assert_true(n > 0);
        status[n] = '\0';
        /* It may be on its way there. */
        for (int i = 0; i < 100 && !strstr(status, "\nCapPrm:\t0000000000000000\n"); i++) {
                loop_for(b->event, 10 * USEC_PER_MSEC);
                n = pread(fd, status, sizeof status - 1, 0);
                assert_true(n > 0);
                status[n] = '\0';
        }
        assert_non_null(strstr(status, "\nCapPrm:\t0000000000000000\n"));
        assert_non_null(strstr(status, "\nUid:\t54321\t54321\t54321\t54321\n"));
        fd_drop(&w.read_fd); /* the reader goes */
        assert_true(loop_until(b->event, &w.ended));
        watch_clear(&w);

        watch_start(&w, &rig, NULL);
        rig_down(&rig); /* the network goes */
        assert_true(loop_until(b->event, &w.ended));
        watch_clear(&w);
        rig_free(&rig);
}

static void test_capture_is_refused(void **state) {
        Baseline *b = *state;
        Rig rig;
        Watch w;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        watch_start(&w, &rig, "eth17");
        assert_int_equal(w.read_fd, -1);
        assert_int_equal(w.error.id, ERROR_INVALID_INPUT);
        assert_non_null(strstr(error_text(&w.error), "cannot find device eth17: No such device"));
        watch_clear(&w);
        watch_start(&w, &rig, "a-name-no-device-can-have");
        assert_int_equal(w.error.id, ERROR_INVALID_INPUT);
        watch_clear(&w);
        rig_down(&rig);
        rig_free(&rig);
}

static void test_stop_half_way(void **state) {
        Baseline *b = *state;
        Rig rig;
        rig_init(&rig, b->event, true, SOME_UID, IPV6_NONE);
        rig_up(&rig);
        for (uint64_t usec = 0; usec < 5000; usec += 500) {
                Watch w = { .read_fd = -1 };
                Act a;
                capture_init(&w.capture);
                w.capture.host = &rig.host;
                w.capture.started = on_started;
                w.capture.ended = on_ended;
                w.capture.userdata = &w;
                assert_int_equal(capture_start(&w.capture, rig.network, &w.error), 0);
                act_init(&a, &rig, INSIDE_TAPS);
                a.job.n_taps = 1;
                assert_int_equal(inside_start(&a.job, rig.network, &a.error), 0);
                loop_for(b->event, usec);
                watch_clear(&w);
                act_clear(&a);
        }
        rig_down(&rig);
        rig_free(&rig);
}

/* ---- the session scope ---- */

static int session_run(void *userdata UNUSED) {
        if (setgroups(0, NULL) < 0 || setresgid(SOME_UID, SOME_UID, SOME_UID) < 0 ||
            setresuid(SOME_UID, SOME_UID, SOME_UID) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
                return 90;
        sd_event *event = NULL;
        Rig rig;
        Act a;
        Watch w;
        assert_true(sd_event_new(&event) >= 0);
        rig_init(&rig, event, false, SOME_UID, IPV6_NONE);
        rig_up(&rig);

        act_init(&a, &rig, INSIDE_TAPS);
        a.job.n_taps = 1;
        act_run(&a, &rig);
        bool may_open = access("/dev/net/tun", R_OK | W_OK) == 0;
        if (may_open)
                assert_int_equal(a.fds.count, 1);
        else
                assert_non_null(strstr(error_text(&a.error), "chmod 0666 /dev/net/tun"));
        act_clear(&a);
        expect_act_fails(&rig, INSIDE_CONNECT, "10.64.0.1", 9, "Connection refused");

        watch_start(&w, &rig, NULL);
        assert_false(error_is_set(&w.error));
        watch_clear(&w);
        rig_down(&rig);
        rig_free(&rig);
        sd_event_unref(event);
        return 0;
}

static void test_session_scope(void **state UNUSED) {
        assert_int_equal(run_in_child(NULL, session_run, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)

int main(void) {
        if (geteuid() != 0)
                return 77;
        const struct CMUnitTest tests[] = {
                TEST(test_taps),
                TEST(test_owner_took_the_bridge_away),
                TEST(test_listen_then_connect),
                TEST(test_sockets_that_fail),
                TEST(test_dead_network),
                TEST(test_capture_sees_each_frame_once),
                TEST(test_capture_of_one_device),
                TEST(test_capture_ends),
                TEST(test_capture_is_refused),
                TEST(test_stop_half_way),
                TEST(test_session_scope),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
