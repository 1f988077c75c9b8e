#include "guest/filter.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>

#include "base/syscall-filter.h"

int filter_system_calls(const unsigned *ioctls, size_t n_ioctls) {
        SyscallFilter f;

        if (n_ioctls > FILTER_IOCTLS_MAX)
                return -E2BIG;
        syscall_filter_begin(&f);
        /* Threads are made by clone(), and nothing else is. */
        syscall_filter_flags(&f, SYS_clone, 0, SYSCALL_REFUSED_WITHOUT, CLONE_THREAD);
#ifdef SYS_fork
        syscall_filter_refuse(&f, (const unsigned[]){ SYS_fork, SYS_vfork }, 2);
#endif
        syscall_filter_values(&f, SYS_ioctl, 1, SYSCALL_REFUSED_WITH, ioctls, n_ioctls);
        return syscall_filter_install(&f);
}
