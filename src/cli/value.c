#include "cli/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/string-util.h"

#define VALUE_DEPTH_MAX 16 /* D-Bus itself allows 64 */
#define NAME_MAX_LENGTH 64

void json_drop(json_t **value) {
        json_decref(*value);
        *value = NULL;
}

void snake_case(const char *name, char *buffer, size_t size) {
        size_t n = 0;

        for (const char *s = name; *s && n + 2 < size; s++) {
                if (isupper((unsigned char)*s) && s != name)
                        buffer[n++] = '_';
                buffer[n++] = (char)tolower((unsigned char)*s);
        }
        buffer[n] = '\0';
}

/* JSON's integers, as jansson keeps them, end at 2^63. */
static json_t *number(uint64_t n) {
        return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static int read_basic(sd_bus_message *m, char type, json_t **ret) {
        union {
                uint8_t u8;
                int16_t s16;
                uint16_t u16;
                int32_t s32;
                uint32_t u32;
                int64_t s64;
                uint64_t u64;
                double real;
                int boolean;
                const char *text;
        } v;

        int r = sd_bus_message_read_basic(m, type, &v);
        if (r < 0)
                return r;
        switch (type) {
        case 'b':
                *ret = json_boolean(v.boolean);
                break;
        case 'y':
                *ret = number(v.u8);
                break;
        case 'n':
                *ret = json_integer(v.s16);
                break;
        case 'q':
                *ret = number(v.u16);
                break;
        case 'i':
                *ret = json_integer(v.s32);
                break;
        case 'u':
                *ret = number(v.u32);
                break;
        case 'x':
                *ret = json_integer(v.s64);
                break;
        case 't':
                *ret = number(v.u64);
                break;
        case 'd':
                *ret = json_real(v.real);
                break;
        case 's':
        case 'o':
        case 'g':
                *ret = json_string(v.text);
                break;
        default: /* a descriptor */
                *ret = json_null();
        }
        return *ret ? 0 : -ENOMEM;
}

static int read_value(sd_bus_message *m, unsigned depth, json_t **ret);

/* The members of the array or struct that was entered. */
static int read_members(sd_bus_message *m, unsigned depth, json_t *array) {
        for (;;) {
                json_t *item = NULL;
                int r = sd_bus_message_at_end(m, 0);
                if (r != 0)
                        return r < 0 ? r : 0;
                r = read_value(m, depth, &item);
                if (r < 0)
                        return r;
                if (json_array_append_new(array, item) < 0)
                        return -ENOMEM;
        }
}

static int read_container(sd_bus_message *m, char type, const char *contents, unsigned depth, json_t **ret) {
        AUTO(json_drop) json_t *array = json_array();

        if (!array)
                return -ENOMEM;
        int r = sd_bus_message_enter_container(m, type, contents);
        if (r < 0)
                return r;
        r = read_members(m, depth, array);
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        *ret = type == 'v' ? json_incref(json_array_get(array, 0)) : TAKE(array);
        return *ret ? 0 : -EBADMSG;
}

static int read_value(sd_bus_message *m, unsigned depth, json_t **ret) {
        const char *contents;
        char type;

        if (depth > VALUE_DEPTH_MAX)
                return -EBADMSG;
        int r = sd_bus_message_peek_type(m, &type, &contents);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (strchr("arev", type))
                return read_container(m, type, contents, depth + 1, ret);
        return read_basic(m, type, ret);
}

static int read_property(sd_bus_message *m, json_t *object) {
        AUTO(json_drop) json_t *value = NULL;
        char key[NAME_MAX_LENGTH];
        const char *name;

        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        snake_case(name, key, sizeof key);
        r = read_value(m, 0, &value);
        if (r < 0)
                return r;
        return json_is_null(value) || json_object_set(object, key, value) == 0 ? 0 : -ENOMEM;
}

int value_read_properties(sd_bus_message *m, json_t **ret) {
        AUTO(json_drop) json_t *object = json_object();

        if (!object)
                return -ENOMEM;
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_property(m, object);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        *ret = TAKE(object);
        return 0;
}

const char *value_text(const json_t *object, const char *key) {
        return string_or(json_string_value(json_object_get(object, key)), "");
}

uint64_t value_number(const json_t *object, const char *key) {
        json_int_t n = json_integer_value(json_object_get(object, key));

        return n < 0 ? 0 : (uint64_t)n;
}

int value_print(const json_t *value, Error *e) {
        if (!value || json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
                return error_set(e, ERROR_INTERNAL, "cannot write JSON: out of memory, or the output is closed");
        putchar('\n');
        return 0;
}
