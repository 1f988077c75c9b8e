/* Numbers and sizes as users write them, and the escaping of what they wrote. */
#include "base/string-util.h"
#include "fuzz.h"

static void check_escape(const char *text) {
        char *escaped = string_escape(text, SIZE_MAX);

        CHECK(escaped && strlen(escaped) >= strlen(text));
        for (const char *p = escaped; *p; p++)
                CHECK(*p >= 0x20 && *p < 0x7f);
        free(escaped);
}

static void check_number(const char *text) {
        uint64_t value;

        if (parse_u64(text, UINT64_MAX, &value) < 0)
                return;
        char *again = string_printf("%llu", (unsigned long long)value);
        CHECK(string_equal(again, text));
        free(again);
        CHECK(value == 0 || parse_u64(text, value - 1, &value) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_text(data, size), buffer[SIZE_TEXT_MAX];
        uint64_t bytes;

        check_escape(text);
        check_number(text);
        if (size_parse(text, &bytes) == 0) {
                CHECK(bytes >= 1024 && bytes <= INT64_MAX && bytes % 1024 == 0);
                CHECK(strlen(size_format(bytes, buffer)) < sizeof buffer);
        }
        free(text);
        return 0;
}
