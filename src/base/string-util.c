#include "base/string-util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void string_drop(char **s) {
        free(*s);
        *s = NULL;
}

bool string_equal(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

bool string_has_prefix(const char *s, const char *prefix) {
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

int string_replace(char **target, const char *value) {
        char *copy = NULL;

        if (value) {
                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }
        free(*target);
        *target = copy;
        return 0;
}

unsigned string_find(const char *const *names, unsigned count, const char *name) {
        unsigned i = 0;

        while (i < count && !string_equal(names[i], name))
                i++;
        return i;
}

char *string_vprintf(const char *format, va_list arguments) {
        char *s;

        return vasprintf(&s, format, arguments) < 0 ? NULL : s;
}

char *string_printf(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        char *s = string_vprintf(format, ap);
        va_end(ap);
        return s;
}

char *string_escape(const char *s, size_t max) {
        static const char digits[] = "0123456789abcdef";
        size_t length = s ? strnlen(s, max) : 0;

        /* length <= PTRDIFF_MAX, so this can only be refused, not wrap to something small. */
        if (length > (SIZE_MAX - 1) / 4)
                return NULL;
        char *escaped = malloc(length * 4 + 1);
        if (!escaped)
                return NULL;
        char *p = escaped;
        for (size_t i = 0; i < length; i++) {
                unsigned char c = (unsigned char)s[i];
                if (c >= 0x20 && c < 0x7f && c != '\\') {
                        *p++ = (char)c;
                        continue;
                }
                *p++ = '\\';
                *p++ = 'x';
                *p++ = digits[c >> 4];
                *p++ = digits[c & 15];
        }
        *p = '\0';
        return escaped;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret) {
        uint64_t value = 0;
        bool overflow = false;

        if (!text || !*text || (text[0] == '0' && text[1]))
                return -EINVAL;
        /* Read to the end even past the range, so that "99999999999999999999x" is malformed rather than too large. */
        for (const char *p = text; *p; p++) {
                if (*p < '0' || *p > '9')
                        return -EINVAL;
                unsigned digit = (unsigned)(*p - '0');
                if (value > (UINT64_MAX - digit) / 10)
                        overflow = true;
                else
                        value = value * 10 + digit;
        }
        if (overflow || value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

void string_list_free(char ***list) {
        if (!*list)
                return;
        for (char **p = *list; *p; p++)
                free(*p);
        free(*list);
        *list = NULL;
}

size_t string_list_length(char *const *list) {
        size_t n = 0;

        while (list && list[n])
                n++;
        return n;
}

int string_list_append(char ***list, const char *value) {
        size_t n = string_list_length(*list);
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        char **longer = reallocarray(*list, n + 2, sizeof *longer);
        if (!longer) {
                free(copy);
                return -ENOMEM;
        }
        longer[n] = copy;
        longer[n + 1] = NULL;
        *list = longer;
        return 0;
}

bool string_list_contains(char *const *list, const char *value) {
        for (; list && *list; list++)
                if (string_equal(*list, value))
                        return true;
        return false;
}

int string_list_copy(char *const *list, char ***ret) {
        size_t n = string_list_length(list);
        char **copy = calloc(n + 1, sizeof *copy);

        if (!copy)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                copy[i] = strdup(list[i]);
                if (!copy[i]) {
                        string_list_free(&copy);
                        return -ENOMEM;
                }
        }
        *ret = copy;
        return 0;
}

char *string_list_join(char *const *list, const char *separator) {
        size_t n = string_list_length(list), size = 1;

        for (size_t i = 0; i < n; i++)
                size += strlen(list[i]) + (i > 0 ? strlen(separator) : 0);
        char *joined = malloc(size);
        if (!joined)
                return NULL;
        char *p = joined;
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        p = stpcpy(p, separator);
                p = stpcpy(p, list[i]);
        }
        *p = '\0';
        return joined;
}
