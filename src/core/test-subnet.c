#include "core/subnet.h"

#include <string.h>

#include "base/test-support.h"

static Subnet subnet(const char *text) {
        Subnet s;

        assert_int_equal(subnet_parse(text, &s), 0);
        return s;
}

static void test_parse_and_format(void **state) {
        (void)state;
        static const char *const good[] = { "10.1.2.0/24", "0.0.0.0/0", "255.255.255.255/32", "192.168.0.128/25" };
        char buffer[SUBNET_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                Subnet s = subnet(good[i]);
                assert_string_equal(subnet_format(&s, buffer), good[i]);
        }
}

static void test_parse_refuses(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",
                "10.1.2.0",
                "10.1.2.0/",
                "10.1.2.0/33",
                "10.1.2.1/24",
                "10.1.2.0/024",
                "10.1.2/24",
                "10.1.2.0/24 ",
                " 10.1.2.0/24",
                "10.1.2.0/24\n",
                "010.1.2.0/24",
                "10.1.2.0/-1",
                "10.1.2.0/+1",
                "256.1.2.0/24",
                "10.1.2.0/24/1",
                "/24",
                "0x0a.1.2.0/24",
                "::/0",
                "10.1.2.0.0.0.0.0.0.0/24",
        };
        Subnet s;

        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(subnet_parse(bad[i], &s), -EINVAL);
        assert_int_equal(subnet_parse(NULL, &s), -EINVAL);
}

static void test_addresses(void **state) {
        (void)state;
        Subnet s = subnet("10.1.2.0/24"), all = subnet("0.0.0.0/0");
        char buffer[ADDRESS_TEXT_MAX];

        assert_string_equal(address_format(subnet_gateway(&s), buffer), "10.1.2.1");
        assert_string_equal(address_format(subnet_host(&s, 0), buffer), "10.1.2.2");
        assert_string_equal(address_format(UINT32_MAX, buffer), "255.255.255.255");
        assert_string_equal(subnet_netmask(&s, buffer), "255.255.255.0");
        assert_string_equal(subnet_netmask(&all, buffer), "0.0.0.0");
        assert_true(subnet_size(&all) == 1ULL << 32);
}

static void test_relations(void **state) {
        (void)state;
        Subnet all = subnet("0.0.0.0/0"), a = subnet("10.0.0.0/8"), b = subnet("10.255.255.0/24"),
               c = subnet("11.0.0.0/24"), last = subnet("255.255.255.0/24");

        assert_true(subnet_overlaps(&a, &b) && subnet_overlaps(&b, &a) && subnet_overlaps(&a, &a));
        assert_false(subnet_overlaps(&b, &c) || subnet_overlaps(&c, &b));
        assert_true(subnet_overlaps(&all, &last) && subnet_overlaps(&last, &all));
        assert_true(subnet_contains(&a, &b) && subnet_contains(&all, &last) && subnet_contains(&a, &a));
        assert_false(subnet_contains(&b, &a) || subnet_contains(&a, &c));
}

static void test_prefix_for(void **state) {
        (void)state;
        static const struct {
                size_t hosts;
                uint8_t prefix;
        } cases[] = { { 0, 29 },  { 1, 29 },   { 5, 29 },   { 6, 28 },   { 13, 28 },
                      { 14, 27 }, { 253, 24 }, { 254, 23 }, { 4096, 19 } };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                assert_int_equal(subnet_prefix_for(cases[i].hosts), cases[i].prefix);
        assert_int_equal(subnet_prefix_for(SIZE_MAX), 0);
}

static void test_check_asked(void **state) {
        (void)state;
        static const struct {
                const char *text;
                size_t hosts;
                bool fine;
        } cases[] = {
                { "10.0.0.0/8", 4096, true },     { "192.168.1.0/30", 1, true },     { "192.168.1.0/30", 2, false },
                { "192.168.1.0/31", 0, false },   { "192.168.1.0/32", 0, false },    { "8.0.0.0/7", 0, false },
                { "0.0.0.0/0", 0, false },        { "0.0.0.0/8", 0, false },         { "127.0.0.0/8", 0, false },
                { "127.0.1.0/24", 0, false },     { "169.254.1.0/24", 0, false },    { "169.0.0.0/8", 0, false },
                { "169.253.0.0/16", 0, true },    { "224.0.0.0/24", 0, false },      { "240.0.0.0/8", 0, false },
                { "255.255.255.0/24", 0, false }, { "223.255.255.0/24", 253, true }, { "223.255.255.0/24", 254, false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                AUTO(error_clear) Error e = ERROR_INIT;
                Subnet s = subnet(cases[i].text);
                assert_int_equal(subnet_check_asked(&s, cases[i].hosts, &e), cases[i].fine ? 0 : -EINVAL);
                assert_int_equal(e.id, cases[i].fine ? ERROR_NONE : ERROR_INVALID_INPUT);
        }
}

static void assert_allocates(const char *pool_text, uint8_t prefix, const Subnet *taken, size_t n,
                             const char *expected) {
        AUTO(subnet_set_clear) SubnetSet set = { 0 };
        Subnet pool = subnet(pool_text), got;
        char buffer[SUBNET_TEXT_MAX];
        AUTO(error_clear) Error e = ERROR_INIT;

        for (size_t i = 0; i < n; i++)
                assert_int_equal(subnet_set_add(&set, &taken[i]), 0);
        if (!expected) {
                assert_int_equal(subnet_allocate(&pool, prefix, &set, &got, &e), -EADDRNOTAVAIL);
                assert_int_equal(e.id, ERROR_NO_AVAILABLE_IPS);
                return;
        }
        assert_int_equal(subnet_allocate(&pool, prefix, &set, &got, &e), 0);
        assert_string_equal(subnet_format(&got, buffer), expected);
}

static void test_allocate_lowest(void **state) {
        (void)state;
        Subnet taken[] = { subnet("10.64.0.16/29"), subnet("10.64.0.0/29"), subnet("10.64.0.32/28") };

        assert_allocates("10.64.0.0/10", 29, NULL, 0, "10.64.0.0/29");
        assert_allocates("10.64.0.0/10", 29, taken, 3, "10.64.0.8/29");
        /* Aligned: 10.64.0.24 would be free, but is no /28. */
        assert_allocates("10.64.0.0/10", 28, taken, 3, "10.64.0.48/28");
        assert_allocates("10.64.0.0/10", 24, taken, 3, "10.64.1.0/24");
}

static void test_allocate_around_asked_ones(void **state) {
        (void)state;
        /* Outside the pool, around it, inside one another, twice the same. */
        Subnet outside[] = { subnet("192.168.0.0/16"), subnet("10.0.0.0/24"), subnet("10.128.0.0/9") };
        Subnet nested[] = { subnet("10.64.0.8/29"), subnet("10.64.0.0/24"), subnet("10.64.0.0/24"),
                            subnet("10.64.0.0/30") };
        Subnet around[] = { subnet("10.0.0.0/8") };

        assert_allocates("10.64.0.0/10", 29, outside, 3, "10.64.0.0/29");
        assert_allocates("10.64.0.0/10", 29, nested, 4, "10.64.1.0/29");
        assert_allocates("10.64.0.0/10", 29, around, 1, NULL);
}

static void test_allocate_until_full(void **state) {
        (void)state;
        Subnet pool = subnet("10.64.0.0/24"), taken[33];

        AUTO(subnet_set_clear) SubnetSet set = { 0 };

        for (size_t n = 0; n < 32; n++) {
                assert_int_equal(subnet_allocate(&pool, 29, &set, &taken[n], NULL), 0);
                assert_int_equal(subnet_set_add(&set, &taken[n]), 0);
        }
        for (size_t i = 0; i < 32; i++)
                for (size_t j = 0; j < i; j++)
                        assert_false(subnet_overlaps(&taken[i], &taken[j]));
        assert_allocates("10.64.0.0/24", 29, taken, 32, NULL);
        assert_allocates("10.64.0.0/24", 23, NULL, 0, NULL);
        assert_allocates("10.64.0.0/24", 24, NULL, 0, "10.64.0.0/24");
}

static void test_set_is_in_order(void **state) {
        (void)state;
        AUTO(subnet_set_clear) SubnetSet set = { 0 };
        static const char *const texts[] = { "10.3.0.0/16", "10.1.0.0/16", "10.2.0.0/24", "10.2.0.0/16",
                                             "10.1.0.0/16" };
        Subnet strange = subnet("10.2.0.0/17"), s;

        for (size_t round = 0; round < 3; round++)
                for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                        s = subnet(texts[i]);
                        assert_int_equal(subnet_set_add(&set, &s), 0);
                }
        subnet_set_remove(&set, &strange);
        assert_int_equal(set.count, 15);
        for (size_t i = 1; i < set.count; i++)
                assert_true(set.items[i - 1].base <= set.items[i].base);

        s = subnet("10.2.0.0/24");
        for (int i = 0; i < 4; i++)
                subnet_set_remove(&set, &s);
        assert_int_equal(set.count, 12);
        for (size_t i = 0; i < set.count; i++)
                assert_int_equal(set.items[i].prefix, 16);
}

static void test_allocate_at_the_end_of_the_space(void **state) {
        (void)state;
        Subnet taken[] = { subnet("255.255.255.0/24") };

        assert_allocates("255.255.255.0/24", 29, taken, 1, NULL);
        assert_allocates("255.255.254.0/23", 24, taken, 1, "255.255.254.0/24");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_and_format),
                cmocka_unit_test(test_parse_refuses),
                cmocka_unit_test(test_addresses),
                cmocka_unit_test(test_relations),
                cmocka_unit_test(test_prefix_for),
                cmocka_unit_test(test_check_asked),
                cmocka_unit_test(test_allocate_lowest),
                cmocka_unit_test(test_allocate_around_asked_ones),
                cmocka_unit_test(test_allocate_until_full),
                cmocka_unit_test(test_set_is_in_order),
                cmocka_unit_test(test_allocate_at_the_end_of_the_space),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
