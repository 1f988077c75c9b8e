/* All requests go into one buffer and to the kernel in one sendmsg(), which works them off in order before it returns;
 * then one acknowledgement each is read. A failed request does not stop those behind it: with what depends on it they
 * fail too, and the first failure is the one to tell.
 *
 * Sequence numbers are the requests' numbers from 1, so that an answer names its step. */
#include "net/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define STEPS_MAX   64
#define BATCH_MAX   8192
#define REQUEST_MAX 512 /* none is larger */

struct Netlink {
        struct mnl_socket *socket;
        const char *steps[STEPS_MAX];
        unsigned count;
        const char *overflown; /* the first step that did not fit */
        size_t length;
        _Alignas(8) char batch[BATCH_MAX];
};

Netlink *netlink_close(Netlink *nl) {
        if (!nl)
                return NULL;

        if (nl->socket)
                mnl_socket_close(nl->socket);
        free(nl);
        return NULL;
}

void netlink_drop(Netlink **nl) {
        *nl = netlink_close(*nl);
}

int netlink_open(Netlink **ret) {
        Netlink *nl = calloc(1, sizeof *nl);
        if (!nl)
                return -ENOMEM;

        nl->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
        if (!nl->socket || mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
                int r = -errno;
                netlink_close(nl);
                return r;
        }
        *ret = nl;
        return 0;
}

/* A request at the end of the batch, or NULL when there is no room. Its attributes are put directly; request_end()
 * makes them count. */
static struct nlmsghdr *request_begin(Netlink *nl, const char *step, uint16_t type, uint16_t flags) {
        if (nl->overflown || nl->count >= STEPS_MAX || nl->length + REQUEST_MAX > sizeof nl->batch) {
                if (!nl->overflown)
                        nl->overflown = step;
                return NULL;
        }
        struct nlmsghdr *request = mnl_nlmsg_put_header(nl->batch + nl->length);
        request->nlmsg_type = type;
        request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        nl->steps[nl->count++] = step;
        request->nlmsg_seq = nl->count;
        return request;
}

static void request_end(Netlink *nl, const struct nlmsghdr *request) {
        nl->length += MNL_ALIGN(request->nlmsg_len);
}

static struct nlmsghdr *link_begin(Netlink *nl, const char *step, uint16_t flags, int index, unsigned link_flags) {
        struct nlmsghdr *request = request_begin(nl, step, RTM_NEWLINK, flags);
        if (!request)
                return NULL;

        struct ifinfomsg *link = mnl_nlmsg_put_extra_header(request, sizeof *link);
        link->ifi_family = AF_UNSPEC;
        link->ifi_index = index;
        link->ifi_flags = link_flags;
        link->ifi_change = link_flags;
        return request;
}

void netlink_link_up(Netlink *nl, int index) {
        struct nlmsghdr *request = link_begin(nl, "bring a link up", 0, index, IFF_UP);
        if (request)
                request_end(nl, request);
}

void netlink_move(Netlink *nl, int index, int netns_fd) {
        struct nlmsghdr *request = link_begin(nl, "move a link", 0, index, 0);
        if (!request)
                return;

        mnl_attr_put_u32(request, IFLA_NET_NS_FD, (uint32_t)netns_fd);
        request_end(nl, request);
}

/* Has to come before the link is up: that is when the kernel gives it a link-local address. */
static void no_own_address6(Netlink *nl, int index) {
        struct nlmsghdr *request = link_begin(nl, "turn off a link's own IPv6 addresses", 0, index, 0);
        if (!request)
                return;

        struct nlattr *families = mnl_attr_nest_start(request, IFLA_AF_SPEC);
        struct nlattr *inet6 = mnl_attr_nest_start(request, AF_INET6);
        mnl_attr_put_u8(request, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        mnl_attr_nest_end(request, inet6);
        mnl_attr_nest_end(request, families);
        request_end(nl, request);
}

void netlink_bridge_add(Netlink *nl, const char *name, int index, const Mac *mac) {
        struct nlmsghdr *request = link_begin(nl, "add the bridge", NLM_F_CREATE | NLM_F_EXCL, index, 0);
        if (!request)
                return;

        mnl_attr_put_strz(request, IFLA_IFNAME, name);
        mnl_attr_put(request, IFLA_ADDRESS, sizeof mac->octets, mac->octets);
        struct nlattr *info = mnl_attr_nest_start(request, IFLA_LINKINFO);
        mnl_attr_put_strz(request, IFLA_INFO_KIND, "bridge");
        struct nlattr *data = mnl_attr_nest_start(request, IFLA_INFO_DATA);
        mnl_attr_put_u32(request, IFLA_BR_FORWARD_DELAY, 0);
        mnl_attr_put_u32(request, IFLA_BR_STP_STATE, 0);
        /* There is no multicast router, hence no querier: snooping would cut neighbour discovery off in time. */
        mnl_attr_put_u8(request, IFLA_BR_MCAST_SNOOPING, 0);
        mnl_attr_nest_end(request, data);
        mnl_attr_nest_end(request, info);
        request_end(nl, request);

        no_own_address6(nl, index);
        netlink_link_up(nl, index);
}

void netlink_set_master(Netlink *nl, int index, int master) {
        no_own_address6(nl, index);
        struct nlmsghdr *request = link_begin(nl, "join the bridge", 0, index, IFF_UP);
        if (!request)
                return;

        mnl_attr_put_u32(request, IFLA_MASTER, (uint32_t)master);
        request_end(nl, request);
}

static struct nlmsghdr *address_begin(Netlink *nl, const char *step, int index, uint8_t family, uint8_t prefix,
                                      uint8_t flags) {
        struct nlmsghdr *request = request_begin(nl, step, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        if (!request)
                return NULL;

        struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(request, sizeof *address);
        address->ifa_family = family;
        address->ifa_prefixlen = prefix;
        address->ifa_flags = flags;
        address->ifa_scope = RT_SCOPE_UNIVERSE;
        address->ifa_index = (uint32_t)index;
        return request;
}

void netlink_address4_add(Netlink *nl, int index, uint32_t address, uint8_t prefix) {
        struct nlmsghdr *request = address_begin(nl, "add the IPv4 address", index, AF_INET, prefix, 0);
        if (!request)
                return;

        uint32_t host_bits = prefix == 0 ? ~0U : (uint32_t)((1ULL << (32 - prefix)) - 1);
        mnl_attr_put_u32(request, IFA_LOCAL, htonl(address));
        mnl_attr_put_u32(request, IFA_ADDRESS, htonl(address));
        mnl_attr_put_u32(request, IFA_BROADCAST, htonl(address | host_bits));
        request_end(nl, request);
}

void netlink_address6_add(Netlink *nl, int index, const struct in6_addr *address, uint8_t prefix) {
        struct nlmsghdr *request =
                address_begin(nl, "add the IPv6 address", index, AF_INET6, prefix, IFA_F_NODAD | IFA_F_PERMANENT);
        if (!request)
                return;

        mnl_attr_put(request, IFA_LOCAL, sizeof *address, address);
        request_end(nl, request);
}

typedef struct Answers {
        Netlink *nl;
        unsigned count;
        unsigned failed; /* the lowest number of a failed request; 0: none */
        int error;
} Answers;

static int on_answer(const struct nlmsghdr *answer, void *userdata) {
        Answers *a = userdata;
        if (answer->nlmsg_type != NLMSG_ERROR || answer->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(int))
                return MNL_CB_OK;

        a->count++;
        const struct nlmsgerr *result = mnl_nlmsg_get_payload(answer);
        if (result->error != 0 && (a->failed == 0 || answer->nlmsg_seq < a->failed)) {
                a->failed = answer->nlmsg_seq;
                a->error = result->error;
        }
        return MNL_CB_OK;
}

/* libmnl's own dispatcher turns errors into its return value and stops there; so walk by hand. */
static int read_answers(Answers *a) {
        _Alignas(8) char buffer[BATCH_MAX];
        while (a->count < a->nl->count) {
                ssize_t n = mnl_socket_recvfrom(a->nl->socket, buffer, sizeof buffer);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                int left = (int)n;
                for (const struct nlmsghdr *answer = (const struct nlmsghdr *)buffer; mnl_nlmsg_ok(answer, left);
                     answer = mnl_nlmsg_next(answer, &left))
                        on_answer(answer, a);
        }
        return 0;
}

static int transact(Netlink *nl, const char **ret_step) {
        if (nl->overflown) {
                *ret_step = nl->overflown;
                return -ENOBUFS;
        }
        *ret_step = "talk to the kernel";
        if (nl->length > 0 && mnl_socket_sendto(nl->socket, nl->batch, nl->length) < 0)
                return -errno;

        Answers answers = { .nl = nl };
        int r = read_answers(&answers);
        if (r < 0 || answers.failed == 0)
                return r;
        *ret_step = answers.failed <= nl->count ? nl->steps[answers.failed - 1] : *ret_step;
        return answers.error;
}

int netlink_commit(Netlink *nl, const char **ret_step) {
        const char *step;
        int r = transact(nl, &step);
        if (r < 0)
                *ret_step = step;

        nl->count = 0;
        nl->length = 0;
        nl->overflown = NULL;
        return r;
}
