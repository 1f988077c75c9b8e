/* Host names, and the names that the broker gives. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define HOST_NAME_MAX_LENGTH 63
#define OBJECT_NAME_MAX      32
#define OBJECT_NAME_PREFIX   "debmarshal-"
#define BOOT_LOADER_NAME_MAX 32 /* with the NUL */

/* One label: letters, digits and hyphens, 1 to 63, no hyphen first; nothing after it, a newline least of all.
 * "localhost" and names made of digits alone are refused too: resolvers treat them as something else. Sets
 * ERROR_INVALID_INPUT naming it (escaped). */
int host_name_check(const char *name, Error *e);

/* The whole list: each valid, count within HOSTS_PER_NETWORK_MAX, no two equal in any case of letters. O(n log n). */
int host_names_check(char *const *names, Error *e);

/* The N of "debmarshal-N", N >= 0 without leading zeros; -EINVAL for anything else. Fits 31 bits. */
int object_name_parse(const char *name, unsigned *ret_number);
/* Returns buffer. */
const char *object_name_format(unsigned number, char buffer[OBJECT_NAME_MAX]);

/* A boot loader's: letters, digits, '-', '_' and '.', not beginning with a '.' or '-'. -EINVAL. */
int boot_loader_name_check(const char *name);

/* The smallest number that is in none of used[] (any order, sorted in place). */
unsigned smallest_free(unsigned *used, size_t count);
