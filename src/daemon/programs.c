#include "daemon/programs.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/string-util.h"

#define KEEPER     "debmarshal-keeper"
#define MORE_PATHS "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"

char *find_own_directory(void) {
        char self[PATH_MAX];
        ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

        if (length <= 0)
                return NULL;
        self[length] = '\0';
        char *slash = strrchr(self, '/');
        return slash ? string_printf("%.*s", (int)(slash - self), self) : NULL;
}

char *find_keeper(void) {
        AUTO(string_drop) char *directory = find_own_directory();
        AUTO(string_drop) char *beside = directory ? string_printf("%s/" KEEPER, directory) : NULL;

        if (beside && access(beside, X_OK) == 0)
                return TAKE(beside);
        return strdup(LIBEXECDIR "/" KEEPER);
}

char *find_program(const char *name) {
        AUTO(string_drop) char *paths = string_printf("%s:" MORE_PATHS, string_or(getenv("PATH"), MORE_PATHS));
        char *directory, *rest = paths;

        if (!paths)
                return NULL;
        while ((directory = strsep(&rest, ":"))) {
                if (*directory != '/') /* "" and "." are where whoever started us happened to be */
                        continue;
                AUTO(string_drop) char *path = string_printf("%s/%s", directory, name);
                if (path && access(path, X_OK) == 0)
                        return TAKE(path);
        }
        return strdup("");
}
