/* What exists: every network, domain, ended domain and owner, found by name, and who is told when one changes. The
 * setters here are the only way to change a state: they assert the move, log it, and announce it. Nothing here touches
 * the store or the host. */
#pragma once

#include <stdint.h>

#include "core/domain.h"
#include "core/names.h"
#include "core/network.h"
#include "core/owner.h"

typedef struct RegistryListener {
        void (*network_added)(void *userdata, Network *n);
        void (*network_changed)(void *userdata, Network *n); /* state, or the number of domains */
        void (*network_removed)(void *userdata, Network *n); /* still whole */
        void (*domain_added)(void *userdata, Domain *d);
        void (*domain_changed)(void *userdata, Domain *d);
        void (*domain_removed)(void *userdata, Domain *d);
} RegistryListener;

/* For a few thousand of each: names end in the smallest free numbers, so that they spread evenly. */
#define REGISTRY_BUCKETS 1024

typedef struct Registry {
        Owners owners;
        NetworkList networks;
        DomainList domains;
        EndedList ended; /* oldest first */
        LIST_HEAD(, Network) networks_by_name[REGISTRY_BUCKETS];
        LIST_HEAD(, Domain) domains_by_name[REGISTRY_BUCKETS];
        size_t n_networks, n_domains;
        SubnetSet subnets;
        unsigned networks_from, domains_from; /* where to look for a free number */
        uint64_t next_domain_id;
        const RegistryListener *listener; /* NULL, or all slots set */
        void *listener_data;
} Registry;

void registry_init(Registry *r);
void registry_done(Registry *r); /* frees all that is in it */

Network *registry_network(Registry *r, const char *name); /* NULL: none */
Domain *registry_domain(Registry *r, const char *name);
/* The newest one of that name and uid ((uid_t)-1: of anybody). */
EndedDomain *registry_ended(Registry *r, const char *name, uid_t uid);

/* The name with the smallest free number, of networks or of domains. */
void registry_free_network_name(Registry *r, char buffer[OBJECT_NAME_MAX]);
void registry_free_domain_name(Registry *r, char buffer[OBJECT_NAME_MAX]);

/* A subnet of that prefix in the pool that no network here has, those left aside whose subnet is larger than their
 * hosts need. ERROR_NO_AVAILABLE_IPS. */
int registry_free_subnet(Registry *r, const Subnet *pool, uint8_t prefix, Subnet *ret, Error *e);

/* The lowest uid of the range that no domain has. ERROR_QUOTA_EXCEEDED when all are taken. */
int registry_free_jail_uid(Registry *r, const Limits *limits, uint32_t *ret, Error *e);

/* Add: the object is the registry's (-ENOMEM: it is still the caller's). A domain counts on each network that it names
 * (those that exist). Announces only objects past CREATING; the move from CREATING to UP or RUNNING announces the
 * object as added. */
int registry_add_network(Registry *r, Network *n);
void registry_add_domain(Registry *r, Domain *d);
/* Announce that it has gone before it is taken out: nothing can keep it any more. Nothing else is announced of it. */
void registry_withdraw_network(Registry *r, Network *n);
/* Take out (announcing it if it had been announced), uncount, free, and release its charge. */
void registry_remove_network(Registry *r, Network *n);
void registry_remove_domain(Registry *r, Domain *d);
void registry_add_ended(Registry *r, EndedDomain *d);
void registry_remove_ended(Registry *r, EndedDomain *d);

void registry_set_network_state(Registry *r, Network *n, NetworkState next);
void registry_set_domain_state(Registry *r, Domain *d, DomainState next);
/* Announce one that is being created already now, or whose creation cannot be taken back: there is something about it
 * for its owner to do. */
void registry_show_network(Registry *r, Network *n);
void registry_show_domain(Registry *r, Domain *d);

/* Does a live domain on that network have this MAC? */
bool registry_mac_in_use(Registry *r, const char *network, const Mac *mac);
/* Names of the domains on it, separated by ", ", at most ten and then "...". NULL without memory. */
char *registry_domains_on(Registry *r, const Network *n);
