/* The bus with an engine in which nothing runs: real connections over socket pairs, in the same loop. What needs a
 * running engine is tested from outside, in tests/daemon. */
#include "core/test-objects.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "bus/internal.h"

static char *const no_hosts[] = { NULL };
#define USER 54321

typedef struct Fixture {
        sd_event *event;
        Engine engine;
        Bus *bus;
        Error error;
} Fixture;

static int setup(void **state) {
        Fixture *f = calloc(1, sizeof *f);
        assert_int_equal(sd_event_new(&f->event), 0);
        f->engine = (Engine){ .event = f->event, .scope = SCOPE_SYSTEM, .limits = LIMITS_DEFAULT };
        f->engine.net_host.dnsmasq_path = "/d\xff/dnsmasq"; /* not UTF-8, as a path may be */
        registry_init(&f->engine.registry);
        assert_int_equal(bus_new(f->event, &f->engine, &f->bus, &f->error), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;
        bus_free(f->bus);
        registry_done(&f->engine.registry);
        sd_event_unref(f->event);
        error_clear(&f->error);
        free(f);
        return 0;
}

/* Two connected sockets of somebody who is not root: the kernel notes who makes them. */
static void user_socketpair(int ends[2]) {
        if (geteuid() == 0)
                assert_int_equal(seteuid(USER), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        if (getuid() == 0)
                assert_int_equal(seteuid(0), 0);
}

static uid_t user_uid(void) {
        return geteuid() == 0 ? USER : geteuid();
}

/* A socket whose other end the bus serves. */
static int peer_socket(Fixture *f) {
        int ends[2];
        user_socketpair(ends);
        assert_int_equal(bus_add_peer(f->bus, ends[1], &f->error), 0);
        return ends[0];
}

static sd_bus *client(Fixture *f) {
        sd_bus *c;
        int fd = peer_socket(f);
        assert_true(sd_bus_new(&c) >= 0);
        assert_true(sd_bus_set_fd(c, fd, fd) >= 0);
        assert_true(sd_bus_negotiate_fds(c, true) >= 0);
        assert_true(sd_bus_start(c) >= 0);
        assert_true(sd_bus_attach_event(c, f->event, 0) >= 0);
        return c;
}

static void turn(Fixture *f, unsigned times) {
        for (unsigned i = 0; i < times; i++)
                assert_true(sd_event_run(f->event, 2000) >= 0);
}

static int on_reply(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        *(sd_bus_message **)userdata = sd_bus_message_ref(m);
        return 1;
}

/* Send m (taken) and turn the loop until its reply is there, also the caller's. */
static sd_bus_message *ask(Fixture *f, sd_bus *c, sd_bus_message *m) {
        sd_bus_message *reply = NULL;
        assert_true(sd_bus_call_async(c, NULL, m, on_reply, &reply, 5 * USEC_PER_SEC) >= 0);
        sd_bus_message_unref(m);
        while (!reply)
                assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
        return reply;
}

static sd_bus_message *method(sd_bus *c, const char *path, const char *interface, const char *member) {
        sd_bus_message *m;
        assert_true(sd_bus_message_new_method_call(c, &m, NULL, path, interface, member) >= 0);
        return m;
}

static void assert_refused(sd_bus_message *reply, const char *name, const char *text) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        assert_non_null(e);
        assert_string_equal(e->name, name);
        assert_non_null(strstr(e->message, text));
        sd_bus_message_unref(reply);
}

static sd_bus_message *get_property(Fixture *f, sd_bus *c, const char *path, const char *interface, const char *name) {
        sd_bus_message *m = method(c, path, "org.freedesktop.DBus.Properties", "Get");
        assert_true(sd_bus_message_append(m, "ss", interface, name) >= 0);
        m = ask(f, c, m);
        assert_false(sd_bus_message_is_method_error(m, NULL));
        return m;
}

static Network *add_network(Fixture *f, const char *name, uid_t uid) {
        Network *n = make_network(&f->engine.registry, name, uid, "10.64.0.0/29", no_hosts);
        registry_add_network(&f->engine.registry, n);
        registry_set_network_state(&f->engine.registry, n, NETWORK_UP);
        return n;
}

static void test_caller_is_the_kernels(void **state) {
        Fixture *f = *state;
        sd_bus *c = client(f);
        uint32_t uid;
        const char *text;

        sd_bus_message *m = get_property(f, c, ROOT_PATH, MANAGER_INTERFACE, "CallerUid");
        assert_true(sd_bus_message_read(m, "v", "u", &uid) >= 0);
        assert_int_equal(uid, user_uid());
        sd_bus_message_unref(m);

        m = get_property(f, c, ROOT_PATH, MANAGER_INTERFACE, "Dnsmasq");
        assert_true(sd_bus_message_read(m, "v", "s", &text) >= 0);
        assert_string_equal(text, "/d\\xff/dnsmasq");
        sd_bus_message_unref(m);
        assert_int_equal(bus_peers(f->bus), 1);
        sd_bus_close_unref(c);
        turn(f, 2);
        assert_int_equal(bus_peers(f->bus), 0);
        assert_int_equal(bus_peers_ever(f->bus), 1);
}

static void test_too_many_connections_are_turned_away(void **state) {
        Fixture *f = *state;
        f->engine.limits.connections = 2;
        int first = peer_socket(f), second = peer_socket(f), ends[2];
        user_socketpair(ends);
        assert_true(bus_add_peer(f->bus, ends[1], &f->error) < 0);
        assert_int_equal(f->error.id, ERROR_QUOTA_EXCEEDED);
        close(first);
        close(second);
        close(ends[0]);
}

static void test_objects_are_those_announced(void **state) {
        Fixture *f = *state;
        Registry *r = &f->engine.registry;
        sd_bus *c = client(f);
        uint32_t count = 0;
        const char *path;

        add_network(f, "debmarshal-0", 1000);
        registry_add_network(r, make_network(r, "debmarshal-1", 1000, "10.64.0.8/29", no_hosts)); /* creating */
        sd_bus_message *m = ask(f, c, method(c, ROOT_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"));
        assert_true(sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}") >= 0);
        while (sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}") > 0) {
                assert_true(sd_bus_message_read(m, "o", &path) >= 0);
                count += string_has_prefix(path, NETWORK_PREFIX "/");
                assert_null(strstr(path, "_2d1"));
                assert_true(sd_bus_message_skip(m, "a{sa{sv}}") >= 0);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
        assert_int_equal(count, 1);
        sd_bus_message_unref(m);

        m = method(c, ROOT_PATH, MANAGER_INTERFACE, "GetNetwork");
        assert_true(sd_bus_message_append(m, "s", "debmarshal-1") >= 0);
        assert_refused(ask(f, c, m), BUS_NAME ".Error.NetworkNotFound", "debmarshal-1");
        m = method(c, NETWORK_PREFIX "/debmarshal_2d1", NETWORK_INTERFACE, "GetHosts");
        assert_refused(ask(f, c, m), SD_BUS_ERROR_UNKNOWN_OBJECT, "debmarshal_2d1");
        sd_bus_close_unref(c);
}

static int on_signal(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        strcat(strcat((char *)userdata, sd_bus_message_get_member(m)), " ");
        return 0;
}

static void test_changes_are_signalled(void **state) {
        Fixture *f = *state;
        Registry *r = &f->engine.registry;
        char heard[256] = "";
        sd_bus *c = client(f);

        sd_bus_message_unref(ask(f, c, method(c, ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping")));
        assert_true(sd_bus_match_signal(c, NULL, NULL, NULL, NULL, NULL, on_signal, heard) >= 0);
        Network *n = add_network(f, "debmarshal-0", 1000);
        Domain *d = make_domain(r, "debmarshal-0", 1000, "debmarshal-0", NULL);
        registry_add_domain(r, d);
        registry_set_domain_state(r, d, DOMAIN_PAUSED);
        registry_set_domain_state(r, d, DOMAIN_RUNNING);
        registry_remove_domain(r, d);
        registry_set_network_state(r, n, NETWORK_FAILED);
        registry_remove_network(r, n);
        turn(f, 12);
        assert_string_equal(heard, "InterfacesAdded PropertiesChanged InterfacesAdded PropertiesChanged "
                                   "InterfacesRemoved PropertiesChanged PropertiesChanged InterfacesRemoved ");
        sd_bus_close_unref(c);
}

static long resident_pages(void) {
        FILE *file = fopen("/proc/self/statm", "re");
        long size, resident;
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%ld %ld", &size, &resident), 2);
        fclose(file);
        return resident;
}

/* Every second network goes, so that what it occupied lies between what stays. */
static void test_memory_of_many_is_given_back(void **state) {
        Fixture *f = *state;
        Registry *r = &f->engine.registry;
        Network *networks[64];
        char *hosts[201] = { NULL }, name[32];

        for (size_t i = 0; i < 200; i++)
                hosts[i] = string_printf("host-%zu-with-a-long-name-in-the-heap", i);
        for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
                snprintf(name, sizeof name, "debmarshal-%zu", i);
                networks[i] = make_network(r, name, 1000, "10.64.0.0/24", hosts);
                registry_add_network(r, networks[i]);
                registry_set_network_state(r, networks[i], NETWORK_UP);
        }
        for (size_t i = 0; i < ARRAY_LEN(networks); i += 2)
                registry_remove_network(r, networks[i]);

        UNUSED
        long before = resident_pages();
        assert_non_null(f->bus->lull);
        while (f->bus->lull)
                assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
        assert_int_equal(f->bus->n_gone, 0);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator has other ways */
        assert_true(resident_pages() < before - 50);
#endif
        for (size_t i = 0; i < 200; i++)
                free(hosts[i]);
}

static void test_lists_are_bounded(void **state) {
        Fixture *f = *state;
        sd_bus *c = client(f);
        sd_bus_message *m = method(c, PRIVOPS_PATH, PRIVOPS_INTERFACE, "createNetwork");

        assert_true(sd_bus_message_open_container(m, 'a', "s") >= 0);
        for (unsigned i = 0; i < HOSTS_PER_NETWORK_MAX + 1; i++)
                assert_true(sd_bus_message_append(m, "s", "") >= 0);
        assert_true(sd_bus_message_close_container(m) >= 0);
        assert_refused(ask(f, c, m), BUS_NAME ".Error.InvalidInput", "at most 4096");

        m = method(c, PRIVOPS_PATH, PRIVOPS_INTERFACE, "createNetwork");
        assert_true(sd_bus_message_append(m, "s", "one") >= 0);
        assert_refused(ask(f, c, m), SD_BUS_ERROR_INVALID_ARGS, "expecting 'as'");
        sd_bus_close_unref(c);
}

static void test_others_objects_are_refused(void **state) {
        Fixture *f = *state;
        sd_bus *c = client(f);
        add_network(f, "debmarshal-0", user_uid() + 1);
        sd_bus_message *m = method(c, NETWORK_PREFIX "/debmarshal_2d0", NETWORK_INTERFACE, "GetHosts");
        assert_refused(ask(f, c, m), BUS_NAME ".Error.AccessDenied", "debmarshal-0");
        sd_bus_close_unref(c);
}

/* A peer whose bytes are written by hand: it authenticates and sends, and never reads. */
static int rude_peer(Fixture *f) {
        char text[64], hex[32] = "", uid[16];
        int fd = peer_socket(f);

        snprintf(uid, sizeof uid, "%u", (unsigned)user_uid());
        for (const char *p = uid; *p; p++)
                sprintf(hex + strlen(hex), "%02x", (unsigned)*p);
        int length = snprintf(text, sizeof text, "%cAUTH EXTERNAL %s\r\nBEGIN\r\n", 0, hex);
        assert_int_equal(write(fd, text, (size_t)length), length);
        turn(f, 6);
        assert_true(face_is_ready(TAILQ_FIRST(&f->bus->faces)));
        return fd;
}

static void test_peer_that_does_not_read_is_dropped(void **state) {
        Fixture *f = *state;
        int fd = rude_peer(f);

        for (unsigned i = 0; i < 3000 && bus_peers(f->bus) > 0; i++) {
                Network *n = add_network(f, "debmarshal-0", 1000);
                registry_remove_network(&f->engine.registry, n);
                turn(f, 1);
        }
        assert_int_equal(bus_peers(f->bus), 0);
        close(fd);
}

static void send_descriptor(int to, int fd) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec byte = { .iov_base = (char[]){ 'x' }, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };
        *CMSG_FIRSTHDR(&message) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                                                     .cmsg_level = SOL_SOCKET,
                                                     .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof fd);
        assert_int_equal(sendmsg(to, &message, 0), 1);
}

/* Without privilege the kernel refuses to send a descriptor while more are under way than the limit allows, which must
 * not be the one that holds while a message is read. */
static void test_descriptors_wait_for_a_slow_reader(void **state) {
        Fixture *f = *state;
        sd_bus_message *m, *answer = NULL;
        uint64_t queued = 0;
        int ends[2], under_way[2];
        f->engine.scope = SCOPE_SESSION;
        sd_bus *c = client(f);
        sd_bus_message_unref(ask(f, c, method(c, ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping")));
        if (geteuid() == 0)
                assert_int_equal(seteuid(USER), 0);
        assert_true(sd_bus_match_signal(c, NULL, NULL, NULL, NULL, "Descriptor", on_reply, &answer) >= 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, under_way), 0);
        send_descriptor(under_way[0], ends[1]);

        Face *face = TAILQ_FIRST(&f->bus->faces);
        for (unsigned i = 0; i < 10000 && queued < 2; i++) {
                assert_true(sd_bus_emit_signal(face->connection, "/", "a.b", "Filler", "s", "with some text") >= 0);
                assert_true(sd_bus_get_n_queued_write(face->connection, &queued) >= 0);
        }
        assert_int_equal(queued, 2);
        assert_true(sd_bus_message_new_signal(face->connection, &m, "/", "a.b", "Descriptor") >= 0);
        assert_true(sd_bus_message_append(m, "h", ends[0]) >= 0);
        assert_true(sd_bus_send(face->connection, m, NULL) >= 0);
        sd_bus_message_unref(m);
        for (unsigned i = 0; i < 20000 && !answer && bus_peers(f->bus) > 0; i++)
                assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
        assert_non_null(answer);
        sd_bus_message_unref(answer);
        sd_bus_close_unref(c);
        for (size_t i = 0; i < 2; i++) {
                close(ends[i]);
                close(under_way[i]);
        }
        if (getuid() == 0)
                assert_int_equal(seteuid(0), 0);
}

static void test_huge_message_is_cut_off_at_its_header(void **state) {
        Fixture *f = *state;
        int fd = rude_peer(f);
        /* Little endian, a method call; 100 MB of body, 128 bytes of header fields. */
        static const unsigned char header[16] = { 'l', 1, 0, 1, 0x00, 0xe1, 0xf5, 0x05, 1, 0, 0, 0, 128, 0, 0, 0 };

        assert_int_equal(write(fd, header, sizeof header), sizeof header);
        turn(f, 3);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator does not tell what is mapped */
        assert_int_equal(bus_peers(f->bus), 0);
#endif
        close(fd);
        turn(f, 2);
        assert_int_equal(bus_peers(f->bus), 0);
}

static void test_clients_that_expect_a_message_bus(void **state) {
        Fixture *f = *state;
        sd_bus *c;
        int fd = peer_socket(f);
        assert_true(sd_bus_new(&c) >= 0);
        assert_true(sd_bus_set_fd(c, fd, fd) >= 0);
        assert_true(sd_bus_set_bus_client(c, true) >= 0); /* says Hello */
        assert_true(sd_bus_start(c) >= 0);
        assert_true(sd_bus_attach_event(c, f->event, 0) >= 0);
        sd_bus_message *m = method(c, ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping");
        m = ask(f, c, m);
        assert_false(sd_bus_message_is_method_error(m, NULL));
        sd_bus_message_unref(m);
        sd_bus_close_unref(c);
}

/* ---- the system bus, whose part the test plays ---- */

typedef struct FakeBus {
        Face *face;
        sd_bus *c;
        sd_bus_message *questions[8]; /* what the daemon has asked of the bus */
        size_t n_questions;
        unsigned n_removed; /* matches that it gave up */
} FakeBus;

static int on_question(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        FakeBus *b = userdata;

        if (!sd_bus_message_is_method_call(m, "org.freedesktop.DBus", NULL))
                return 0;
        if (sd_bus_message_is_method_call(m, NULL, "Hello"))
                return sd_bus_reply_method_return(m, "s", ":1.1");
        if (sd_bus_message_is_method_call(m, NULL, "RemoveMatch")) {
                b->n_removed++;
                return 1;
        }
        assert_true(b->n_questions < ARRAY_LEN(b->questions));
        b->questions[b->n_questions++] = sd_bus_message_ref(m);
        return 1;
}

static void fake_bus_new(Fixture *f, FakeBus *ret) {
        int ends[2];
        sd_id128_t id;
        *ret = (FakeBus){ 0 };
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        assert_int_equal(face_new(f->bus, &ret->face), 0);
        ret->face->is_system = true;
        assert_true(sd_bus_new(&ret->face->connection) >= 0);
        assert_true(sd_bus_set_fd(ret->face->connection, ends[1], ends[1]) >= 0);
        assert_true(sd_bus_set_bus_client(ret->face->connection, true) >= 0);
        assert_true(senders_watch(ret->face) >= 0);
        assert_true(face_add_objects(ret->face) >= 0);
        assert_true(sd_bus_start(ret->face->connection) >= 0);
        assert_true(sd_bus_attach_event(ret->face->connection, f->event, 0) >= 0);

        assert_true(sd_id128_randomize(&id) >= 0);
        assert_true(sd_bus_new(&ret->c) >= 0);
        assert_true(sd_bus_set_fd(ret->c, ends[0], ends[0]) >= 0);
        assert_true(sd_bus_set_server(ret->c, true, id) >= 0);
        assert_true(sd_bus_start(ret->c) >= 0);
        assert_true(sd_bus_add_filter(ret->c, NULL, on_question, ret) >= 0);
        assert_true(sd_bus_attach_event(ret->c, f->event, 0) >= 0);
        turn(f, 30);
        assert_true(sd_bus_is_ready(ret->face->connection) > 0);
}

static void fake_bus_free(FakeBus *b) {
        while (b->n_questions > 0)
                sd_bus_message_unref(b->questions[--b->n_questions]);
        sd_bus_close_unref(b->c);
}

/* Some client of the bus calls; *reply is set when the answer is there. */
static void call_from(FakeBus *b, const char *sender, const char *path, const char *interface, const char *member,
                      uint64_t argument, sd_bus_message **reply) {
        sd_bus_message *m = method(b->c, path, interface, member);
        assert_true(sd_bus_message_set_sender(m, sender) >= 0);
        assert_true(sd_bus_message_set_destination(m, BUS_NAME) >= 0);
        if (string_equal(member, "Wait"))
                assert_true(sd_bus_message_append(m, "t", argument) >= 0);
        if (string_equal(member, "Get"))
                assert_true(sd_bus_message_append(m, "ss", MANAGER_INTERFACE, "CallerUid") >= 0);
        *reply = NULL;
        assert_true(sd_bus_call_async(b->c, NULL, m, on_reply, reply, UINT64_MAX) >= 0);
        sd_bus_message_unref(m);
}

static void ask_uid(FakeBus *b, const char *sender, sd_bus_message **reply) {
        call_from(b, sender, ROOT_PATH, "org.freedesktop.DBus.Properties", "Get", 0, reply);
}

static void assert_asked(const FakeBus *b, size_t index, const char *member, const char *argument) {
        const char *text;
        assert_true(index < b->n_questions);
        assert_true(sd_bus_message_is_method_call(b->questions[index], NULL, member));
        assert_true(sd_bus_message_read(b->questions[index], "s", &text) >= 0);
        assert_non_null(strstr(text, argument));
}

static void assert_uid(sd_bus_message *reply, uint32_t expected) {
        uint32_t uid;
        assert_non_null(reply);
        if (sd_bus_message_is_method_error(reply, NULL))
                fail_msg("%s", sd_bus_message_get_error(reply)->message);
        assert_true(sd_bus_message_read(reply, "v", "u", &uid) >= 0);
        assert_int_equal(uid, expected);
        sd_bus_message_unref(reply);
}

/* The loop turns while the bus is asked, and calls keep their order. */
static void test_senders_are_asked_for_once(void **state) {
        Fixture *f = *state;
        sd_bus_message *replies[4];
        FakeBus b;
        fake_bus_new(f, &b);

        ask_uid(&b, ":1.7", &replies[0]);
        ask_uid(&b, ":1.8", &replies[1]);
        ask_uid(&b, ":1.7", &replies[2]);
        turn(f, 40);
        assert_int_equal(b.n_questions, 2);
        assert_asked(&b, 0, "GetConnectionUnixUser", ":1.7");
        assert_asked(&b, 1, "GetConnectionUnixUser", ":1.8");
        assert_true(!replies[0] && !replies[1] && !replies[2]);

        assert_true(sd_bus_reply_method_return(b.questions[1], "u", 1008u) >= 0);
        turn(f, 20);
        assert_true(!replies[0] && !replies[2]);
        assert_uid(replies[1], 1008);
        assert_true(sd_bus_reply_method_return(b.questions[0], "u", 1007u) >= 0);
        turn(f, 20);
        assert_non_null(replies[0]);
        assert_non_null(replies[2]);
        assert_uid(replies[0], 1007);
        assert_uid(replies[2], 1007);

        ask_uid(&b, ":1.7", &replies[3]); /* who is known by now */
        turn(f, 20);
        assert_uid(replies[3], 1007);
        assert_int_equal(b.n_questions, 2);
        fake_bus_free(&b);
}

/* Calls that come between the answer and the held ones do not overtake them. */
static void test_held_calls_keep_their_order(void **state) {
        Fixture *f = *state;
        sd_bus_message *replies[20];
        FakeBus b;
        fake_bus_new(f, &b);

        for (size_t i = 0; i < 10; i++)
                ask_uid(&b, ":1.7", &replies[i]);
        turn(f, 60);
        assert_int_equal(b.n_questions, 1);
        assert_true(sd_bus_reply_method_return(b.questions[0], "u", 1007u) >= 0);
        for (size_t i = 10; i < ARRAY_LEN(replies); i++)
                ask_uid(&b, ":1.7", &replies[i]);
        for (size_t turns = 0; turns < 400; turns++) {
                turn(f, 1);
                for (size_t i = 1; i < ARRAY_LEN(replies); i++)
                        assert_true(replies[i - 1] || !replies[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(replies); i++)
                assert_uid(replies[i], 1007);
        fake_bus_free(&b);
}

static void test_unknown_senders_are_refused(void **state) {
        Fixture *f = *state;
        sd_bus_message *replies[3];
        FakeBus b;
        fake_bus_new(f, &b);

        ask_uid(&b, ":1.7", &replies[0]);
        call_from(&b, ":1.7", ROOT_PATH, MANAGER_INTERFACE, "GetUsage", 0, &replies[1]);
        turn(f, 20);
        assert_true(sd_bus_reply_method_errorf(b.questions[0], SD_BUS_ERROR_NAME_HAS_NO_OWNER, "it has gone") >= 0);
        turn(f, 20);
        assert_non_null(replies[0]);
        assert_refused(replies[0], BUS_NAME ".Error.AccessDenied", "it has gone");
        assert_non_null(replies[1]);
        assert_refused(replies[1], BUS_NAME ".Error.AccessDenied", "it has gone");
        assert_int_equal(b.face->n_senders, 0);

        /* Not remembered as anybody: the next call is asked for anew. */
        ask_uid(&b, ":1.7", &replies[2]);
        turn(f, 20);
        assert_int_equal(b.n_questions, 2);
        assert_true(sd_bus_reply_method_return(b.questions[1], "u", UINT32_MAX) >= 0);
        turn(f, 20);
        assert_non_null(replies[2]);
        assert_refused(replies[2], BUS_NAME ".Error.AccessDenied", "makes no sense");
        fake_bus_free(&b);
}

/* A busy bus is no reason to take a client for nobody: what else is asked of it may have run out of time by then. */
static void test_a_slow_bus_is_waited_for(void **state) {
        Fixture *f = *state;
        sd_bus_message *replies[3];
        FakeBus b;
        fake_bus_new(f, &b);
        assert_true(sd_bus_set_method_call_timeout(b.face->connection, 10 * USEC_PER_MSEC) >= 0);

        ask_uid(&b, ":1.7", &replies[0]);
        uint64_t until = now_monotonic_usec() + 50 * USEC_PER_MSEC;
        while (b.n_questions == 0 || now_monotonic_usec() < until)
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        assert_null(replies[0]);
        assert_true(sd_bus_reply_method_return(b.questions[0], "u", 1007u) >= 0);
        turn(f, 20);
        assert_uid(replies[0], 1007);

        /* Nor is one that does not answer. It has not said that there is nobody. */
        ask_uid(&b, ":1.8", &replies[1]);
        ask_uid(&b, ":1.8", &replies[2]);
        turn(f, 20);
        assert_int_equal(b.n_questions, 2);
        assert_true(sd_bus_reply_method_errorf(b.questions[1], SD_BUS_ERROR_NO_REPLY, "timed out") >= 0);
        turn(f, 20);
        for (size_t i = 1; i < ARRAY_LEN(replies); i++) {
                assert_non_null(replies[i]);
                assert_refused(replies[i], BUS_NAME ".Error.Busy", "try again");
        }
        assert_int_equal(b.face->n_senders, 1);
        fake_bus_free(&b);
}

static void test_memory_of_senders_is_bounded(void **state) {
        Fixture *f = *state;
        static sd_bus_message *replies[REQUESTS_PER_UID_MAX + 2];
        sd_bus_message *reply;
        char name[16];
        FakeBus b;
        fake_bus_new(f, &b);

        for (size_t i = 0; i < ARRAY_LEN(replies); i++)
                ask_uid(&b, ":1.7", &replies[i]);
        while (!replies[REQUESTS_PER_UID_MAX + 1])
                turn(f, 1);
        assert_null(replies[REQUESTS_PER_UID_MAX - 1]);
        for (size_t i = REQUESTS_PER_UID_MAX; i < ARRAY_LEN(replies); i++)
                assert_refused(replies[i], BUS_NAME ".Error.QuotaExceeded", "Too many calls");
        assert_true(sd_bus_reply_method_return(b.questions[0], "u", 1007u) >= 0);
        while (!replies[REQUESTS_PER_UID_MAX - 1])
                turn(f, 1);
        for (size_t i = 0; i < REQUESTS_PER_UID_MAX; i++)
                assert_uid(replies[i], 1007);

        for (unsigned i = 0; i < 300; i++) {
                snprintf(name, sizeof name, ":1.%u", 100 + i);
                ask_uid(&b, name, &reply);
                while (b.n_questions < 2)
                        turn(f, 1);
                assert_true(sd_bus_reply_method_return(b.questions[1], "u", 2000u + i) >= 0);
                sd_bus_message_unref(b.questions[--b.n_questions]);
                while (!reply)
                        turn(f, 1);
                assert_uid(reply, 2000 + i);
        }
        assert_true(b.face->n_senders <= 256);
        ask_uid(&b, ":1.399", &reply); /* the last one is remembered */
        turn(f, 20);
        assert_uid(reply, 2299);
        fake_bus_free(&b);
}

/* All who wait share one match, and none is waited for once it has gone. */
static void test_waits_end_with_their_clients(void **state) {
        Fixture *f = *state;
        sd_bus_message *replies[3];
        FakeBus b;
        fake_bus_new(f, &b);
        Domain *d = make_domain(&f->engine.registry, "debmarshal-0", 1007, "debmarshal-0", NULL);
        registry_add_domain(&f->engine.registry, d);
        registry_set_domain_state(&f->engine.registry, d, DOMAIN_RUNNING);

        for (size_t i = 0; i < ARRAY_LEN(replies); i++)
                call_from(&b, i < 2 ? ":1.7" : ":1.8", DOMAIN_PREFIX "/debmarshal_2d0", DOMAIN_INTERFACE, "Wait", 0,
                          &replies[i]);
        turn(f, 30);
        assert_int_equal(b.n_questions, 2);
        for (size_t i = 0; i < 2; i++)
                assert_true(sd_bus_reply_method_return(b.questions[i], "u", 1007u) >= 0);
        turn(f, 60);
        assert_int_equal(b.n_questions, 6);
        assert_asked(&b, 2, "AddMatch", "member='NameOwnerChanged',arg2=''");
        for (size_t i = 3; i < 6; i++)
                assert_asked(&b, i, "NameHasOwner", i < 5 ? ":1.7" : ":1.8");
        assert_true(sd_bus_reply_method_errorf(b.questions[2], SD_BUS_ERROR_LIMITS_EXCEEDED, "no") >= 0);
        assert_true(sd_bus_reply_method_return(b.questions[3], "b", 1) >= 0);
        assert_true(sd_bus_reply_method_return(b.questions[5], "b", 0) >= 0); /* it has gone already */
        turn(f, 30);
        assert_int_equal(b.face->n_waits, 2);
        assert_true(face_is_ready(b.face));

        sd_bus_message *m = NULL;
        assert_true(sd_bus_message_new_signal(b.c, &m, "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                              "NameOwnerChanged") >= 0);
        assert_true(sd_bus_message_append(m, "sss", ":1.7", ":1.7", "") >= 0);
        assert_true(sd_bus_message_set_sender(m, "org.freedesktop.DBus") >= 0);
        assert_true(sd_bus_send(b.c, m, NULL) >= 0);
        sd_bus_message_unref(m);
        turn(f, 30);
        assert_int_equal(b.face->n_waits, 0);
        assert_null(b.face->gone_match);
        assert_int_equal(b.n_removed, 1);
        assert_true(TAILQ_EMPTY(&f->bus->requests));
        assert_true(!replies[0] && !replies[1] && !replies[2]);
        fake_bus_free(&b);
}

static void test_text_is_made_utf8(void **state UNUSED) {
        static const struct {
                const char *in, *out;
        } rows[] = {
                { NULL, "" },
                { "", "" },
                { "plain", "plain" },
                { "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
                  "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80" },
                { "\xff", "\\xff" },
                { "a\xc3", "a\\xc3" },                          /* cut */
                { "\xc0\xaf", "\\xc0\\xaf" },                   /* overlong */
                { "\xed\xa0\x80", "\\xed\\xa0\\x80" },          /* a surrogate */
                { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, /* past the end */
        };
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                char *copy;
                assert_string_equal(valid_text(rows[i].in, &copy), rows[i].out);
                free(copy);
        }
}

/* A sealed message with the variants of a dictionary's values, to be read back. */
static sd_bus_message *sealed(sd_bus *c, const char *types, ...) {
        sd_bus_message *m = method(c, "/", "a.b", "C");
        va_list arguments;
        va_start(arguments, types);
        assert_true(sd_bus_message_appendv(m, types, arguments) >= 0);
        va_end(arguments);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
        return m;
}

static void test_variants_are_read(void **state) {
        Fixture *f = *state;
        sd_bus *c = client(f);
        ExtraValue v;
        static const struct {
                const char *type;
                uint64_t number;
        } integers[] = { { "y", 200 }, { "q", 60000 }, { "i", 7 }, { "u", 4000000000 } };

        for (size_t i = 0; i < ARRAY_LEN(integers); i++) {
                sd_bus_message *m = sealed(c, "v", integers[i].type, (unsigned)integers[i].number);
                assert_true(read_extra(m, &v, &f->error) >= 0);
                assert_int_equal(v.kind, EXTRA_NUMBER);
                assert_int_equal(v.number, integers[i].number);
                sd_bus_message_unref(m);
        }

        sd_bus_message *m = sealed(c, "vvvvvvv", "t", UINT64_MAX, "x", INT64_MIN, "n", -1, "b", 1, "s", "text", "as", 2,
                                   "a", "b", "a{s(ii)}", 1, "k", 1, 2);
        assert_true(read_extra(m, &v, &f->error) >= 0);
        assert_true(v.kind == EXTRA_NUMBER && v.number == UINT64_MAX);
        assert_true(read_extra(m, &v, &f->error) >= 0);
        assert_int_equal(v.kind, EXTRA_OTHER);
        assert_true(read_extra(m, &v, &f->error) >= 0);
        assert_int_equal(v.kind, EXTRA_OTHER);
        assert_true(read_extra(m, &v, &f->error) >= 0);
        assert_true(v.kind == EXTRA_BOOLEAN && v.boolean);
        assert_true(read_extra(m, &v, &f->error) >= 0);
        assert_int_equal(v.kind, EXTRA_STRING);
        assert_string_equal(v.string, "text");
        assert_true(read_extra(m, &v, &f->error) >= 0);
        assert_int_equal(v.kind, EXTRA_STRINGS);
        assert_string_equal(v.strings[1], "b");
        assert_null(v.strings[2]);
        extra_value_drop(&v);
        assert_true(read_extra(m, &v, &f->error) >= 0); /* skipped whole */
        assert_int_equal(v.kind, EXTRA_OTHER);
        assert_true(sd_bus_message_at_end(m, true) > 0);
        sd_bus_message_unref(m);
        sd_bus_close_unref(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_caller_is_the_kernels),
                TEST(test_too_many_connections_are_turned_away),
                TEST(test_objects_are_those_announced),
                TEST(test_changes_are_signalled),
                TEST(test_memory_of_many_is_given_back),
                TEST(test_lists_are_bounded),
                TEST(test_others_objects_are_refused),
                TEST(test_peer_that_does_not_read_is_dropped),
                TEST(test_descriptors_wait_for_a_slow_reader),
                TEST(test_huge_message_is_cut_off_at_its_header),
                TEST(test_clients_that_expect_a_message_bus),
                TEST(test_senders_are_asked_for_once),
                TEST(test_held_calls_keep_their_order),
                TEST(test_unknown_senders_are_refused),
                TEST(test_a_slow_bus_is_waited_for),
                TEST(test_memory_of_senders_is_bounded),
                TEST(test_waits_end_with_their_clients),
                TEST(test_text_is_made_utf8),
                TEST(test_variants_are_read),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
