#include "cli/value.h"

#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "base/error.h"
#include "base/macros.h"
#include "base/test-support.h"
#include "cli/objects.h"

/* A message needs a bus that was started; nobody listens at its other end. */
typedef struct Fixture {
        sd_bus *bus;
        int sockets[2];
        sd_bus_message *m;
} Fixture;

static int setup(void **state) {
        static Fixture f;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f.sockets), 0);
        assert_true(sd_bus_new(&f.bus) >= 0);
        assert_true(sd_bus_set_fd(f.bus, f.sockets[0], f.sockets[0]) >= 0);
        assert_true(sd_bus_start(f.bus) >= 0);
        assert_true(sd_bus_message_new_method_call(f.bus, &f.m, NULL, "/x", "x.y", "z") >= 0);
        *state = &f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        f->m = sd_bus_message_unref(f->m);
        f->bus = sd_bus_close_unref(f->bus);
        close(f->sockets[1]);
        return 0;
}

static void send_and_rewind(sd_bus_message *m) {
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
}

static void test_properties_become_members(void **state) {
        sd_bus_message *m = ((Fixture *)*state)->m;
        AUTO(json_drop) json_t *object = NULL, *expected = NULL;

        assert_true(sd_bus_message_append(m, "a{sv}", 6, "Name", "s", "n", "CreatedUsec", "t", (uint64_t)1 << 40,
                                          "Ipv6Mode", "s", "slaac", "Usable", "b", 1, "Owner", "u", 1000u, "Nics",
                                          "a(sss)", 2, "a", "b", "c", "d", "e", "") >= 0);
        send_and_rewind(m);
        assert_int_equal(value_read_properties(m, &object), 0);
        expected = json_loads(
                "{\"name\": \"n\", \"created_usec\": 1099511627776, \"ipv6_mode\": \"slaac\", "
                "\"usable\": true, \"owner\": 1000, \"nics\": [[\"a\", \"b\", \"c\"], [\"d\", \"e\", \"\"]]}",
                0, NULL);
        assert_true(json_equal(object, expected));
}

static void test_large_numbers_are_clamped(void **state) {
        sd_bus_message *m = ((Fixture *)*state)->m;
        AUTO(json_drop) json_t *object = NULL;

        assert_true(sd_bus_message_append(m, "a{sv}", 1, "Big", "t", UINT64_MAX) >= 0);
        send_and_rewind(m);
        assert_int_equal(value_read_properties(m, &object), 0);
        assert_int_equal(value_number(object, "big"), INT64_MAX);
}

static void test_other_messages_are_refused(void **state) {
        sd_bus_message *m = ((Fixture *)*state)->m;
        AUTO(json_drop) json_t *object = NULL;

        assert_true(sd_bus_message_append(m, "s", "not a dictionary") >= 0);
        send_and_rewind(m);
        assert_true(value_read_properties(m, &object) < 0);
        assert_null(object);
}

static void test_snake_case(void **state) {
        char buffer[16];

        (void)state;
        snake_case("HostCount", buffer, sizeof buffer);
        assert_string_equal(buffer, "host_count");
        snake_case("Subnet6", buffer, sizeof buffer);
        assert_string_equal(buffer, "subnet6");
        snake_case("AVeryLongNameThatIsCut", buffer, sizeof buffer);
        assert_true(strlen(buffer) < sizeof buffer);
}

static void test_absent_members_are_empty(void **state) {
        AUTO(json_drop) json_t *object = json_loads("{\"n\": -5, \"s\": 7}", 0, NULL);

        (void)state;
        assert_string_equal(value_text(object, "absent"), "");
        assert_string_equal(value_text(object, "s"), "");
        assert_int_equal(value_number(object, "absent"), 0);
        assert_int_equal(value_number(object, "n"), 0);
        assert_string_equal(value_text(NULL, "x"), "");
}

static void test_domain_by_host(void **state) {
        AUTO(json_drop)
        json_t *domains = json_loads(
                "[{\"name\": \"debmarshal-0\", \"nics\": [{\"host\": \"\"}, {\"host\": \"web\"}]},"
                " {\"name\": \"debmarshal-1\", \"nics\": [{\"host\": \"db\"}]},"
                " {\"name\": \"debmarshal-2\", \"nics\": [{\"host\": \"DB\"}]}, {\"name\": \"debmarshal-3\"}]",
                0, NULL);
        AUTO(error_clear) Error none = ERROR_INIT, several = ERROR_INIT, empty = ERROR_INIT;
        const char *name = NULL;

        (void)state;
        assert_non_null(domains);
        assert_int_equal(domain_by_host(domains, "WEB", &name, NULL), 0);
        assert_string_equal(name, "debmarshal-0");
        assert_string_equal(domain_host(json_array_get(domains, 0)), "web");
        assert_true(domain_by_host(domains, "mail", &name, &none) < 0);
        assert_int_equal(none.id, ERROR_DOMAIN_NOT_FOUND);
        assert_true(domain_by_host(domains, "db", &name, &several) < 0);
        assert_string_equal(error_text(&several), "several of your domains are host db: debmarshal-1, debmarshal-2");
        assert_true(domain_by_host(domains, "", &name, &empty) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_properties_become_members, setup, teardown),
                cmocka_unit_test_setup_teardown(test_large_numbers_are_clamped, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_messages_are_refused, setup, teardown),
                cmocka_unit_test(test_snake_case),
                cmocka_unit_test(test_absent_members_are_empty),
                cmocka_unit_test(test_domain_by_host),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
