/* com.googlecode.debmarshal.Network: one network. Its properties are for everybody, its methods for its owner. */
#include "bus/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* ---- properties -------------------------------------------------------------------------------------------------- */

static int append_name(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "s", n->name);
}

static int append_owner(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "u", (uint32_t)n->owner->uid);
}

static int append_state(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "s", network_state_name(n->state));
}

static int append_reason(sd_bus_message *reply, const Network *n) {
        AUTO(string_drop) char *copy = NULL;
        return sd_bus_message_append(reply, "s", valid_text(n->reason, &copy));
}

static int append_subnet(sd_bus_message *reply, const Network *n) {
        char text[SUBNET_TEXT_MAX];
        return sd_bus_message_append(reply, "s", subnet_format(&n->subnet, text));
}

static int append_gateway(sd_bus_message *reply, const Network *n) {
        char text[ADDRESS_TEXT_MAX];
        return sd_bus_message_append(reply, "s", address_format(subnet_gateway(&n->subnet), text));
}

static int append_netmask(sd_bus_message *reply, const Network *n) {
        char text[ADDRESS_TEXT_MAX];
        return sd_bus_message_append(reply, "s", subnet_netmask(&n->subnet, text));
}

static int append_ipv6_mode(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "s", ipv6_mode_name(n->ipv6_mode));
}

/* Empty without IPv6. */
static const char *address6_format(const Network *n, const struct in6_addr *address, char text[INET6_ADDRSTRLEN]) {
        if (n->ipv6_mode == IPV6_NONE || !inet_ntop(AF_INET6, address, text, INET6_ADDRSTRLEN))
                text[0] = '\0';
        return text;
}

static int append_subnet6(sd_bus_message *reply, const Network *n) {
        char text[INET6_ADDRSTRLEN + sizeof "/64"];

        if (*address6_format(n, &n->prefix6, text))
                strcat(text, "/64");
        return sd_bus_message_append(reply, "s", text);
}

static int append_gateway6(sd_bus_message *reply, const Network *n) {
        char text[INET6_ADDRSTRLEN];
        struct in6_addr gateway = network_gateway6(n);
        return sd_bus_message_append(reply, "s", address6_format(n, &gateway, text));
}

static int append_dns_domain(sd_bus_message *reply, const Network *n) {
        char text[NETWORK_DNS_DOMAIN_MAX];
        return sd_bus_message_append(reply, "s", network_dns_domain(n, text));
}

static int append_host_count(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "u", (uint32_t)n->n_hosts);
}

static int append_domain_count(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "u", (uint32_t)n->n_domains);
}

static int append_created(sd_bus_message *reply, const Network *n) {
        return sd_bus_message_append(reply, "t", n->created_usec);
}

static const struct {
        const char *name;
        int (*append)(sd_bus_message *reply, const Network *n);
} properties[] = {
        { "Name", append_name },
        { "Owner", append_owner },
        { "State", append_state },
        { "Reason", append_reason },
        { "Subnet", append_subnet },
        { "Gateway", append_gateway },
        { "Netmask", append_netmask },
        { "Ipv6Mode", append_ipv6_mode },
        { "Subnet6", append_subnet6 },
        { "Gateway6", append_gateway6 },
        { "DnsDomain", append_dns_domain },
        { "HostCount", append_host_count },
        { "DomainCount", append_domain_count },
        { "CreatedUsec", append_created },
};

static int get_property(UNUSED sd_bus *c, UNUSED const char *path, UNUSED const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, UNUSED sd_bus_error *e) {
        for (size_t i = 0; i < ARRAY_LEN(properties); i++)
                if (string_equal(properties[i].name, property))
                        return properties[i].append(reply, userdata);
        return -ENOENT;
}

/* ---- methods: userdata is the Network, the connection comes from the slot ---------------------------------------- */

/* A request about this network: what every handler begins with. */
static Request *network_request(sd_bus_message *m, const Network *n, const char *operation, RequestAppend append,
                                int *ret_result) {
        Request *q = request_new(m, operation, append, ret_result);
        if (q)
                request_set_network(q, n->name);
        return q;
}

static int append_hosts(Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        const Network *n = answer->network;
        char address[ADDRESS_TEXT_MAX], address6[INET6_ADDRSTRLEN], mac[MAC_TEXT_MAX];

        q->is_large = n->n_hosts > 256;
        int r = sd_bus_message_open_container(reply, 'a', "(ssss)");
        for (size_t i = 0; i < n->n_hosts && r >= 0; i++) {
                const Host *h = &n->hosts[i];
                r = sd_bus_message_append(reply, "(ssss)", h->name, address_format(h->address, address),
                                          mac_format(&h->mac, mac), address6_format(n, &h->address6, address6));
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int on_get_hosts(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Network *n = userdata;
        int r;
        Request *q = network_request(m, n, "Network.GetHosts", append_hosts, &r);
        if (!q)
                return r;

        q->quiet = true;
        EngineAnswer answer = { .network = n, .fds = { -1, -1 } };
        return request_finish(q, engine_authorise(&q->caller, n->owner, n->name, &q->error), &answer);
}

static int on_connect(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Network *n = userdata;
        const char *host;
        uint16_t port;
        int r;
        Request *q = network_request(m, n, "Network.Connect", append_fd, &r);
        if (!q)
                return r;

        r = sd_bus_message_read(m, "sq", &host, &port);
        if (r >= 0)
                r = engine_network_connect(q->bus->engine, &q->caller, n->name, host, port, request_answered, q,
                                           &q->error);
        return request_go(q, r);
}

static int on_listen(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Network *n = userdata;
        uint16_t port;
        int r;
        Request *q = network_request(m, n, "Network.Listen", append_fd, &r);
        if (!q)
                return r;

        r = sd_bus_message_read(m, "q", &port);
        if (r >= 0)
                r = engine_network_listen(q->bus->engine, &q->caller, n->name, port, request_answered, q, &q->error);
        return request_go(q, r);
}

static int on_open_namespaces(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Network *n = userdata;
        int r;
        Request *q = network_request(m, n, "Network.OpenNamespaces", append_two_fds, &r);
        if (!q)
                return r;

        EngineAnswer answer = { .fds = { -1, -1 } };
        r = engine_network_namespaces(q->bus->engine, &q->caller, n->name, &answer.fds[0], &answer.fds[1], &q->error);
        return request_finish(q, r, &answer);
}

static int on_capture(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Network *n = userdata;
        const char *device;
        int r;
        Request *q = network_request(m, n, "Network.Capture", append_fd, &r);
        if (!q)
                return r;

        r = sd_bus_message_read(m, "s", &device);
        if (r >= 0)
                r = engine_network_capture(q->bus->engine, &q->caller, n->name, device, request_answered, q, &q->error);
        return request_go(q, r);
}

static int on_destroy(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Network *n = userdata;
        int r;
        Request *q = network_request(m, n, "Network.Destroy", NULL, &r);
        if (!q)
                return r;

        return request_go(q,
                          engine_destroy_network(q->bus->engine, &q->caller, n->name, request_answered, q, &q->error));
}

#define PROPERTY_CONST(name, type)  SD_BUS_PROPERTY(name, type, get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST)
#define PROPERTY_CHANGE(name, type) SD_BUS_PROPERTY(name, type, get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

const sd_bus_vtable network_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("GetHosts", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssss)", hosts), on_get_hosts, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Connect", SD_BUS_ARGS("s", host, "q", port), SD_BUS_RESULT("h", socket), on_connect,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Listen", SD_BUS_ARGS("q", port), SD_BUS_RESULT("h", socket), on_listen, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenNamespaces", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("h", user_namespace, "h", network_namespace), on_open_namespaces,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Capture", SD_BUS_ARGS("s", device), SD_BUS_RESULT("h", stream), on_capture, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Destroy", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_destroy, ANYBODY),
        PROPERTY_CONST("Name", "s"),
        PROPERTY_CONST("Owner", "u"),
        PROPERTY_CHANGE("State", "s"),
        PROPERTY_CHANGE("Reason", "s"),
        PROPERTY_CONST("Subnet", "s"),
        PROPERTY_CONST("Gateway", "s"),
        PROPERTY_CONST("Netmask", "s"),
        PROPERTY_CONST("Ipv6Mode", "s"),
        PROPERTY_CONST("Subnet6", "s"),
        PROPERTY_CONST("Gateway6", "s"),
        PROPERTY_CONST("DnsDomain", "s"),
        PROPERTY_CONST("HostCount", "u"),
        PROPERTY_CHANGE("DomainCount", "u"),
        PROPERTY_CONST("CreatedUsec", "t"),
        SD_BUS_VTABLE_END,
};
