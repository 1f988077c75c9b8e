#include "core/names.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/string-util.h"
#include "core/limits.h"

/* Not isalnum(), which asks the locale. */
static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *host_name_fault(const char *name) {
        size_t digits = 0, length = 0;

        if (*name == '\0')
                return "it is empty";
        if (*name == '-')
                return "it must not start with a hyphen";
        for (const char *p = name; *p; p++) {
                if (!is_letter(*p) && !is_digit(*p) && *p != '-')
                        return "only letters, digits and hyphens are allowed";
                digits += is_digit(*p);
                if (++length > HOST_NAME_MAX_LENGTH)
                        return "it is longer than 63 characters";
        }
        if (digits == length)
                return "digits alone would be taken for an address";
        if (strcasecmp(name, "localhost") == 0)
                return "every machine calls itself that";
        return NULL;
}

int host_name_check(const char *name, Error *e) {
        const char *fault = host_name_fault(name);

        return fault ? error_set_value(e, ERROR_INVALID_INPUT, "host name", name, fault) : 0;
}

static int compare_names(const void *a, const void *b) {
        const char *const *x = a, *const *y = b;

        return strcasecmp(*x, *y);
}

static void pointers_drop(const char ***pointers) {
        free(*pointers);
}

/* All names are valid by now, so strcasecmp() sees ASCII alone. */
static int check_duplicates(char *const *names, size_t n, Error *e) {
        AUTO(pointers_drop) const char **sorted = reallocarray(NULL, n, sizeof *sorted);

        if (!sorted)
                return error_set_errno(e, ENOMEM, "Failed to sort the host names");
        for (size_t i = 0; i < n; i++)
                sorted[i] = names[i];
        qsort(sorted, n, sizeof *sorted, compare_names);
        for (size_t i = 1; i < n; i++)
                if (strcasecmp(sorted[i - 1], sorted[i]) == 0)
                        return error_set_value(e, ERROR_INVALID_INPUT, "host name", sorted[i],
                                               "it is given twice (upper and lower case are the same)");
        return 0;
}

int host_names_check(char *const *names, Error *e) {
        size_t n = string_list_length(names);

        if (n > HOSTS_PER_NETWORK_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "%zu hosts are more than the %d that a network may have", n,
                                 HOSTS_PER_NETWORK_MAX);
        for (size_t i = 0; i < n; i++) {
                int r = host_name_check(names[i], e);
                if (r < 0)
                        return r;
        }
        return n > 1 ? check_duplicates(names, n, e) : 0;
}

int object_name_parse(const char *name, unsigned *ret_number) {
        uint64_t number;

        if (!name || !string_has_prefix(name, OBJECT_NAME_PREFIX) ||
            parse_u64(name + strlen(OBJECT_NAME_PREFIX), INT32_MAX, &number) < 0)
                return -EINVAL;
        *ret_number = (unsigned)number;
        return 0;
}

const char *object_name_format(unsigned number, char buffer[OBJECT_NAME_MAX]) {
        snprintf(buffer, OBJECT_NAME_MAX, OBJECT_NAME_PREFIX "%u", number);
        return buffer;
}

int boot_loader_name_check(const char *name) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
        size_t length = strlen(name);

        if (length == 0 || length >= BOOT_LOADER_NAME_MAX || name[0] == '.' || name[0] == '-')
                return -EINVAL;
        return strspn(name, allowed) == length ? 0 : -EINVAL;
}

static int compare_numbers(const void *a, const void *b) {
        const unsigned *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

unsigned smallest_free(unsigned *used, size_t count) {
        unsigned candidate = 0;

        if (count > 1)
                qsort(used, count, sizeof *used, compare_numbers);
        for (size_t i = 0; i < count && used[i] <= candidate; i++)
                if (used[i] == candidate)
                        candidate++;
        return candidate;
}
