/* A PVH guest has no firmware to make tables, and what Xen's own tools make them with is in no package. The root
 * pointer leads to the XSDT, that to a FADT (which says: reduced hardware, no VGA, no CMOS clock) with an empty DSDT,
 * and to a MADT, which lists one local APIC per processor. All in one page, each table at a fixed offset. */
#include "driver/xen/acpi.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define HEADER_SIZE 36
#define FADT_SIZE   268
#define MADT_SIZE   44
#define LAPIC_SIZE  8

enum { DSDT_AT = 0, FADT_AT = 64, XSDT_AT = 384, MADT_AT = 512 };
_Static_assert(FADT_AT + FADT_SIZE <= XSDT_AT, "tables overlap");
_Static_assert(MADT_AT + MADT_SIZE + ACPI_VCPUS_MAX * LAPIC_SIZE <= ACPI_TABLES_SIZE, "no room for the processors");

static void put32(uint8_t *at, uint32_t value) {
        value = htole32(value);
        memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, uint64_t value) {
        value = htole64(value);
        memcpy(at, &value, sizeof value);
}

/* Make the bytes sum up to nothing, by the one at `at`. */
static void seal(uint8_t *table, size_t length, size_t at) {
        uint8_t sum = 0;

        table[at] = 0;
        for (size_t i = 0; i < length; i++)
                sum = (uint8_t)(sum + table[i]);
        table[at] = (uint8_t)-sum;
}

static void seal_table(uint8_t *table, size_t length) {
        seal(table, length, 9);
}

static uint8_t *begin(AcpiTables *t, size_t at, const char *signature, uint32_t length, uint8_t revision) {
        uint8_t *table = t->tables + at;

        memcpy(table, signature, 4);
        put32(table + 4, length);
        table[8] = revision;
        memcpy(table + 10, "DEBMAR", 6);
        memcpy(table + 16, "DEBMARPV", 8);
        put32(table + 24, 1);
        memcpy(table + 28, "DBMR", 4);
        put32(table + 32, 1);
        return table;
}

static void make_fadt(AcpiTables *t) {
        enum { NO_VGA = 1 << 2, NO_ASPM = 1 << 4, NO_CMOS_CLOCK = 1 << 5 };
        const uint32_t reduced_hardware = 1U << 20;
        uint8_t *fadt = begin(t, FADT_AT, "FACP", FADT_SIZE, 5);

        put32(fadt + 40, ACPI_ADDRESS + DSDT_AT);
        fadt[109] = NO_VGA | NO_ASPM | NO_CMOS_CLOCK;
        put32(fadt + 112, reduced_hardware);
        put64(fadt + 140, ACPI_ADDRESS + DSDT_AT);
        seal_table(fadt, FADT_SIZE);
}

static void make_madt(AcpiTables *t, unsigned vcpus) {
        const uint32_t lapic_address = 0xfee00000;
        uint32_t length = MADT_SIZE + vcpus * LAPIC_SIZE;
        uint8_t *madt = begin(t, MADT_AT, "APIC", length, 2);

        put32(madt + 36, lapic_address);
        for (unsigned i = 0; i < vcpus; i++) {
                uint8_t *lapic = madt + MADT_SIZE + (size_t)i * LAPIC_SIZE;
                lapic[0] = 0; /* a local APIC */
                lapic[1] = LAPIC_SIZE;
                lapic[2] = (uint8_t)i;
                lapic[3] = (uint8_t)(i * 2); /* Xen numbers the APICs so */
                put32(lapic + 4, 1);         /* enabled */
        }
        seal_table(madt, length);
}

static void make_root(AcpiTables *t) {
        const size_t first_version = 20, all = 36;

        memcpy(t->root, "RSD PTR ", 8);
        memcpy(t->root + 9, "DEBMAR", 6);
        t->root[15] = 2;
        put32(t->root + 20, (uint32_t)all);
        put64(t->root + 24, ACPI_ADDRESS + XSDT_AT);
        seal(t->root, first_version, 8);
        seal(t->root, all, 32);
}

int acpi_tables_make(AcpiTables *t, unsigned vcpus) {
        if (vcpus > ACPI_VCPUS_MAX)
                return -ERANGE;

        memset(t, 0, sizeof *t);
        seal_table(begin(t, DSDT_AT, "DSDT", HEADER_SIZE, 2), HEADER_SIZE);
        make_fadt(t);
        make_madt(t, vcpus);
        uint8_t *xsdt = begin(t, XSDT_AT, "XSDT", HEADER_SIZE + 16, 1);
        put64(xsdt + HEADER_SIZE, ACPI_ADDRESS + FADT_AT);
        put64(xsdt + HEADER_SIZE + 8, ACPI_ADDRESS + MADT_AT);
        seal_table(xsdt, HEADER_SIZE + 16);
        make_root(t);
        return 0;
}
