#include "guest/boot-answer.h"

#include <stdbool.h>
#include <string.h>

#include "base/string-util.h"

typedef struct Seen {
        bool kernel, ramdisk, args;
} Seen;

static int refuse(const char *what, const char *value, const char *rule, Error *e) {
        return error_set_value(e, ERROR_HYPERVISOR_FAILED, what, value, rule);
}

/* A file directly in the directory: nothing that leads out of it can be said at all. */
static int take_file(const char *what, const char *path, const char *directory, bool *seen, char *target, Error *e) {
        size_t length = strlen(directory);

        if (*seen)
                return refuse(what, path, "it is given twice", e);
        *seen = true;
        if (!string_has_prefix(path, directory) || path[length] != '/')
                return refuse(what, path, "it is not in the directory for it", e);
        const char *name = path + length + 1;
        if (!*name || strchr(name, '/') || string_equal(name, ".") || string_equal(name, ".."))
                return refuse(what, path, "it is no file of the directory for it", e);
        if (strlen(name) >= BOOT_ANSWER_NAME_MAX)
                return refuse(what, path, "its name is too long", e);
        strcpy(target, name);
        return 0;
}

static int take_args(const char *text, bool *seen, char *target, Error *e) {
        if (*seen)
                return refuse("args", text, "they are given twice", e);
        *seen = true;
        if (strlen(text) > CMDLINE_MAX)
                return refuse("args", text, "they are longer than a kernel takes", e);
        for (const char *p = text; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return refuse("args", text, "control characters are not allowed", e);
        strcpy(target, text);
        return 0;
}

static int take_item(const char *item, const char *directory, Seen *seen, BootAnswer *answer, Error *e) {
        size_t length = strcspn(item, " \t");
        const char *value = item + length + strspn(item + length, " \t");

        if (length == strlen("kernel") && string_has_prefix(item, "kernel"))
                return take_file("kernel", value, directory, &seen->kernel, answer->kernel, e);
        if (length == strlen("ramdisk") && string_has_prefix(item, "ramdisk"))
                return take_file("ramdisk", value, directory, &seen->ramdisk, answer->ramdisk, e);
        if (length == strlen("args") && string_has_prefix(item, "args"))
                return take_args(value, &seen->args, answer->args, e);
        return refuse("item", item, "neither kernel, ramdisk nor args", e);
}

int boot_answer_parse(const char *data, size_t length, const char *directory, BootAnswer *ret, Error *e) {
        const char *end = data + length, *next;
        BootAnswer answer = { 0 };
        Seen seen = { 0 };

        if (length > BOOT_ANSWER_MAX)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "it is longer than %d bytes", BOOT_ANSWER_MAX);
        for (const char *item = data;; item = next) {
                const char *nul = item < end ? memchr(item, '\0', (size_t)(end - item)) : NULL;
                if (!nul)
                        return error_set(e, ERROR_HYPERVISOR_FAILED, "it is cut short");
                next = nul + 1;
                if (nul == item)
                        break;
                int r = take_item(item, directory, &seen, &answer, e);
                if (r < 0)
                        return r;
        }
        if (next != end)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "something follows its end");
        if (!seen.kernel)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "it names no kernel");
        *ret = answer;
        return 0;
}
