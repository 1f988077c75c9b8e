/* What the tests of networks share. Include after cmocka.h. */
#pragma once

#include <arpa/inet.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/network.h"
#include "core/test-children.h"
#include "net/keeper.h"

/* A uid that no user of the host has. */
#define SOME_UID  54321
#define OTHER_UID 54322

/* Two hosts with MACs that do not change: 00:16:3e:00:00:01 is "alpha", ...:02 "beta". */
static inline Network *test_network(Owner *owner, Ipv6Mode mode) {
        const char *const names[] = { "alpha", "beta", NULL };
        Network *n;
        assert_int_equal(network_new("debmarshal-7", owner, &n), 0);
        assert_int_equal(subnet_parse("10.64.0.0/29", &n->subnet), 0);
        n->ipv6_mode = mode;
        if (mode != IPV6_NONE)
                assert_int_equal(inet_pton(AF_INET6, "fd00:1:2:3::", &n->prefix6), 1);
        assert_int_equal(network_set_hosts(n, (char *const *)(uintptr_t)names), 0);
        for (size_t i = 0; i < n->n_hosts; i++) {
                n->hosts[i].mac = (Mac){ { 0x00, 0x16, 0x3e, 0, 0, (uint8_t)(i + 1) } };
                if (mode == IPV6_SLAAC)
                        n->hosts[i].address6 = mac_eui64(&n->hosts[i].mac, &n->prefix6);
        }
        return n;
}

/* One network, brought up by a keeper, and what was told about it. */
typedef struct Rig {
        NetHost host;
        Owner owner;
        Network *network;
        KeeperStart start;
        unsigned n_recorded;
        int record_result;
        bool done, failed, ended;
        Error error;
} Rig;

static inline int rig_record(KeeperStart *k, Error *e) {
        Rig *rig = k->userdata;
        rig->n_recorded++;
        assert_true(k->network->keeper.pid > 0);
        return rig->record_result < 0 ? error_set_errno(e, rig->record_result, "cannot record") : 0;
}

static inline void rig_done(KeeperStart *k, const Error *e) {
        Rig *rig = k->userdata;
        rig->done = true;
        rig->failed = e != NULL;
        error_copy(&rig->error, e);
}

static inline void rig_ended(Process *p, const ChildExit *exit UNUSED) {
        ((Rig *)p->userdata)->ended = true;
}

static inline void rig_init(Rig *rig, sd_event *event, bool privileged, uid_t uid, Ipv6Mode mode) {
        *rig = (Rig){
                .host = { .event = event,
                          .keeper_path = KEEPER_PATH,
                          .dnsmasq_path = "/usr/sbin/dnsmasq",
                          .privileged = privileged },
                .owner = { .uid = uid },
        };
        rig->network = test_network(&rig->owner, mode);
        keeper_start_init(&rig->start);
        rig->start.host = &rig->host;
        rig->start.owner = &rig->owner;
        rig->start.network = rig->network;
        rig->start.deadline_usec = 10 * USEC_PER_SEC;
        rig->start.record = rig_record;
        rig->start.done = rig_done;
        rig->start.userdata = rig;
}

static inline void rig_up(Rig *rig) {
        assert_int_equal(keeper_start(&rig->start, &rig->error), 0);
        assert_true(loop_until(rig->host.event, &rig->done));
        if (rig->failed)
                fail_msg("%s", error_text(&rig->error));
        assert_int_equal(keeper_watch(&rig->start, rig_ended, rig), 0);
        rig->network->state = NETWORK_UP;
}

/* As rig_up(), but before anybody knows the network. Its child waits. */
static inline void rig_prepare(Rig *rig, uint64_t spare_usec) {
        rig->start.network = NULL;
        rig->start.spare_usec = spare_usec;
        assert_int_equal(keeper_prepare(&rig->start, &rig->error), 0);
        while (rig->start.state == KEEPER_PREPARING)
                assert_true(sd_event_run(rig->host.event, UINT64_MAX) >= 0);
        assert_int_equal(rig->start.state, KEEPER_HELD);
}

static inline void rig_down(Rig *rig) {
        process_kill_group(&rig->network->process);
        assert_true(loop_until(rig->host.event, &rig->ended));
}

static inline void rig_free(Rig *rig) {
        keeper_start_stop(&rig->start);
        /* A keeper that was killed half way is hers until it has gone. */
        while (rig->owner.held.networks > 0 || rig->owner.held.dying_spares > 0)
                assert_true(sd_event_run(rig->host.event, UINT64_MAX) >= 0);
        rig->network = network_free(rig->network);
        error_clear(&rig->error);
}

static inline void enter_or_exit(const Rig *rig, int user_ns, int net_ns) {
        uid_t uid = rig->owner.uid;
        if (rig->host.privileged && (setgroups(0, NULL) < 0 || setresuid(uid, uid, uid) < 0))
                _exit(120);
        if (setns(user_ns, CLONE_NEWUSER) < 0)
                _exit(121);
        if (setns(net_ns, CLONE_NEWNET) < 0)
                _exit(122);
}

/* Fork; the child runs function inside the network (as its owner), or as it is when rig is NULL. Returns its exit
 * status. */
static inline int run_in_child(const Rig *rig, int (*function)(void *userdata), void *userdata) {
        int user_ns = -1, net_ns = -1;
        if (rig)
                assert_int_equal(network_open_namespaces(rig->network, &user_ns, &net_ns, NULL), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (rig)
                        enter_or_exit(rig, user_ns, net_ns);
                _exit(function(userdata));
        }
        fd_drop(&user_ns);
        fd_drop(&net_ns);
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* A shell command's exit status, for the tools of others. */
static inline int run_shell(void *command) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        return 127;
}

static inline int shell_in(const Rig *rig, const char *command) {
        return run_in_child(rig, run_shell, (void *)(uintptr_t)command);
}
