/* Sizes in memory and on disk, as people write and read them. Always binary: a guest's memory is never a power of ten.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/string-util.h"

static int suffix_shift(char c, unsigned *ret_shift) {
        switch (c) {
        case 'k':
        case 'K':
                *ret_shift = 10;
                return 0;
        case 'm':
        case 'M':
                *ret_shift = 20;
                return 0;
        case 'g':
        case 'G':
                *ret_shift = 30;
                return 0;
        case 't':
        case 'T':
                *ret_shift = 40;
                return 0;
        default:
                return -EINVAL;
        }
}

int size_parse(const char *text, uint64_t *ret_bytes) {
        char number[24];
        size_t digits = text ? strspn(text, "0123456789") : 0;
        unsigned shift;

        if (digits == 0 || suffix_shift(text[digits], &shift) < 0)
                return -EINVAL;
        const char *rest = text + digits + 1;
        if (!string_equal(rest, "") && !string_equal(rest, "B") && !string_equal(rest, "iB"))
                return -EINVAL;
        if (digits >= sizeof number)
                return text[0] == '0' ? -EINVAL : -ERANGE;
        memcpy(number, text, digits);
        number[digits] = '\0';

        uint64_t value;
        int r = parse_u64(number, (uint64_t)INT64_MAX >> shift, &value);
        if (r < 0)
                return r;
        if (value == 0)
                return -ERANGE;
        *ret_bytes = value << shift;
        return 0;
}

const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT_MAX]) {
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
        unsigned unit = 0;

        while (unit + 1 < ARRAY_LEN(units) && bytes >> (10 * (unit + 1)))
                unit++;
        uint64_t one = 1ULL << (10 * unit), whole = bytes / one;
        /* Cut, not rounded: 1023.99 MiB must not read as 1024 MiB. */
        unsigned tenth = (unsigned)(bytes % one * 10 / one);
        if (tenth == 0)
                snprintf(buffer, SIZE_TEXT_MAX, "%llu %s", (unsigned long long)whole, units[unit]);
        else
                snprintf(buffer, SIZE_TEXT_MAX, "%llu.%u %s", (unsigned long long)whole, tenth, units[unit]);
        return buffer;
}
