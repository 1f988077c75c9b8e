/* What exists. These hold between any two calls:
 *
 *   - network->n_domains is the number of domains in the list that have a NIC on it, whatever their state;
 *   - subnets has the subnet of each network that keeps it from others, see keeps_subnet();
 *   - every number below networks_from (domains_from) is in the name of one;
 *   - the listener has been told of exactly the objects whose announced is set: once added, each change, once removed.
 */
#include "core/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/string-util.h"

#define TO(state) (1u << (state))

/* UNUSED: with assertions compiled out, nobody reads these. */
UNUSED
static const uint8_t network_next[NETWORK_STATE_COUNT] = {
        [NETWORK_CREATING] = TO(NETWORK_UP) | TO(NETWORK_DESTROYING),
        [NETWORK_UP] = TO(NETWORK_FAILED) | TO(NETWORK_DESTROYING),
        [NETWORK_FAILED] = TO(NETWORK_DESTROYING),
};

/* A domain asked to start paused goes straight from CREATING to PAUSED. */
UNUSED
static const uint8_t domain_next[DOMAIN_STATE_COUNT] = {
        [DOMAIN_CREATING] = TO(DOMAIN_RUNNING) | TO(DOMAIN_PAUSED) | TO(DOMAIN_DESTROYING),
        [DOMAIN_RUNNING] = TO(DOMAIN_PAUSED) | TO(DOMAIN_DESTROYING),
        [DOMAIN_PAUSED] = TO(DOMAIN_RUNNING) | TO(DOMAIN_DESTROYING),
};

void registry_init(Registry *r) {
        *r = (Registry){ .next_domain_id = 1 };
        owners_init(&r->owners);
        TAILQ_INIT(&r->networks);
        TAILQ_INIT(&r->domains);
        TAILQ_INIT(&r->ended);
}

void registry_done(Registry *r) {
        r->listener = NULL;
        while (!TAILQ_EMPTY(&r->domains))
                registry_remove_domain(r, TAILQ_FIRST(&r->domains));
        while (!TAILQ_EMPTY(&r->networks))
                registry_remove_network(r, TAILQ_FIRST(&r->networks));
        while (!TAILQ_EMPTY(&r->ended))
                registry_remove_ended(r, TAILQ_FIRST(&r->ended));
        subnet_set_clear(&r->subnets);
        owners_done(&r->owners);
}

/* By the number in the name. One that did not come from us (none should) has the first bucket. */
static size_t bucket_of(const char *name) {
        unsigned number;
        return object_name_parse(name, &number) < 0 ? 0 : number % REGISTRY_BUCKETS;
}

Network *registry_network(Registry *r, const char *name) {
        Network *n;
        LIST_FOREACH (n, &r->networks_by_name[bucket_of(name)], same_bucket) {
                if (strcmp(n->name, name) == 0)
                        return n;
        }
        return NULL;
}

Domain *registry_domain(Registry *r, const char *name) {
        Domain *d;
        LIST_FOREACH (d, &r->domains_by_name[bucket_of(name)], same_bucket) {
                if (strcmp(d->name, name) == 0)
                        return d;
        }
        return NULL;
}

EndedDomain *registry_ended(Registry *r, const char *name, uid_t uid) {
        EndedDomain *d;
        TAILQ_FOREACH_REVERSE(d, &r->ended, EndedList, entry) {
                if (strcmp(d->name, name) == 0 && (uid == (uid_t)-1 || d->uid == uid))
                        return d;
        }
        return NULL;
}

void registry_free_network_name(Registry *r, char buffer[OBJECT_NAME_MAX]) {
        while (registry_network(r, object_name_format(r->networks_from, buffer)))
                r->networks_from++;
}

void registry_free_domain_name(Registry *r, char buffer[OBJECT_NAME_MAX]) {
        while (registry_domain(r, object_name_format(r->domains_from, buffer)))
                r->domains_from++;
}

static void name_released(unsigned *from, const char *name) {
        unsigned number;
        if (object_name_parse(name, &number) == 0 && number < *from)
                *from = number;
}

/* Networks are isolated, so that two of the same subnet do each other no harm: those that the pool gives are kept apart
 * for whoever has to do with several. One that was asked for may be of any size, though: it counts if it is no larger
 * than its hosts need, so that nobody has more of the pool than her share of networks. */
static bool keeps_subnet(const Network *n) {
        return n->subnet.prefix >= subnet_prefix_for(n->n_hosts);
}

int registry_free_subnet(Registry *r, const Subnet *pool, uint8_t prefix, Subnet *ret, Error *e) {
        return subnet_allocate(pool, prefix, &r->subnets, ret, e);
}

int registry_free_jail_uid(Registry *r, const Limits *limits, uint32_t *ret, Error *e) {
        unsigned *numbers = calloc(r->n_domains + 1, sizeof *numbers);
        if (!numbers)
                return error_set_errno(e, ENOMEM, "Failed to choose a uid for the guest");

        size_t count = 0;
        Domain *d;
        TAILQ_FOREACH (d, &r->domains, entry) {
                if (d->jail_uid >= limits->jail_uid_base &&
                    d->jail_uid - limits->jail_uid_base < limits->jail_uid_count)
                        numbers[count++] = d->jail_uid - limits->jail_uid_base;
        }
        unsigned number = smallest_free(numbers, count);
        free(numbers);
        if (number >= limits->jail_uid_count)
                return error_set(e, ERROR_QUOTA_EXCEEDED, "All %u uids that guests may run as are taken",
                                 limits->jail_uid_count);

        *ret = limits->jail_uid_base + number;
        return 0;
}

static void announce_network_change(Registry *r, Network *n) {
        if (r->listener && n->announced)
                r->listener->network_changed(r->listener_data, n);
}

static void announce_network(Registry *r, Network *n) {
        n->announced = true;
        if (r->listener)
                r->listener->network_added(r->listener_data, n);
}

static void announce_domain(Registry *r, Domain *d) {
        d->announced = true;
        if (r->listener)
                r->listener->domain_added(r->listener_data, d);
}

/* A domain with two NICs on one network counts there once: is nics[index] the first on its network? */
static bool nic_is_first(const DomainSpec *spec, size_t index) {
        for (size_t i = 0; i < index; i++)
                if (strcmp(spec->nics[i].network, spec->nics[index].network) == 0)
                        return false;
        return true;
}

static bool domain_is_on(const Domain *d, const Network *n) {
        for (size_t i = 0; i < d->spec.n_nics; i++)
                if (strcmp(d->spec.nics[i].network, n->name) == 0)
                        return true;
        return false;
}

static void count_domain(Registry *r, const Domain *d, bool add) {
        for (size_t i = 0; i < d->spec.n_nics; i++) {
                Network *n = nic_is_first(&d->spec, i) ? registry_network(r, d->spec.nics[i].network) : NULL;
                if (!n)
                        continue;
                assert(add || n->n_domains > 0);
                n->n_domains += add ? 1 : (size_t)-1;
                announce_network_change(r, n);
        }
}

int registry_add_network(Registry *r, Network *n) {
        if (keeps_subnet(n) && subnet_set_add(&r->subnets, &n->subnet) < 0)
                return -ENOMEM;
        TAILQ_INSERT_TAIL(&r->networks, n, entry);
        LIST_INSERT_HEAD(&r->networks_by_name[bucket_of(n->name)], n, same_bucket);
        r->n_networks++;

        /* Normally none: but what store_load() and a test add may come in any order. */
        n->n_domains = 0;
        Domain *d;
        TAILQ_FOREACH (d, &r->domains, entry) {
                if (domain_is_on(d, n))
                        n->n_domains++;
        }
        if (n->state != NETWORK_CREATING)
                announce_network(r, n);
        return 0;
}

void registry_add_domain(Registry *r, Domain *d) {
        TAILQ_INSERT_TAIL(&r->domains, d, entry);
        LIST_INSERT_HEAD(&r->domains_by_name[bucket_of(d->name)], d, same_bucket);
        r->n_domains++;
        if (d->id >= r->next_domain_id)
                r->next_domain_id = d->id + 1;

        count_domain(r, d, true);
        if (d->state != DOMAIN_CREATING)
                announce_domain(r, d);
}

void registry_withdraw_network(Registry *r, Network *n) {
        if (r->listener && n->announced)
                r->listener->network_removed(r->listener_data, n);
        n->announced = false;
}

void registry_remove_network(Registry *r, Network *n) {
        registry_withdraw_network(r, n);
        TAILQ_REMOVE(&r->networks, n, entry);
        LIST_REMOVE(n, same_bucket);
        r->n_networks--;
        if (keeps_subnet(n))
                subnet_set_remove(&r->subnets, &n->subnet);
        name_released(&r->networks_from, n->name);
        owner_release(n->owner, &(Charge){ .networks = 1 });
        network_free(n);
}

void registry_remove_domain(Registry *r, Domain *d) {
        if (r->listener && d->announced)
                r->listener->domain_removed(r->listener_data, d);
        TAILQ_REMOVE(&r->domains, d, entry);
        LIST_REMOVE(d, same_bucket);
        r->n_domains--;
        name_released(&r->domains_from, d->name);
        count_domain(r, d, false);

        Charge charge = domain_charge(d);
        owner_release(d->owner, &charge);
        domain_free(d);
}

void registry_add_ended(Registry *r, EndedDomain *d) {
        TAILQ_INSERT_TAIL(&r->ended, d, entry);
}

void registry_remove_ended(Registry *r, EndedDomain *d) {
        TAILQ_REMOVE(&r->ended, d, entry);
        ended_domain_free(d);
}

void registry_set_network_state(Registry *r, Network *n, NetworkState next) {
        assert(network_next[n->state] & TO(next));

        log_write(LOG_DEBUG, LOG_FIELDS(.network = n->name, .uid = &n->owner->uid), "Network %s: %s -> %s", n->name,
                  network_state_name(n->state), network_state_name(next));
        n->state = next;
        if (n->announced)
                announce_network_change(r, n);
        else if (next == NETWORK_UP)
                announce_network(r, n);
}

void registry_set_domain_state(Registry *r, Domain *d, DomainState next) {
        assert(domain_next[d->state] & TO(next));

        log_write(LOG_DEBUG, LOG_FIELDS(.domain = d->name, .uid = &d->owner->uid), "Domain %s: %s -> %s", d->name,
                  domain_state_name(d->state), domain_state_name(next));
        d->state = next;
        if (!d->announced && next != DOMAIN_DESTROYING)
                announce_domain(r, d);
        else if (r->listener && d->announced)
                r->listener->domain_changed(r->listener_data, d);
}

void registry_show_network(Registry *r, Network *n) {
        if (!n->announced)
                announce_network(r, n);
}

void registry_show_domain(Registry *r, Domain *d) {
        if (!d->announced)
                announce_domain(r, d);
}

bool registry_mac_in_use(Registry *r, const char *network, const Mac *mac) {
        Domain *d;
        TAILQ_FOREACH (d, &r->domains, entry) {
                for (size_t i = 0; i < d->spec.n_nics; i++)
                        if (mac_equal(&d->spec.nics[i].mac, mac) && strcmp(d->spec.nics[i].network, network) == 0)
                                return true;
        }
        return false;
}

#define NAMES_SHOWN 10

char *registry_domains_on(Registry *r, const Network *n) {
        AUTO(string_list_free) StringList names = NULL;
        size_t count = 0;
        Domain *d;
        TAILQ_FOREACH (d, &r->domains, entry) {
                if (!domain_is_on(d, n))
                        continue;
                if (string_list_append(&names, count < NAMES_SHOWN ? d->name : "...") < 0)
                        return NULL;
                if (++count > NAMES_SHOWN)
                        break;
        }
        return names ? string_list_join(names, ", ") : strdup("");
}
