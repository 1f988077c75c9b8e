#include "driver/xen/console.h"

#include <errno.h>
#include <fcntl.h>
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

int xen_console_open(const char *path, int *ret_fd, Error *e) {
        AUTO(string_drop) char *shown = string_escape(path, 64);
        AUTO(fd_drop)
        int fd = string_has_prefix(path, PTS_PREFIX) ? open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
        struct termios settings;

        if (fd < 0 || !is_pts(fd))
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The guest's console, %s, cannot be opened",
                                 string_or(shown, "?"));
        if (tcgetattr(fd, &settings) < 0)
                return error_set_errno(e, errno, "Failed to set up the guest's console");
        cfmakeraw(&settings);
        if (tcsetattr(fd, TCSANOW, &settings) < 0)
                return error_set_errno(e, errno, "Failed to set up the guest's console");
        *ret_fd = fd_take(&fd);
        return 0;
}
