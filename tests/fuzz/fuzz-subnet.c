/* Subnets and MAC addresses: one a line. The first line is the pool, and the last character of the input says which
 * prefix is to be found in it beside all the others. */
#include "base/string-util.h"
#include "core/mac.h"
#include "core/subnet.h"
#include "fuzz.h"

#define TAKEN_MAX 64

static void check_mac(const char *text) {
        char buffer[MAC_TEXT_MAX];
        Mac mac, again;

        if (mac_parse(text, &mac) < 0)
                return;
        CHECK(!(mac.octets[0] & 1));
        CHECK(mac_parse(mac_format(&mac, buffer), &again) == 0 && mac_equal(&mac, &again));
}

static void check_subnet(const char *text) {
        char buffer[SUBNET_TEXT_MAX];
        Subnet s;

        if (subnet_parse(text, &s) < 0)
                return;
        CHECK(string_equal(subnet_format(&s, buffer), text));
        if (subnet_check_asked(&s, 1, NULL) == 0)
                CHECK(s.prefix >= 8 && s.prefix <= 30 && s.base >= 0x01000000 && s.base < 0xe0000000);
}

static bool is_free(const Subnet *candidate, const Subnet *taken, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (subnet_overlaps(candidate, &taken[i]))
                        return false;
        return true;
}

/* What is given is free, and the first that is; what is refused has no room indeed. */
static void check_allocation(const Subnet *pool, uint8_t prefix, const Subnet *taken, size_t n) {
        Subnet got = { .base = 0 }, candidate = { .prefix = prefix };
        AUTO(subnet_set_clear) SubnetSet set = { 0 };

        for (size_t i = 0; i < n; i++)
                CHECK(subnet_set_add(&set, &taken[i]) == 0);
        bool given = subnet_allocate(pool, prefix, &set, &got, NULL) == 0;

        if (given)
                CHECK(got.prefix == prefix && (got.base & (subnet_size(&got) - 1)) == 0 &&
                      subnet_contains(pool, &got) && is_free(&got, taken, n));
        if (prefix < pool->prefix || prefix - pool->prefix > 10)
                return;
        for (uint64_t at = pool->base; at < pool->base + subnet_size(pool); at += subnet_size(&candidate)) {
                candidate.base = (uint32_t)at;
                if (given && at == got.base)
                        return;
                CHECK(!is_free(&candidate, taken, n));
        }
        CHECK(!given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_text(data, size), *rest = text, *line;
        Subnet pool = { .prefix = 0 }, taken[TAKEN_MAX];
        bool have_pool = false;
        size_t n = 0;

        while ((line = strsep(&rest, "\n"))) {
                check_mac(line);
                check_subnet(line);
                if (!have_pool)
                        have_pool = subnet_parse(line, &pool) == 0;
                else if (n < TAKEN_MAX && subnet_parse(line, &taken[n]) == 0)
                        n++;
        }
        if (have_pool)
                check_allocation(&pool, data[size - 1] % 33, taken, n);
        free(text);
        return 0;
}
