/* How large a kernel and an initrd may be. */
#include "base/string-util.h"
#include "base/test-support.h"
#include "driver/boot.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

static void test_what_may_be_copied(void **state) {
        DomainSpec spec = DOMAIN_SPEC_INIT;

        (void)state;
        spec.memory = 128 * MIB;
        assert_int_equal(boot_copy_max(&spec), 128 * MIB);
        spec.memory = 32 * GIB;
        assert_int_equal(boot_copy_max(&spec), GIB);
}

static void test_sizes(void **state) {
        static const struct {
                uint64_t kernel, initrd, memory, max;
                const char *text; /* NULL: fits */
        } cases[] = {
                { 0, 0, 16 * MIB, 16 * MIB, NULL },
                { 8 * MIB, 8 * MIB, 16 * MIB, 16 * MIB, NULL },
                { 8 * MIB, 8 * MIB + 1, 16 * MIB, UINT64_MAX,
                  "Kernel and initrd (16 MiB) do not fit into the domain's memory (16 MiB)" },
                { 20 * GIB, 0, 16 * GIB, GIB,
                  "Kernel and initrd (20 GiB) do not fit into the domain's memory (16 GiB)" },
                { 512 * MIB, 512 * MIB, 32 * GIB, GIB, NULL },
                { 1 * MIB, 30 * GIB, 32 * GIB, 32 * GIB, NULL },
                { GIB, 512 * MIB, 32 * GIB, GIB, "Kernel and initrd (1.5 GiB) are larger than 1 GiB" },
                { UINT64_MAX, UINT64_MAX, 16 * MIB, 16 * MIB,
                  "Kernel and initrd (16777215.9 TiB) do not fit into the domain's memory (16 MiB)" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                AUTO(error_clear) Error e = ERROR_INIT;
                GuestFiles files = { .kernel_size = cases[i].kernel, .initrd_size = cases[i].initrd };
                DomainSpec spec = DOMAIN_SPEC_INIT;

                spec.memory = cases[i].memory;
                int r = boot_check_size(&files, &spec, cases[i].max, &e);
                assert_int_equal(r, cases[i].text ? error_errno(ERROR_INVALID_INPUT) : 0);
                if (cases[i].text)
                        assert_string_equal(error_text(&e), cases[i].text);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_may_be_copied),
                cmocka_unit_test(test_sizes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
