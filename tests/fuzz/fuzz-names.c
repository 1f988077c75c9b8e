/* Host names, one a line, and the names of networks and domains. */
#include <strings.h>

#include "base/string-util.h"
#include "core/names.h"
#include "fuzz.h"

static void check_host_name(const char *name) {
        Error e = ERROR_INIT;

        if (host_name_check(name, &e) < 0) {
                CHECK(e.id == ERROR_INVALID_INPUT && !strchr(error_text(&e), '\n'));
                error_clear(&e);
                return;
        }
        CHECK(!error_is_set(&e) && *name && *name != '-' && strlen(name) <= HOST_NAME_MAX_LENGTH);
        CHECK(strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == strlen(name));
}

static void check_object_name(const char *name) {
        char buffer[OBJECT_NAME_MAX];
        unsigned number;

        if (object_name_parse(name, &number) == 0)
                CHECK(string_equal(object_name_format(number, buffer), name));
}

static void check_list(char **names) {
        if (host_names_check(names, NULL) < 0)
                return;
        /* Quadratic, so for short ones only. */
        size_t n = string_list_length(names) < 100 ? string_list_length(names) : 100;
        for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < i; j++)
                        CHECK(strcasecmp(names[i], names[j]) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_text(data, size), *rest = text, *line, **names = NULL;

        check_host_name(text);
        check_object_name(text);
        while ((line = strsep(&rest, "\n"))) {
                check_host_name(line);
                check_object_name(line);
                CHECK(string_list_append(&names, line) == 0);
        }
        check_list(names);
        string_list_free(&names);
        free(text);
        return 0;
}
