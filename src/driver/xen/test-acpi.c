/* The tables are walked as a kernel does it: from the root, by signatures, lengths, sums and addresses. */
#include "base/test-support.h"
#include "driver/xen/acpi.h"

static uint64_t get(const uint8_t *at, size_t size) {
        uint64_t value = 0;

        for (size_t i = size; i-- > 0;)
                value = value << 8 | at[i];
        return value;
}

static uint8_t sum(const uint8_t *at, size_t length) {
        uint8_t all = 0;

        for (size_t i = 0; i < length; i++)
                all = (uint8_t)(all + at[i]);
        return all;
}

static const uint8_t *table(const AcpiTables *t, uint64_t address, const char *signature, uint64_t *ret_length) {
        assert_in_range(address, ACPI_ADDRESS, ACPI_ADDRESS + ACPI_TABLES_SIZE - 36);
        const uint8_t *at = t->tables + (address - ACPI_ADDRESS);

        assert_memory_equal(at, signature, 4);
        *ret_length = get(at + 4, 4);
        assert_in_range(*ret_length, 36, (uintmax_t)(t->tables + ACPI_TABLES_SIZE - at));
        assert_int_equal(sum(at, *ret_length), 0);
        return at;
}

static void walk(unsigned vcpus) {
        AcpiTables t;
        uint64_t length;

        assert_int_equal(acpi_tables_make(&t, vcpus), 0);
        assert_memory_equal(t.root, "RSD PTR ", 8);
        assert_int_equal(sum(t.root, 20), 0);
        assert_int_equal(sum(t.root, 36), 0);
        const uint8_t *xsdt = table(&t, get(t.root + 24, 8), "XSDT", &length);
        assert_int_equal(length, 36 + 2 * 8);

        uint64_t fadt_address = get(xsdt + 36, 8), madt_address = get(xsdt + 44, 8);
        const uint8_t *fadt = table(&t, fadt_address, "FACP", &length);
        assert_true(get(fadt + 112, 4) & 1U << 20);
        table(&t, get(fadt + 40, 4), "DSDT", &length);
        assert_int_equal(get(fadt + 40, 4), get(fadt + 140, 8));

        const uint8_t *madt = table(&t, madt_address, "APIC", &length);
        assert_int_equal(length, 44 + 8 * vcpus);
        for (unsigned i = 0; i < vcpus; i++) {
                const uint8_t *lapic = madt + 44 + (size_t)8 * i;
                assert_int_equal(lapic[0], 0);
                assert_int_equal(lapic[1], 8);
                assert_int_equal(lapic[2], i);
                assert_int_equal(lapic[3], (uint8_t)(2 * i));
                assert_int_equal(get(lapic + 4, 4), 1);
        }
}

static void test_kernel_finds_its_way(void **state) {
        (void)state;
        walk(1);
        walk(2);
        walk(ACPI_VCPUS_MAX);
}

static void test_too_many_processors(void **state) {
        (void)state;
        AcpiTables t;

        assert_int_equal(acpi_tables_make(&t, ACPI_VCPUS_MAX + 1), -ERANGE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kernel_finds_its_way),
                cmocka_unit_test(test_too_many_processors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
