/* What the host must allow a user: a user namespace with capabilities in it, taps, a private runtime directory. Tried
 * rather than read off settings wherever that is possible; the settings are then asked for the reason. */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define NOBODY 65534

/* The settings that forbid a user namespace, and the value that does. */
static const struct {
        const char *name, *path;
        char forbids;
} settings[] = {
        { "kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone", '0' },
        { "user.max_user_namespaces", "/proc/sys/user/max_user_namespaces", '0' },
        { "user.max_net_namespaces", "/proc/sys/user/max_net_namespaces", '0' },
        { "kernel.apparmor_restrict_unprivileged_userns", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
          '1' },
};

/* In a child: 0 when an ordinary user gets a user namespace and is its administrator, else an errno. */
static int try_namespaces(void) {
        if (geteuid() == 0 && (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0))
                return errno;
        if (unshare(CLONE_NEWUSER) < 0)
                return errno;
        /* Where AppArmor restricts them the namespace is given, and its capabilities are not. */
        return unshare(CLONE_NEWNET) < 0 ? errno : 0;
}

static int namespaces_errno(void) {
        int status;
        pid_t pid = fork();

        if (pid < 0)
                return errno;
        if (pid == 0)
                _exit(try_namespaces());
        if (waitpid(pid, &status, 0) < 0)
                return errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

/* "NAME=VALUE" of the first setting that forbids it; NULL when none does. */
static const char *forbidding_setting(char *cure, size_t size) {
        for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
                AUTO(string_drop) char *value = NULL;
                size_t n;

                if (file_read_all(AT_FDCWD, settings[i].path, 64, &value, &n) < 0 || n < 2)
                        continue;
                if (value[0] != settings[i].forbids || value[1] != '\n')
                        continue;
                snprintf(cure, size, "sudo sysctl -w %s=%s, and in /etc/sysctl.d for good", settings[i].name,
                         settings[i].forbids == '1'         ? "0"
                         : strstr(settings[i].name, "max_") ? "15000"
                                                            : "1");
                return settings[i].name;
        }
        return NULL;
}

void check_user_namespaces(Report *r, bool session) {
        int err = namespaces_errno();
        char cure[256] = "";

        if (err == 0) {
                report_add(r, CHECK_OK, "user-namespaces", NULL, "users may make their own");
                return;
        }
        const char *setting = forbidding_setting(cure, sizeof cure);
        if (!setting)
                snprintf(cure, sizeof cure,
                         "look at seccomp and security modules; a container must allow nested user namespaces");
        report_add(r, session ? CHECK_FAIL : CHECK_WARN, "user-namespaces", cure, "users may not make them: %s%s%s",
                   strerror(err), setting ? "; forbidden by " : "", string_or(setting, ""));
}

void check_tun(Report *r, bool session) {
        AUTO(fd_drop) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

        if (fd >= 0) {
                report_add(r, CHECK_OK, "tun", NULL, "/dev/net/tun can be opened");
                return;
        }
        report_add(r, session ? CHECK_FAIL : CHECK_WARN, "tun",
                   errno == ENOENT || errno == ENODEV ? "sudo modprobe tun; in a container, pass /dev/net/tun in"
                                                      : "sudo chmod 666 /dev/net/tun",
                   "cannot open /dev/net/tun: %s", strerror(errno));
}

void check_runtime_directory(Report *r) {
        const char *path = getenv("XDG_RUNTIME_DIR");
        struct stat st;

        if (!path || !*path)
                report_add(r, CHECK_OK, "runtime-directory", NULL,
                           "XDG_RUNTIME_DIR is not set; /tmp/debmarshal-%u serves", (unsigned)geteuid());
        else if (stat(path, &st) < 0)
                report_add(r, CHECK_WARN, "runtime-directory", "unset XDG_RUNTIME_DIR, or log in anew",
                           "XDG_RUNTIME_DIR is %s: %s", path, strerror(errno));
        else if (st.st_uid != geteuid())
                report_add(r, CHECK_WARN, "runtime-directory", "unset XDG_RUNTIME_DIR: su and sudo may have left it",
                           "XDG_RUNTIME_DIR is %s, which belongs to uid %u", path, (unsigned)st.st_uid);
        else
                report_add(r, CHECK_OK, "runtime-directory", NULL, "%s", path);
}
