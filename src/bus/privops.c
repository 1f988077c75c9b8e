/* com.googlecode.debmarshal.Privops, as its first clients know it: nothing here may change. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/string-util.h"

/* Lists this long leave the heap larger than the daemon is to be. */
#define HOSTS_LARGE 256

int hosts_read(Request *q, sd_bus_message *m, char ***ret) {
        int r = read_strings(m, "The host names of a network", HOSTS_PER_NETWORK_MAX, ret, &q->error);
        q->is_large = r < 0 || string_list_length(*ret) > HOSTS_LARGE;
        return r;
}

/* "(sssa{s(ss)})": name, gateway, netmask, and each host's address and MAC in the order in which they were given. */
static int append_network(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        const Network *n = answer->network;
        char gateway[ADDRESS_TEXT_MAX], netmask[ADDRESS_TEXT_MAX], address[ADDRESS_TEXT_MAX], mac[MAC_TEXT_MAX];
        int r;

        if ((r = sd_bus_message_open_container(reply, 'r', "sssa{s(ss)}")) < 0 ||
            (r = sd_bus_message_append(reply, "sss", n->name, address_format(subnet_gateway(&n->subnet), gateway),
                                       subnet_netmask(&n->subnet, netmask))) < 0 ||
            (r = sd_bus_message_open_container(reply, 'a', "{s(ss)}")) < 0)
                return r;
        for (size_t i = 0; i < n->n_hosts; i++) {
                const Host *h = &n->hosts[i];
                r = sd_bus_message_append(reply, "{s(ss)}", h->name, address_format(h->address, address),
                                          mac_format(&h->mac, mac));
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int on_create_network(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        AUTO(strings_drop) char **hosts = NULL;
        int r;
        Request *q = request_new(m, "createNetwork", append_network, &r);
        if (!q)
                return r;

        r = hosts_read(q, m, &hosts);
        if (r < 0)
                return request_go(q, r);
        NetworkRequest request = { .hosts = hosts, .ipv6_mode = IPV6_SLAAC };
        return request_go(q,
                          engine_create_network(q->bus->engine, &q->caller, &request, request_answered, q, &q->error));
}

static int on_destroy_network(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        const char *name;
        int r;
        Request *q = request_new(m, "destroyNetwork", NULL, &r);
        if (!q)
                return r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return request_go(q, r);
        request_set_network(q, name);
        return request_go(q, engine_destroy_network(q->bus->engine, &q->caller, name, request_answered, q, &q->error));
}

static int append_domain_name(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        return sd_bus_message_append(reply, "s", answer->domain->name);
}

/* createDomain's fixed arguments: "sasssss". */
static int read_domain(Request *q, sd_bus_message *m, DomainSpec *spec) {
        AUTO(strings_drop) char **disks = NULL;
        const char *memory, *network, *mac, *hypervisor, *arch;

        int r = sd_bus_message_read(m, "s", &memory);
        if (r >= 0)
                r = read_strings(m, "The disks of a domain", DISKS_PER_DOMAIN_MAX, &disks, &q->error);
        if (r >= 0)
                r = sd_bus_message_read(m, "ssss", &network, &mac, &hypervisor, &arch);
        if (r < 0)
                return r;
        request_set_network(q, network);
        return domain_spec_set(spec, memory, disks, network, mac, hypervisor, arch, &q->error);
}

/* createDomain's last argument: "a{sv}". */
static int set_extra(void *spec, const char *key, const ExtraValue *value, Error *e) {
        return domain_spec_set_extra(spec, key, value, e);
}

static int on_create_domain(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        AUTO(domain_spec_clear) DomainSpec spec = DOMAIN_SPEC_INIT;
        int r;
        Request *q = request_new(m, "createDomain", append_domain_name, &r);
        if (!q)
                return r;

        r = read_domain(q, m, &spec);
        if (r >= 0)
                r = read_extras(m, "The extra keys of a domain", set_extra, &spec, &q->error);
        if (r < 0)
                return request_go(q, r);
        return request_go(q, engine_create_domain(q->bus->engine, &q->caller, &spec, request_answered, q, &q->error));
}

static int on_destroy_domain(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        const char *name, *hypervisor;
        int r;
        Request *q = request_new(m, "destroyDomain", NULL, &r);
        if (!q)
                return r;

        r = sd_bus_message_read(m, "ss", &name, &hypervisor);
        if (r < 0)
                return request_go(q, r);
        request_set_domain(q, name);
        return request_go(
                q, engine_destroy_domain(q->bus->engine, &q->caller, name, hypervisor, request_answered, q, &q->error));
}

const sd_bus_vtable privops_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("createNetwork", SD_BUS_ARGS("as", hosts), SD_BUS_RESULT("(sssa{s(ss)})", network),
                                on_create_network, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("destroyNetwork", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, on_destroy_network,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("createDomain",
                                SD_BUS_ARGS("s", memory, "as", disks, "s", network, "s", mac, "s", hypervisor, "s",
                                            arch, "a{sv}", extra),
                                SD_BUS_RESULT("s", name), on_create_domain, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("destroyDomain", SD_BUS_ARGS("s", name, "s", hypervisor), SD_BUS_NO_RESULT,
                                on_destroy_domain, ANYBODY),
        SD_BUS_VTABLE_END,
};
