/* The header of a qcow2 image, as far as opening its backing chain needs it. Hostile input: QEMU's
 * docs/interop/qcow2.txt is the source. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define QCOW2_HEADER_READ 65536 /* bytes from the start of the file that are enough for any header accepted here */

typedef struct Qcow2Header {
        uint32_t version;
        uint64_t virtual_size;
        char backing_file[1024]; /* "" none; as written in the image */
        char backing_format[32]; /* "" not said */
} Qcow2Header;

/* Refuses (ERROR_INVALID_INPUT): no magic, versions other than 2 and 3, an external data file, encryption, unknown
 * incompatible features, lengths and offsets outside the data, a backing name with a NUL inside, a protocol ("json:",
 * "nbd:" ...) instead of a path. */
int qcow2_parse(const void *data, size_t length, Qcow2Header *ret, Error *e);
