/* Several parts of a host may forbid user namespaces, each by a setting of its own, and the kernel's answer is the same
 * EPERM, ENOSPC or EACCES for most. So ask the settings. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "net/keeper.h"

static const struct {
        const char *file, *forbidding, *hint;
} settings[] = {
        { "/proc/sys/user/max_user_namespaces", "0",
          "this host allows no user namespaces: sysctl user.max_user_namespaces is 0; set it to 10000 or so" },
        { "/proc/sys/user/max_net_namespaces", "0",
          "this host allows no network namespaces: sysctl user.max_net_namespaces is 0; set it to 10000 or so" },
        { "/proc/sys/kernel/unprivileged_userns_clone", "0",
          "this host allows user namespaces to root only: sysctl kernel.unprivileged_userns_clone is 0; set it to 1, "
          "or use the system scope" },
        { "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
          "AppArmor restricts user namespaces on this host: sysctl kernel.apparmor_restrict_unprivileged_userns is 1; "
          "set it to 0, give debmarshald a profile that allows userns, or use the system scope" },
};

static bool holds(const char *file, const char *value) {
        AUTO(string_drop) char *text = NULL;
        size_t length;
        if (file_read_all(AT_FDCWD, file, 64, &text, &length) < 0)
                return false;
        text[strcspn(text, "\n")] = '\0';
        return string_equal(text, value);
}

const char *userns_hint(void) {
        if (access("/proc/self/ns/user", F_OK) < 0)
                return "this kernel has no user namespaces (CONFIG_USER_NS)";
        for (size_t i = 0; i < ARRAY_LEN(settings); i++)
                if (holds(settings[i].file, settings[i].forbidding))
                        return settings[i].hint;
        return NULL;
}
