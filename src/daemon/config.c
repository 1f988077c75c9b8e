/* The configuration file: one table of keys. Each row says where the value goes, how it is read, its range, and the
 * words that an error uses. Whatever is wrong is found before anything is used: the text is parsed into a copy, which
 * replaces the caller's only when all of it is good. */
#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define BOOT_LOADER_PREFIX "bootloader_"

#define FILE_MAX     (1u << 20)
#define COUNT_MAX    1000000000u
#define SECONDS(n)   ((n)*USEC_PER_SEC)
#define HOURS(n)     SECONDS((n)*3600ULL)
#define DAYS(n)      HOURS((n)*24ULL)
#define JAIL_UID_MIN 65536u
#define JAIL_UID_END 0x7ffffffeu /* one past the last; beyond are the values that file systems and programs misread */

typedef struct Key Key;
typedef int (*ParseValue)(const Key *key, const char *text, void *target);

struct Key {
        const char *name;
        size_t offset; /* in Config */
        ParseValue parse;
        uint64_t min, max;
        const char *wanted;
};

static int store_in_range(const Key *key, uint64_t value, void *target) {
        if (value < key->min || value > key->max)
                return -ERANGE;
        *(uint64_t *)target = value;
        return 0;
}

static int parse_count(const Key *key, const char *text, void *target) {
        uint64_t value;
        int r = parse_u64(text, key->max, &value);

        return r < 0 ? r : store_in_range(key, value, target);
}

static int parse_uid(const Key *key, const char *text, void *target) {
        uint64_t value;
        int r = parse_count(key, text, &value);

        if (r < 0)
                return r;
        *(uint32_t *)target = (uint32_t)value;
        return 0;
}

static int parse_size(const Key *key, const char *text, void *target) {
        uint64_t value = 0;
        /* No size is zero to size_parse(), but a limit may be. */
        int r = string_equal(text, "0") ? 0 : size_parse(text, &value);

        return r < 0 ? r : store_in_range(key, value, target);
}

static int parse_time(const Key *key, const char *text, void *target) {
        static const struct {
                const char *suffix;
                uint64_t usec;
        } units[] = {
                { "ms", USEC_PER_MSEC }, { "s", USEC_PER_SEC }, { "min", SECONDS(60) },
                { "h", HOURS(1) },       { "d", DAYS(1) },
        };
        char number[24];
        size_t digits = strspn(text, "0123456789");
        uint64_t value;

        if (string_equal(text, "0"))
                return store_in_range(key, 0, target);
        if (digits == 0 || digits >= sizeof number)
                return -EINVAL;
        memcpy(number, text, digits);
        number[digits] = '\0';
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
                if (!string_equal(text + digits, units[i].suffix))
                        continue;
                int r = parse_u64(number, UINT64_MAX / units[i].usec, &value);
                return r < 0 ? r : store_in_range(key, value * units[i].usec, target);
        }
        return -EINVAL;
}

static int parse_pool(const Key *key, const char *text, void *target) {
        Subnet pool;
        int r = subnet_parse(text, &pool);

        if (r < 0)
                return r;
        if (pool.prefix < key->min || pool.prefix > key->max || subnet_check_asked(&pool, 0, NULL) < 0)
                return -ERANGE;
        *(Subnet *)target = pool;
        return 0;
}

static int parse_level(const Key *key, const char *text, void *target) {
        static const struct {
                const char *name;
                int level;
        } levels[] = {
                { "error", LOG_ERR },
                { "warning", LOG_WARNING },
                { "info", LOG_INFO },
                { "debug", LOG_DEBUG },
        };

        (void)key;
        for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
                if (string_equal(levels[i].name, text)) {
                        *(int *)target = levels[i].level;
                        return 0;
                }
        }
        return -EINVAL;
}

/* Empty: look along PATH. */
static int parse_program(const Key *key, const char *text, void *target) {
        if (strlen(text) > key->max || (*text && *text != '/'))
                return -EINVAL;
        strcpy(target, text);
        return 0;
}

#define LIMIT(member)  offsetof(Config, limits.member)
#define WANTED_COUNT   "a number from 0 to 1000000000 is wanted"
#define WANTED_TIME(r) "a time such as 30s, 5min or 2h is wanted, " r

static const Key keys[] = {
        { "max_networks", LIMIT(networks), parse_count, 0, COUNT_MAX, WANTED_COUNT },
        { "max_domains", LIMIT(domains), parse_count, 0, COUNT_MAX, WANTED_COUNT },
        { "max_memory", LIMIT(memory), parse_size, 0, INT64_MAX, "a size such as 512M or 64G, or 0, is wanted" },
        { "max_vcpus", LIMIT(vcpus), parse_count, 0, COUNT_MAX, WANTED_COUNT },
        { "max_streams", LIMIT(streams), parse_count, 0, COUNT_MAX, WANTED_COUNT },
        { "max_connections", LIMIT(connections), parse_count, 1, COUNT_MAX, "a number from 1 to 1000000000 is wanted" },
        { "max_vcpus_per_domain", LIMIT(vcpus_per_domain), parse_count, 1, 4096, "a number from 1 to 4096 is wanted" },
        { "start_timeout", LIMIT(start_usec), parse_time, SECONDS(1), HOURS(1), WANTED_TIME("from 1s to 1h") },
        { "keep_ended", LIMIT(ended_usec), parse_time, 0, DAYS(365), WANTED_TIME("at most 365d; 0 keeps nothing") },
        { "max_ended", LIMIT(ended_per_owner), parse_count, 0, 1000000, "a number from 0 to 1000000 is wanted" },
        { "console_log_size", LIMIT(log_bytes), parse_size, 4096, 1u << 30, "a size from 4k to 1G is wanted" },
        { "idle_timeout", LIMIT(idle_usec), parse_time, 0, DAYS(365), WANTED_TIME("at most 365d; 0 is never") },
        { "spare_networks", LIMIT(spares), parse_count, 0, SPARES_MAX, "a number from 0 to 64 is wanted" },
        { "pool", LIMIT(pool), parse_pool, 8, 24,
          "a subnet of ordinary addresses with a prefix from 8 to 24 is wanted, such as 10.64.0.0/10" },
        { "jail_uid_base", LIMIT(jail_uid_base), parse_uid, JAIL_UID_MIN + 1, JAIL_UID_END - 1,
          "a uid from 65537 to 2147483645 is wanted" },
        { "jail_uid_count", LIMIT(jail_uid_count), parse_uid, 1, JAIL_UID_END - JAIL_UID_MIN - 1,
          "a number from 1 to 2147418109 is wanted" },
        { "bootloader_timeout", offsetof(Config, drivers.boot_loader_usec), parse_time, SECONDS(1), HOURS(1),
          WANTED_TIME("from 1s to 1h") },
        { "xen_device_model", offsetof(Config, drivers.xen_device_model), parse_program, 0,
          sizeof((Config *)0)->drivers.xen_device_model - 1,
          "an absolute path is wanted, or nothing for Xen's QEMU where it is usually installed" },
        { "xen_stub_domain", offsetof(Config, drivers.xen_stub_domain), parse_program, 0,
          sizeof((Config *)0)->drivers.xen_stub_domain - 1,
          "an absolute path is wanted, or nothing for /usr/lib/debmarshal/stubdomain" },
        { "log_level", offsetof(Config, log_level), parse_level, 0, 0, "error, warning, info or debug is wanted" },
        { "dnsmasq", offsetof(Config, dnsmasq), parse_program, 0, sizeof((Config *)0)->dnsmasq - 1,
          "an absolute path is wanted, or nothing to look along PATH" },
};

static bool is_space(char c) {
        return c == ' ' || c == '\t' || c == '\r';
}

static char *trim(char *s) {
        while (is_space(*s))
                s++;
        size_t length = strlen(s);
        while (length > 0 && is_space(s[length - 1]))
                s[--length] = '\0';
        return s;
}

/* A comment begins with a '#' that is at the start or behind a space, since a path may have one inside. */
static void cut_comment(char *line) {
        for (char *p = line; *p; p++)
                if (*p == '#' && (p == line || is_space(p[-1]))) {
                        *p = '\0';
                        return;
                }
}

static int refuse_unknown(const char *name, Error *e) {
        AUTO(string_list_free) char **known = NULL;
        AUTO(string_drop) char *joined = NULL, *rule = NULL;

        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
                if (string_list_append(&known, keys[i].name) < 0)
                        return error_set_errno(e, ENOMEM, "Failed to list the known keys");
        if (string_list_append(&known, BOOT_LOADER_PREFIX "NAME") < 0)
                return error_set_errno(e, ENOMEM, "Failed to list the known keys");
        joined = string_list_join(known, ", ");
        rule = string_printf("it is not known; these are: %s", string_or(joined, "?"));
        return error_set_value(e, ERROR_INVALID_INPUT, "key", name, string_or(rule, "it is not known"));
}

/* Which line gave what; 0: none yet. */
typedef struct Lines {
        unsigned now, of_key[ARRAY_LEN(keys)], of_loader[BOOT_LOADERS_MAX];
} Lines;

static int refuse_twice(const char *name, unsigned first, Error *e) {
        return error_set(e, ERROR_INVALID_INPUT, "%s is given twice, first in line %u", name, first);
}

/* bootloader_NAME = PATH */
static int set_boot_loader(Config *c, const char *key, const char *path, Lines *lines, Error *e) {
        BootLoaders *loaders = &c->drivers.boot_loaders;
        const char *name = key + strlen(BOOT_LOADER_PREFIX);

        if (boot_loader_name_check(name) < 0)
                return error_set_value(e, ERROR_INVALID_INPUT, "key", key,
                                       "a boot loader's name is wanted behind \"" BOOT_LOADER_PREFIX
                                       "\": letters, digits, '-', '_' and '.', at most 31");
        int r = boot_loaders_add(loaders, name, path);
        if (r == -ENOSPC)
                return error_set(e, ERROR_INVALID_INPUT, "%s: more than %d boot loaders", key, BOOT_LOADERS_MAX);
        if (r < 0)
                return error_set_value(e, ERROR_INVALID_INPUT, key, path, "an absolute path is wanted");
        size_t i = 0;
        while (!string_equal(loaders->items[i].name, name))
                i++;
        if (lines->of_loader[i])
                return refuse_twice(key, lines->of_loader[i], e);
        lines->of_loader[i] = lines->now;
        return 0;
}

static int set_key(Config *c, const char *name, const char *value, Lines *lines, Error *e) {
        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
                const Key *key = &keys[i];
                if (!string_equal(key->name, name))
                        continue;
                if (lines->of_key[i])
                        return refuse_twice(name, lines->of_key[i], e);
                lines->of_key[i] = lines->now;
                if (key->parse(key, value, (char *)c + key->offset) < 0)
                        return error_set_value(e, ERROR_INVALID_INPUT, name, value, key->wanted);
                return 0;
        }
        if (string_has_prefix(name, BOOT_LOADER_PREFIX))
                return set_boot_loader(c, name, value, lines, e);
        return refuse_unknown(name, e);
}

static int parse_line(Config *c, char *line, Lines *lines, Error *e) {
        cut_comment(line);
        char *name = trim(line);
        if (!*name)
                return 0;
        char *value = strchr(name, '=');
        if (!value)
                return error_set_value(e, ERROR_INVALID_INPUT, "line", name, "\"key = value\" is wanted");
        *value++ = '\0';
        return set_key(c, trim(name), trim(value), lines, e);
}

/* What no single line can tell. */
static int check_whole(const Config *c, Error *e) {
        if (c->limits.jail_uid_count > JAIL_UID_END - c->limits.jail_uid_base)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "jail_uid_base and jail_uid_count: the last uid would be above %u", JAIL_UID_END - 1);
        return 0;
}

/* Cuts text into its lines. */
static int parse_lines(const char *file, char *text, Config *c, Error *e) {
        Lines lines = { 0 };

        while (text) {
                char *line = strsep(&text, "\n");
                lines.now++;
                int r = parse_line(c, line, &lines, e);
                if (r < 0) {
                        error_prefix(e, "%s:%u", file, lines.now);
                        return r;
                }
        }
        int r = check_whole(c, e);
        if (r < 0)
                error_prefix(e, "%s", file);
        return r;
}

int config_parse(const char *file, const char *text, Config *c, Error *e) {
        char *copy = strdup(text);
        AUTO(error_clear) Error cause = ERROR_INIT;
        Config parsed = *c;

        if (!copy)
                return error_set_errno(e, ENOMEM, "Failed to read %s", file);
        /* Its own error, so that the place is not put before what the caller's may hold already. */
        int r = parse_lines(file, copy, &parsed, &cause);
        free(copy);
        if (r < 0) {
                error_move(e, &cause);
                return r;
        }
        *c = parsed;
        return 0;
}

int config_load(const char *file, bool required, Config *c, Error *e) {
        AUTO(string_drop) char *text = NULL;
        size_t length;
        int r = file_read_all(AT_FDCWD, file, FILE_MAX, &text, &length);

        if (r == -ENOENT && !required)
                return 0;
        if (r < 0)
                return error_set_errno(e, r, "Failed to read the configuration file %s", file);
        if (strlen(text) != length)
                return error_set(e, ERROR_INVALID_INPUT, "%s: it has a NUL byte in it, so it is not a text", file);
        return config_parse(file, text, c, e);
}
