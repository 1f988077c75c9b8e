/* Root in the network namespace can be told nothing by the owner that it would act upon: it opens devices there by
 * fixed names of the host's file system, and that is all. Everything else comes after the change to the owner's uid.
 * Without privilege the order is the other way round, as the user namespace gives the right to the network one. */
#include "net/enter.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>

#include "core/child.h"

#define NOBODY_GID 65534

static int join(int fd, int kind, const char *step, const char **ret_step) {
        *ret_step = step;
        return setns(fd, kind) < 0 ? -errno : 0;
}

static int join_net(const int namespaces[ENTER_COUNT], const char **ret_step) {
        return join(namespaces[ENTER_NET], CLONE_NEWNET, "enter the network namespace", ret_step);
}

static int join_user(const int namespaces[ENTER_COUNT], const char **ret_step) {
        return join(namespaces[ENTER_USER], CLONE_NEWUSER, "enter the user namespace", ret_step);
}

int enter_network(const int namespaces[ENTER_COUNT], bool privileged, uid_t owner,
                  int (*opened)(void *userdata, const char **ret_step), void *userdata, const char **ret_step) {
        int r = privileged ? 0 : join_user(namespaces, ret_step);
        if (r == 0)
                r = join_net(namespaces, ret_step);
        if (r == 0 && opened)
                r = opened(userdata, ret_step);
        if (r == 0 && privileged) {
                *ret_step = "become the owner";
                r = child_become(owner, NOBODY_GID, NULL, 0);
                if (r == 0)
                        r = join_user(namespaces, ret_step);
                if (r == 0 &&
                    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) /* as child_become() did: this was another change */
                        r = -errno;
        }
        if (r == 0) {
                *ret_step = "die with the daemon";
                r = child_die_with_parent();
        }
        return r;
}
