#include "base/argv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* Takes item; NULL means that making it failed. */
static void add_owned(Argv *a, char *item) {
        if (a->failed < 0 || !item)
                goto fail;
        if (a->count + 1 >= a->capacity) {
                size_t capacity = a->capacity ? a->capacity * 2 : 16;
                char **items = reallocarray(a->items, capacity, sizeof *items);
                if (!items)
                        goto fail;
                a->items = items;
                a->capacity = capacity;
        }
        a->items[a->count++] = item;
        a->items[a->count] = NULL;
        return;
fail:
        free(item);
        if (a->failed == 0)
                a->failed = -ENOMEM;
}

static PRINTF_LIKE(2, 0) void add_formatted(Argv *a, const char *format, va_list ap) {
        add_owned(a, string_vprintf(format, ap));
}

void argv_add(Argv *a, const char *item) {
        add_owned(a, strdup(item));
}

void argv_addf(Argv *a, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        add_formatted(a, format, ap);
        va_end(ap);
}

void argv_add_pair(Argv *a, const char *option, const char *value) {
        argv_add(a, option);
        argv_add(a, value);
}

void argv_add_pairf(Argv *a, const char *option, const char *format, ...) {
        va_list ap;

        argv_add(a, option);
        va_start(ap, format);
        add_formatted(a, format, ap);
        va_end(ap);
}

int argv_take(Argv *a, char ***ret_items) {
        if (a->failed < 0)
                return a->failed;
        if (!a->items) {
                a->items = calloc(1, sizeof *a->items);
                if (!a->items)
                        return -ENOMEM;
        }
        *ret_items = TAKE(a->items);
        *a = ARGV_INIT;
        return 0;
}

void argv_done(Argv *a) {
        string_list_free(&a->items);
        *a = ARGV_INIT;
}
