/* The ACPI tables of a PVH guest: just enough for a kernel to find its processors and to switch the machine off. Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ACPI_ADDRESS     0xfc000000U /* of the tables in the guest; nothing else is there */
#define ACPI_TABLES_SIZE 4096
#define ACPI_ROOT_SIZE   64
#define ACPI_VCPUS_MAX   128

typedef struct AcpiTables {
        _Alignas(64) uint8_t tables[ACPI_TABLES_SIZE]; /* to be at ACPI_ADDRESS */
        uint8_t root[ACPI_ROOT_SIZE];                  /* the RSDP: anywhere, the start info tells where */
} AcpiTables;

/* -ERANGE for more than ACPI_VCPUS_MAX. */
int acpi_tables_make(AcpiTables *t, unsigned vcpus);
