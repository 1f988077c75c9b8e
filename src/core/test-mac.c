#include "core/mac.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/macros.h"
#include "base/test-support.h"

static void test_parse_and_format(void **state) {
        (void)state;
        Mac mac;
        char text[MAC_TEXT_MAX];

        assert_int_equal(mac_parse("00:16:3E:aB:0c:ff", &mac), 0);
        assert_string_equal(mac_format(&mac, text), "00:16:3e:ab:0c:ff");
        assert_int_equal(mac_parse("02:00:00:00:00:00", &mac), 0);
}

static void test_parse_refuses(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",
                "00:16:3e:ab:0c",
                "00:16:3e:ab:0c:ff:00",
                "00:16:3e:ab:0c:ff\n",
                "00:16:3e:ab:0c:ff ",
                " 00:16:3e:ab:0c:ff",
                "00:16:3e:ab:0c:f",
                "0:16:3e:ab:0c:fff",
                "00-16-3e-ab-0c-ff",
                "00163eab0cff",
                "00:16:3e:ab:0c:fg",
                "00:16:3e:ab:0c,ff",
                "01:16:3e:ab:0c:ff", /* multicast */
                "ff:ff:ff:ff:ff:ff", /* broadcast */
                "00:00:00:00:00:00",
        };
        Mac mac;

        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(mac_parse(bad[i], &mac), -EINVAL);
        assert_int_equal(mac_parse(NULL, &mac), -EINVAL);
}

static void test_random_is_xens(void **state) {
        (void)state;
        Mac a, b, c;
        char text[MAC_TEXT_MAX];

        for (int i = 0; i < 100; i++) {
                assert_int_equal(mac_random(&a), 0);
                assert_memory_equal(mac_format(&a, text), "00:16:3e:", 9);
                assert_int_equal(mac_parse(text, &b), 0);
                assert_true(mac_equal(&a, &b));
        }
        assert_int_equal(mac_random(&b), 0);
        assert_int_equal(mac_random(&c), 0);
        assert_false(mac_equal(&a, &b) && mac_equal(&b, &c));
}

static void test_eui64(void **state) {
        (void)state;
        Mac mac;
        struct in6_addr prefix, expected;

        assert_int_equal(mac_parse("00:16:3e:12:34:56", &mac), 0);
        inet_pton(AF_INET6, "fd00:1:2:3::", &prefix);
        inet_pton(AF_INET6, "fd00:1:2:3:216:3eff:fe12:3456", &expected);
        struct in6_addr address = mac_eui64(&mac, &prefix);
        assert_memory_equal(&address, &expected, sizeof address);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_and_format),
                cmocka_unit_test(test_parse_refuses),
                cmocka_unit_test(test_random_is_xens),
                cmocka_unit_test(test_eui64),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
