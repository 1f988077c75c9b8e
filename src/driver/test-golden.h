/* Command lines compared with those in a folder golden/: one argument a line. GOLDEN_UPDATE=1 writes them anew. */
#pragma once

#include <fcntl.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/string-util.h"

static inline void golden_check(const char *directory, const char *name, char *const *argv) {
        AUTO(string_drop) char *path = string_printf("%s/%s", directory, name);
        AUTO(string_drop) char *joined = string_list_join(argv, "\n");
        AUTO(string_drop) char *text = string_printf("%s\n", joined);
        AUTO(string_drop) char *wanted = NULL;

        if (getenv("GOLDEN_UPDATE"))
                assert_int_equal(file_replace(AT_FDCWD, path, text, 0644), 0);
        assert_int_equal(file_read_all(AT_FDCWD, path, 1 << 20, &wanted, NULL), 0);
        assert_string_equal(text, wanted);
}
