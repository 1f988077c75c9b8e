/* The order matters. The user namespace comes first: its owner gets every capability in it by joining, and with these
 * may join the network namespace that belongs to it. The ids come next; they need no more than that capability.
 *
 * From the first step on, the network's owner may trace us, whoever we are: she is the administrator of the user
 * namespace. Where root enters another's network that must not hand her anything of root's, so the caller has closed
 * its connection to the daemon before, and until the program is executed we cannot be traced by anybody who is not
 * privileged outside.
 *
 * The mount namespace is made by us, for one file: /etc/resolv.conf shall name the network's own DNS server. Inside, no
 * file can be made whose group is not mapped, so it is made outside, bound over the other by its name, and unlinked;
 * all this still as the user who made it. */
#include "cli/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define RESOLV_CONF "/etc/resolv.conf"

/* What RESOLV_CONF shall be, at a path of its own. */
typedef struct ResolvConf {
        char path[32]; /* "": there is none */
} ResolvConf;

static void resolv_conf_remove(ResolvConf *c) {
        if (*c->path)
                (void)unlink(c->path);
        *c->path = '\0';
}

static void resolv_conf_write(ResolvConf *c, const char *gateway, const char *dns_domain) {
        AUTO(string_drop)
        char *text = string_printf("nameserver %s\n%s%s%s", gateway, *dns_domain ? "search " : "", dns_domain,
                                   *dns_domain ? "\n" : "");
        AUTO(fd_drop) int fd = -1;

        *c = (ResolvConf){ "/tmp/debmarshal-dns-XXXXXX" };
        fd = mkostemp(c->path, O_CLOEXEC);
        if (fd < 0)
                *c->path = '\0';
        else if (!text || fd_write_all(fd, text, strlen(text)) < 0 || fchmod(fd, 0644) < 0)
                resolv_conf_remove(c);
}

static void resolv_conf_use(const ResolvConf *c) {
        if (*c->path && unshare(CLONE_NEWNS) == 0)
                (void)!mount(c->path, RESOLV_CONF, NULL, MS_BIND, NULL);
}

static int join(int user_ns, int net_ns, Error *e) {
        if (setns(user_ns, CLONE_NEWUSER) < 0)
                return error_set_errno(e, errno, "cannot enter the network's user namespace");
        if (setns(net_ns, CLONE_NEWNET) < 0)
                return error_set_errno(e, errno, "cannot enter the network's namespace");
        return 0;
}

int inside_enter(int user_ns, int net_ns, const char *gateway, const char *dns_domain, Error *e) {
        AUTO(resolv_conf_remove) ResolvConf resolv_conf = { "" };

        prctl(PR_SET_DUMPABLE, 0);
        resolv_conf_write(&resolv_conf, gateway, dns_domain);
        int r = join(user_ns, net_ns, e);
        if (r < 0)
                return r;
        resolv_conf_use(&resolv_conf);
        resolv_conf_remove(&resolv_conf);

        /* Without a mapped group, or with supplementary groups that a user may not drop, we keep what we have. */
        (void)!setgroups(0, NULL);
        (void)!setresgid(0, 0, 0);
        if (setresuid(0, 0, 0) < 0)
                return error_set_errno(e, errno, "cannot become the network's administrator");
        return 0;
}
