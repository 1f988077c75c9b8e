/* Strings, string lists, and numbers read from text. Allocation failure is -ENOMEM or NULL, never an exit. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

/* free() for AUTO() on any char *. */
void string_drop(char **s);

bool string_equal(const char *a, const char *b); /* NULL equals only NULL */
bool string_has_prefix(const char *s, const char *prefix);
/* Where name is among names; count when it is not. */
unsigned string_find(const char *const *names, unsigned count, const char *name);
static inline const char *string_or(const char *s, const char *otherwise) {
        return s && *s ? s : otherwise;
}

/* Free *target, then set it to a copy of value (NULL allowed). On -ENOMEM *target is unchanged. */
int string_replace(char **target, const char *value);

/* asprintf that returns NULL without memory. */
char *string_printf(const char *format, ...) PRINTF_LIKE(1, 2);
char *string_vprintf(const char *format, va_list arguments) PRINTF_LIKE(1, 0);

/* Copy with each byte outside printable ASCII, and the backslash, as \xHH: text of a guest or a user, safe for
 * logs and terminals. Cut at max bytes of input. */
char *string_escape(const char *s, size_t max);

/* Decimal without sign, white space or leading zeros (0 alone is fine), no more than max. -EINVAL, -ERANGE. */
int parse_u64(const char *text, uint64_t max, uint64_t *ret);

/* NULL-terminated lists of owned strings. */
typedef char **StringList;
void string_list_free(char ***list); /* usable with AUTO() */
size_t string_list_length(char *const *list);
int string_list_append(char ***list, const char *value);
bool string_list_contains(char *const *list, const char *value);
int string_list_copy(char *const *list, char ***ret);
char *string_list_join(char *const *list, const char *separator);

/* "512M", "1G", "256MiB", "131072k" to bytes: a decimal number, then a binary suffix out of k M G T in either case,
 * bare or followed by "iB" or "B"; without a suffix the number is refused, since bytes, kilobytes and megabytes are all
 * customary. -EINVAL: malformed; -ERANGE: past 2^63 or zero. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* "512 MiB", "1.5 GiB": for people. Returns buffer. */
#define SIZE_TEXT_MAX 32
const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT_MAX]);
