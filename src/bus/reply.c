/* The messages: who sent one, what is in it, and what goes back when it is refused. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

int caller_of(Face *f, sd_bus_message *m, Caller *ret, Error *e) {
        if (!f->is_system) {
                ret->uid = f->uid;
                return 0;
        }

        if (sender_uid(f, sd_bus_message_get_sender(m), &ret->uid) < 0)
                return error_set(e, ERROR_ACCESS_DENIED, "The bus does not say who asks");
        return 0;
}

/* Length of the UTF-8 sequence at s, 0 when it is none: overlong forms, surrogates and what is past U+10FFFF are none.
 */
static size_t utf8_length(const unsigned char *s) {
        static const struct {
                unsigned char mask, lead;
                uint32_t min;
        } forms[] = { { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

        for (size_t n = 0; n < ARRAY_LEN(forms); n++) {
                if ((s[0] & forms[n].mask) != forms[n].lead)
                        continue;
                uint32_t value = s[0] & (unsigned char)~forms[n].mask;
                for (size_t i = 1; i <= n; i++) {
                        if ((s[i] & 0xc0) != 0x80)
                                return 0;
                        value = value << 6 | (s[i] & 0x3f);
                }
                return value < forms[n].min || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) ? 0 : n + 1;
        }
        return 0;
}

const char *valid_text(const char *text, char **ret_copy) {
        *ret_copy = NULL;
        if (!text)
                return "";

        const unsigned char *s = (const unsigned char *)text;
        while (*s) {
                size_t length = utf8_length(s);
                if (length == 0) {
                        *ret_copy = string_escape(text, strlen(text));
                        return string_or(*ret_copy, "");
                }
                s += length;
        }
        return text;
}

int reply_error(sd_bus_message *m, const Error *error) {
        AUTO(string_drop) char *copy = NULL;
        AUTO(string_drop) char *name = string_printf(ERROR_PREFIX "%s", error_id_name(error->id));
        if (!name)
                return -ENOMEM;

        sd_bus_error reply = SD_BUS_ERROR_MAKE_CONST(name, valid_text(error_text(error), &copy));
        int r = sd_bus_reply_method_error(m, &reply);
        return r < 0 ? r : 1;
}

int error_set_message(Error *e, int r, const char *what) {
        if (r == -EBADMSG || r == -ENXIO)
                return error_set(e, ERROR_INVALID_INPUT, "%s: the message is malformed", what);
        return error_set_errno(e, r, "%s: the message cannot be read", what);
}

void strings_drop(char ***strings) {
        free(*strings);
        *strings = NULL;
}

/* sd_bus_message_read_strv() copies each string and counts the list for each: slow beyond measure for a message made of
 * millions of empty ones. */
int read_strings(sd_bus_message *m, const char *what, size_t max, char ***ret, Error *e) {
        AUTO(strings_drop) char **list = NULL;
        size_t count = 0, capacity = 0;
        const char *s;

        int r = sd_bus_message_enter_container(m, 'a', "s");
        while (r >= 0) {
                if (count + 1 >= capacity) {
                        capacity = capacity ? 2 * capacity : 16;
                        char **bigger = reallocarray(list, capacity, sizeof *bigger);
                        if (!bigger)
                                return error_set_errno(e, ENOMEM, "Failed to read %s", what);
                        list = bigger;
                }
                r = sd_bus_message_read_basic(m, 's', &s);
                if (r <= 0)
                        break;
                if (count == max)
                        return error_set(e, ERROR_INVALID_INPUT, "%s: there may be at most %zu", what, max);
                list[count++] = (char *)(uintptr_t)s;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return error_set_message(e, r, what);

        list[count] = NULL;
        *ret = TAKE(list);
        return 0;
}

void extra_value_drop(ExtraValue *v) {
        free((void *)(uintptr_t)v->strings);
        v->strings = NULL;
}

static int read_integer(sd_bus_message *m, char type, ExtraValue *ret) {
        union {
                uint8_t y;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
        } value;
        int64_t number = 0;

        int r = sd_bus_message_read_basic(m, type, &value);
        if (r < 0)
                return r;
        switch (type) {
        case 'y':
                number = value.y;
                break;
        case 'n':
                number = value.n;
                break;
        case 'q':
                number = value.q;
                break;
        case 'i':
                number = value.i;
                break;
        case 'u':
                number = value.u;
                break;
        case 'x':
                number = value.x;
                break;
        default:
                *ret = (ExtraValue){ .kind = EXTRA_NUMBER, .number = value.t };
                return 0;
        }
        if (number < 0)
                *ret = (ExtraValue){ .kind = EXTRA_OTHER };
        else
                *ret = (ExtraValue){ .kind = EXTRA_NUMBER, .number = (uint64_t)number };
        return 0;
}

/* What is inside the variant: contents is its signature. */
static int read_content(sd_bus_message *m, const char *contents, ExtraValue *ret, Error *e) {
        int r, boolean;

        if (strcmp(contents, "as") == 0) {
                char **strings;
                r = read_strings(m, "A list of strings", EXTRA_KEYS_MAX, &strings, e);
                if (r >= 0)
                        *ret = (ExtraValue){ .kind = EXTRA_STRINGS, .strings = strings };
        } else if (strcmp(contents, "s") == 0) {
                *ret = (ExtraValue){ .kind = EXTRA_STRING };
                r = sd_bus_message_read_basic(m, 's', &ret->string);
        } else if (strcmp(contents, "b") == 0) {
                r = sd_bus_message_read_basic(m, 'b', &boolean);
                *ret = (ExtraValue){ .kind = EXTRA_BOOLEAN, .boolean = r >= 0 && boolean };
        } else if (contents[0] && !contents[1] && strchr("ynqiuxt", contents[0]))
                r = read_integer(m, contents[0], ret);
        else {
                *ret = (ExtraValue){ .kind = EXTRA_OTHER };
                r = sd_bus_message_skip(m, contents);
        }
        return r;
}

int read_extra(sd_bus_message *m, ExtraValue *ret, Error *e) {
        const char *contents;
        char type;

        *ret = (ExtraValue){ .kind = EXTRA_OTHER };
        int r = sd_bus_message_peek_type(m, &type, &contents);
        if (r > 0 && type == 'v')
                r = sd_bus_message_enter_container(m, 'v', contents);
        if (r >= 0)
                r = read_content(m, contents, ret, e);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 && !error_is_set(e) ? error_set_message(e, r, "The value of a key") : r;
}

static int read_entry(sd_bus_message *m, SetExtra set, void *target, Error *e) {
        AUTO(extra_value_drop) ExtraValue value = { .kind = EXTRA_OTHER };
        const char *key;

        int r = sd_bus_message_read_basic(m, 's', &key);
        if (r >= 0)
                r = read_extra(m, &value, e);
        if (r >= 0)
                r = set(target, key, &value, e);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int read_extras(sd_bus_message *m, const char *what, SetExtra set, void *target, Error *e) {
        size_t count = 0;
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                if (++count > EXTRA_KEYS_MAX)
                        return error_set(e, ERROR_INVALID_INPUT, "%s: there may be at most %d", what, EXTRA_KEYS_MAX);
                r = read_entry(m, set, target, e);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}
