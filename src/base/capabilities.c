#include "base/capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int capabilities_bound(uint64_t kept) {
        int there;
        for (int cap = 0; (there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0)) >= 0; cap++)
                if (there && !(kept >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
                        return -errno;
        return 0;
}

int capabilities_set(uint64_t kept) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { 0 };

        for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
                sets[i].effective = sets[i].permitted = (uint32_t)(kept >> 32 * i);
        if (syscall(SYS_capset, &header, sets) < 0)
                return -errno;
        return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ? -errno : 0;
}

int capabilities_freeze(void) {
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int capabilities_keep(uint64_t kept) {
        int r = capabilities_bound(kept);
        if (r == 0)
                r = capabilities_set(kept);
        return r < 0 ? r : capabilities_freeze();
}
