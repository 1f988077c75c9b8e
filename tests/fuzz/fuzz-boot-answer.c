/* A boot loader's answer. */
#include "base/string-util.h"
#include "fuzz.h"
#include "guest/boot-answer.h"

static void check_name(const char *name, bool required) {
        CHECK(memchr(name, '\0', BOOT_ANSWER_NAME_MAX));
        CHECK(*name || !required);
        CHECK(!strchr(name, '/') && !string_equal(name, ".") && !string_equal(name, ".."));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const BootAnswer before = { .kernel = "before" };
        BootAnswer a = before;
        Error e = ERROR_INIT;
        /* Of exactly that size, so that reading past its end is seen. */
        char *copy = malloc(size > 0 ? size : 1);

        CHECK(copy);
        memcpy(copy, data, size);
        if (boot_answer_parse(copy, size, "/output", &a, &e) == 0) {
                check_name(a.kernel, true);
                check_name(a.ramdisk, false);
                CHECK(memchr(a.args, '\0', sizeof a.args));
                for (const char *p = a.args; *p; p++)
                        CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
        } else {
                CHECK(e.id == ERROR_HYPERVISOR_FAILED && memcmp(&a, &before, sizeof a) == 0);
                for (const char *p = error_text(&e); *p; p++)
                        CHECK(*p >= 0x20 && *p < 0x7f);
        }
        error_clear(&e);
        free(copy);
        return 0;
}
