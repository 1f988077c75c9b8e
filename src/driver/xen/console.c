#include "driver/xen/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define PTS_PREFIX    "/dev/pts/"
#define PTS_MAJOR     136 /* to 143 */
#define PTS_MAJOR_END 143

static bool is_pts(int fd) {
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && major(st.st_rdev) >= PTS_MAJOR &&
               major(st.st_rdev) <= PTS_MAJOR_END;
}

/* The time is that of its making: nobody changes its owner or its mode. */
const char *xen_console_identify(int fd, char buffer[XEN_CONSOLE_IDENTITY_MAX]) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                *buffer = '\0';
        else
                snprintf(buffer, XEN_CONSOLE_IDENTITY_MAX, "%llx-%lld.%09ld", (unsigned long long)st.st_rdev,
                         (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
        return buffer;
}

int xen_console_open(const char *path, const char *identity, int *ret_fd, Error *e) {
        char found[XEN_CONSOLE_IDENTITY_MAX];
        AUTO(string_drop) char *shown = string_escape(path, 64);
        AUTO(fd_drop)
        int fd = string_has_prefix(path, PTS_PREFIX) ? open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
        struct termios settings;

        if (fd < 0 || !is_pts(fd))
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The guest's console, %s, cannot be opened",
                                 string_or(shown, "?"));
        if (identity && !string_equal(xen_console_identify(fd, found), identity))
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The guest's console, %s, has gone, and is another's now",
                                 string_or(shown, "?"));
        if (tcgetattr(fd, &settings) < 0)
                return error_set_errno(e, errno, "Failed to set up the guest's console");
        cfmakeraw(&settings);
        if (tcsetattr(fd, TCSANOW, &settings) < 0)
                return error_set_errno(e, errno, "Failed to set up the guest's console");
        *ret_fd = fd_take(&fd);
        return 0;
}
