/* A growing argument vector, and QEMU's comma-separated option values. Failures are remembered and told once, by
 * argv_take(). */
#pragma once

#include <stddef.h>

#include "base/macros.h"

typedef struct Argv {
        char **items; /* NULL-terminated once there is one */
        size_t count, capacity;
        int failed; /* 0 or the first negative errno */
} Argv;
#define ARGV_INIT ((Argv){ 0 })

void argv_add(Argv *a, const char *item);
void argv_addf(Argv *a, const char *format, ...) PRINTF_LIKE(2, 3);
/* argv_add(a, option), then argv_add(a, value). */
void argv_add_pair(Argv *a, const char *option, const char *value);
void argv_add_pairf(Argv *a, const char *option, const char *format, ...) PRINTF_LIKE(3, 4);

/* Hand the vector over; -ENOMEM if any earlier call failed. The caller frees with string_list_free(). */
int argv_take(Argv *a, char ***ret_items);
void argv_done(Argv *a); /* usable with AUTO() */
