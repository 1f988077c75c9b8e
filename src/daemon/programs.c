#include "daemon/programs.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/string-util.h"

#define KEEPER     "debmarshal-keeper"
#define MORE_PATHS "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"

char *find_keeper(void) {
        char self[PATH_MAX];
        ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

        if (length > 0) {
                self[length] = '\0';
                char *slash = strrchr(self, '/');
                AUTO(string_drop)
                char *beside = slash ? string_printf("%.*s/" KEEPER, (int)(slash - self), self) : NULL;
                if (beside && access(beside, X_OK) == 0)
                        return TAKE(beside);
        }
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
