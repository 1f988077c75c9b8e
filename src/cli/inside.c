/* The order matters. The user namespace comes first: its owner gets every capability in it by joining, and with these
 * may join the network namespace that belongs to it. The ids come next; they need no more than that capability.
 *
 * From the first step on, the network's owner may trace us, whoever we are: she is the administrator of the user
 * namespace. Where root enters another's network that must not hand her anything of root's, so the caller has closed
 * its connection to the daemon before, and until the program is executed we cannot be traced by anybody who is not
 * privileged outside.
 *
 * The mount namespace is made by us, for one file: /etc/resolv.conf shall name the network's own DNS server. A file
 * that exists nowhere is made in a tmpfs that covers /tmp for a moment, in our mount namespace alone, and bound over
 * it. */
#include "cli/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define SCRATCH     "/tmp"

static int write_resolv_conf(const char *path, const char *gateway, const char *dns_domain) {
        AUTO(string_drop)
        char *text = string_printf("nameserver %s\n%s%s%s", gateway, *dns_domain ? "search " : "", dns_domain,
                                   *dns_domain ? "\n" : "");

        return text ? file_replace(AT_FDCWD, path, text, 0644) : -ENOMEM;
}

static void use_network_dns(const char *gateway, const char *dns_domain) {
        if (unshare(CLONE_NEWNS) < 0 || mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") < 0)
                return;
        if (write_resolv_conf(SCRATCH "/resolv.conf", gateway, dns_domain) == 0)
                (void)!mount(SCRATCH "/resolv.conf", RESOLV_CONF, NULL, MS_BIND, NULL);
        umount2(SCRATCH, MNT_DETACH);
}

int inside_enter(int user_ns, int net_ns, const char *gateway, const char *dns_domain, Error *e) {
        prctl(PR_SET_DUMPABLE, 0);
        if (setns(user_ns, CLONE_NEWUSER) < 0)
                return error_set_errno(e, errno, "cannot enter the network's user namespace");
        if (setns(net_ns, CLONE_NEWNET) < 0)
                return error_set_errno(e, errno, "cannot enter the network's namespace");

        /* Without a mapped group, or with supplementary groups that a user may not drop, we keep what we have. */
        (void)!setgroups(0, NULL);
        (void)!setresgid(0, 0, 0);
        if (setresuid(0, 0, 0) < 0)
                return error_set_errno(e, errno, "cannot become the network's administrator");
        use_network_dns(gateway, dns_domain);
        return 0;
}
