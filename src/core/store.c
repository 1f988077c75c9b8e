/* The records of the store: how each thing becomes rows, and rows a registry. */
#include "core/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "core/store-internal.h"

/* ---- networks ---------------------------------------------------------------------------------------------------- */

static int add_host(Store *s, const char *network, size_t position, const Host *h, Error *e) {
        Query q = query_new(s, SQL_HOST_ADD);
        query_put_text(&q, network);
        query_put_number(&q, position);
        query_put_text(&q, h->name);
        query_put_number(&q, h->address);
        query_put_blob(&q, h->mac.octets, sizeof h->mac.octets);
        query_put_blob(&q, &h->address6, sizeof h->address6);
        return query_run(&q, e);
}

static int add_network(Store *s, const Network *n, Error *e) {
        Query q = query_new(s, SQL_NETWORK_ADD);
        query_put_text(&q, n->name);
        query_put_number(&q, n->owner->uid);
        query_put_text(&q, network_state_name(n->state));
        query_put_text(&q, n->reason);
        query_put_number(&q, n->subnet.base);
        query_put_number(&q, n->subnet.prefix);
        query_put_text(&q, ipv6_mode_name(n->ipv6_mode));
        query_put_blob(&q, &n->prefix6, sizeof n->prefix6);
        query_put_number(&q, n->created_usec);
        query_put_number(&q, (uint64_t)n->keeper.pid);
        query_put_number(&q, n->keeper.start_time);
        query_put_number(&q, n->user_ns);
        query_put_number(&q, n->net_ns);
        int r = query_run(&q, e);
        for (size_t i = 0; i < n->n_hosts && r >= 0; i++)
                r = add_host(s, n->name, i, &n->hosts[i], e);
        return r;
}

int store_add_network(Store *s, const Network *n, Error *e) {
        int r = store_begin_addition(s, e);
        return r < 0 ? r : store_end(s, add_network(s, n, e), e);
}

/* An update that finds no row means that the record was lost: a promise broken, and not by the caller. */
static int require_change(Store *s, int r, const char *what, const char *name, Error *e) {
        if (r < 0 || sqlite3_changes(s->db) == 1)
                return r;
        error_set(e, ERROR_INTERNAL, "%s: there is no record of %s %s", s->path, what, name);
        return -ENOENT;
}

static int update_network(Store *s, const Network *n, Error *e) {
        Query q = query_new(s, SQL_NETWORK_UPDATE);
        query_put_text(&q, n->name);
        query_put_text(&q, network_state_name(n->state));
        query_put_text(&q, n->reason);
        query_put_number(&q, (uint64_t)n->keeper.pid);
        query_put_number(&q, n->keeper.start_time);
        query_put_number(&q, n->user_ns);
        query_put_number(&q, n->net_ns);
        return require_change(s, query_run(&q, e), "network", n->name, e);
}

int store_update_network(Store *s, const Network *n, Error *e) {
        int r;
        do {
                r = store_begin(s, e);
                if (r >= 0)
                        r = store_end(s, update_network(s, n, e), e);
        } while (store_try_again(s, r, e));
        return r;
}

static int remove_named(Store *s, Statement id, const char *name, Error *e) {
        Query q = query_new(s, id);
        query_put_text(&q, name);
        return query_run(&q, e);
}

static int remove_network(Store *s, const Network *n, Error *e) {
        int r = remove_named(s, SQL_HOST_REMOVE_ALL, n->name, e);
        return r < 0 ? r : remove_named(s, SQL_NETWORK_REMOVE, n->name, e);
}

int store_remove_network(Store *s, const Network *n, Error *e) {
        int r;
        do {
                r = store_begin(s, e);
                if (r >= 0)
                        r = store_end(s, remove_network(s, n, e), e);
        } while (store_try_again(s, r, e));
        return r;
}

/* ---- domains ----------------------------------------------------------------------------------------------------- */

static int domain_spec_text(const Domain *d, char **ret, Error *e) {
        int r = domain_spec_to_json(&d->spec, ret);
        return r < 0 ? error_set_errno(e, r, "Failed to record domain %s", d->name) : 0;
}

static int add_domain(Store *s, const Domain *d, Error *e) {
        AUTO(string_drop) char *spec = NULL;
        int r = domain_spec_text(d, &spec, e);
        if (r < 0)
                return r;

        Query q = query_new(s, SQL_DOMAIN_ADD);
        query_put_text(&q, d->name);
        query_put_number(&q, d->id);
        query_put_number(&q, d->owner->uid);
        query_put_text(&q, domain_state_name(d->state));
        query_put_text(&q, spec);
        query_put_text(&q, end_reason_name(d->end_reason));
        query_put_text(&q, d->end_message);
        query_put_number(&q, d->created_usec);
        query_put_number(&q, (uint64_t)d->process.pid);
        query_put_number(&q, d->process.start_time);
        query_put_number(&q, d->jail_uid);
        query_put_blob(&q, d->uuid, sizeof d->uuid);
        r = query_run(&q, e);
        if (r < 0)
                return r;

        Query next = query_new(s, SQL_META_RAISE);
        query_put_text(&next, "next_domain_id");
        query_put_number(&next, d->id + 1);
        return query_run(&next, e);
}

int store_add_domain(Store *s, const Domain *d, Error *e) {
        int r = store_begin_addition(s, e);
        return r < 0 ? r : store_end(s, add_domain(s, d, e), e);
}

static int update_domain(Store *s, const Domain *d, Error *e) {
        AUTO(string_drop) char *spec = NULL;
        int r = domain_spec_text(d, &spec, e);
        if (r < 0)
                return r;

        Query q = query_new(s, SQL_DOMAIN_UPDATE);
        query_put_text(&q, d->name);
        query_put_text(&q, domain_state_name(d->state));
        query_put_text(&q, spec);
        query_put_text(&q, end_reason_name(d->end_reason));
        query_put_text(&q, d->end_message);
        query_put_number(&q, (uint64_t)d->process.pid);
        query_put_number(&q, d->process.start_time);
        query_put_number(&q, d->jail_uid);
        return require_change(s, query_run(&q, e), "domain", d->name, e);
}

int store_update_domain(Store *s, const Domain *d, Error *e) {
        int r;
        do {
                r = store_begin(s, e);
                if (r >= 0)
                        r = store_end(s, update_domain(s, d, e), e);
        } while (store_try_again(s, r, e));
        return r;
}

static int add_ended(Store *s, const EndedDomain *d, Error *e) {
        Query q = query_new(s, SQL_ENDED_ADD);
        query_put_number(&q, d->id);
        query_put_text(&q, d->name);
        query_put_number(&q, d->uid);
        query_put_text(&q, end_reason_name(d->reason));
        query_put_text(&q, d->message);
        query_put_number(&q, d->ended_usec);
        return query_run(&q, e);
}

static int remove_domain(Store *s, const Domain *d, const EndedDomain *ended, Error *e) {
        int r = remove_named(s, SQL_DOMAIN_REMOVE, d->name, e);
        return r < 0 || !ended ? r : add_ended(s, ended, e);
}

int store_remove_domain(Store *s, const Domain *d, const EndedDomain *ended, Error *e) {
        int r;
        do {
                r = store_begin(s, e);
                if (r >= 0)
                        r = store_end(s, remove_domain(s, d, ended, e), e);
        } while (store_try_again(s, r, e));
        return r;
}

static int remove_ended(Store *s, uint64_t id, Error *e) {
        Query q = query_new(s, SQL_ENDED_REMOVE);
        query_put_number(&q, id);
        return query_run(&q, e);
}

int store_remove_ended(Store *s, uint64_t id, Error *e) {
        int r;
        do {
                r = store_begin(s, e);
                if (r >= 0)
                        r = store_end(s, remove_ended(s, id, e), e);
        } while (store_try_again(s, r, e));
        return r;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

/* The file is ours alone, but may be another version's or damaged: nothing that is read may trip an assertion later.
 * Each load_*() function reads one row into an object of its own and hands it to the registry last. */

static int load_owner(Store *s, Registry *r, uint64_t uid, const Charge *charge, Owner **ret, Error *e) {
        int result = uid >= (uid_t)-1 ? -ERANGE : owners_get(&r->owners, (uid_t)uid, ret);
        if (result == -ERANGE)
                return store_fail_row(s, "a uid", NULL, e);
        if (result < 0)
                return error_set_errno(e, result, "Failed to load the state");
        return owner_charge(*ret, charge, NULL, e);
}

static int load_copy(const char *text, char **ret, Error *e) {
        return string_replace(ret, text) < 0 ? error_set_errno(e, ENOMEM, "Failed to load the state") : 0;
}

static int load_host(Store *s, Query *q, Host *h, Error *e) {
        const char *name = query_text(q);
        if (!name)
                return store_fail_row(s, "host", name, e);
        h->address = (uint32_t)query_number(q);
        if (!query_blob(q, h->mac.octets, sizeof h->mac.octets) || !query_blob(q, &h->address6, sizeof h->address6))
                return store_fail_row(s, "host", name, e);
        return load_copy(name, &h->name, e);
}

static int load_hosts(Store *s, Network *n, Error *e) {
        Query q = query_new(s, SQL_HOST_ALL);
        query_put_text(&q, n->name);

        size_t capacity = 0;
        int r;
        while ((r = query_row(&q, e)) > 0) {
                if (n->n_hosts == capacity) {
                        capacity = capacity ? 2 * capacity : 8;
                        Host *bigger = reallocarray(n->hosts, capacity, sizeof *bigger);
                        if (!bigger) {
                                query_reset(&q);
                                return error_set_errno(e, ENOMEM, "Failed to load the state");
                        }
                        n->hosts = bigger;
                }
                n->hosts[n->n_hosts] = (Host){ 0 };
                r = load_host(s, &q, &n->hosts[n->n_hosts++], e);
                if (r < 0) {
                        query_reset(&q);
                        return r;
                }
        }
        return r;
}

/* The columns of SQL_NETWORK_ALL behind name and uid. */
static int load_network_columns(Store *s, Query *q, Network *n, Error *e) {
        n->state = network_state_from_name(query_text(q));
        int r = load_copy(query_text(q), &n->reason, e);
        if (r < 0)
                return r;
        n->subnet.base = (uint32_t)query_number(q);
        uint64_t prefix = query_number(q);
        n->subnet.prefix = (uint8_t)prefix;
        n->ipv6_mode = ipv6_mode_from_name(query_text(q));
        bool whole = query_blob(q, &n->prefix6, sizeof n->prefix6);
        n->created_usec = query_number(q);
        n->keeper.pid = (pid_t)query_number(q);
        n->keeper.start_time = query_number(q);
        n->user_ns = query_number(q);
        n->net_ns = query_number(q);
        if (!whole || prefix > 32 || n->state == NETWORK_STATE_COUNT || n->ipv6_mode == IPV6_MODE_COUNT ||
            n->keeper.pid < 0)
                return store_fail_row(s, "network", n->name, e);
        return 0;
}

static int load_network(Store *s, Query *q, Registry *r, Error *e) {
        const char *name = query_text(q);
        Owner *owner = NULL;
        Network *n = NULL;
        unsigned number;
        if (!name || object_name_parse(name, &number) < 0)
                return store_fail_row(s, "network", name, e);
        int result = load_owner(s, r, query_number(q), &(Charge){ .networks = 1 }, &owner, e);
        if (result < 0)
                return result;

        result = network_new(name, owner, &n);
        if (result < 0)
                return error_set_errno(e, result, "Failed to load the state");
        result = load_network_columns(s, q, n, e);
        if (result >= 0)
                result = load_hosts(s, n, e);
        if (result < 0) {
                network_free(n);
                return result;
        }
        result = registry_add_network(r, n);
        if (result < 0) {
                network_free(n);
                return error_set_errno(e, result, "Failed to load the state");
        }
        return 0;
}

/* The columns of SQL_DOMAIN_ALL behind the spec. */
static int load_domain_columns(Store *s, Query *q, Domain *d, Error *e) {
        d->end_reason = end_reason_from_name(query_text(q));
        int r = load_copy(query_text(q), &d->end_message, e);
        if (r < 0)
                return r;
        d->created_usec = query_number(q);
        d->process.pid = (pid_t)query_number(q);
        d->process.start_time = query_number(q);
        d->jail_uid = (uint32_t)query_number(q);
        bool whole = query_blob(q, d->uuid, sizeof d->uuid);
        if (!whole || d->state == DOMAIN_STATE_COUNT || d->end_reason == END_REASON_COUNT || d->process.pid < 0)
                return store_fail_row(s, "domain", d->name, e);
        return 0;
}

static int load_domain(Store *s, Query *q, Registry *r, Error *e) {
        AUTO(domain_spec_clear) DomainSpec spec = DOMAIN_SPEC_INIT;
        const char *name = query_text(q);
        uint64_t id = query_number(q), uid = query_number(q);
        DomainState state = domain_state_from_name(query_text(q));
        const char *json = query_text(q);
        unsigned number;
        if (!name || object_name_parse(name, &number) < 0 || !json)
                return store_fail_row(s, "domain", name, e);

        int result = domain_spec_from_json(json, &spec);
        if (result == -ENOMEM)
                return error_set_errno(e, result, "Failed to load the state");
        if (result < 0)
                return store_fail_row(s, "domain", name, e);

        Domain *d;
        result = domain_new(name, id, NULL, &spec, &d);
        if (result < 0)
                return error_set_errno(e, result, "Failed to load the state");
        d->state = state;
        Charge charge = domain_charge(d);
        result = load_domain_columns(s, q, d, e);
        if (result >= 0)
                result = load_owner(s, r, uid, &charge, &d->owner, e);
        if (result < 0) {
                domain_free(d);
                return result;
        }
        registry_add_domain(r, d);
        return 0;
}

static int load_ended(Store *s, Query *q, Registry *r, Error *e) {
        EndedDomain *d = calloc(1, sizeof *d);
        if (!d)
                return error_set_errno(e, ENOMEM, "Failed to load the state");

        d->id = query_number(q);
        int result = load_copy(query_text(q), &d->name, e);
        d->uid = (uid_t)query_number(q);
        d->reason = end_reason_from_name(query_text(q));
        if (result >= 0)
                result = load_copy(query_text(q), &d->message, e);
        d->ended_usec = query_number(q);
        if (result >= 0 && (!d->name || d->reason == END_REASON_COUNT))
                result = store_fail_row(s, "ended domain", d->name, e);
        if (result < 0) {
                ended_domain_free(d);
                return result;
        }
        registry_add_ended(r, d);
        return 0;
}

static int load_next_domain_id(Store *s, Query *q, Registry *r, Error *e) {
        (void)s;
        (void)e;
        uint64_t id = query_number(q);
        if (id > r->next_domain_id)
                r->next_domain_id = id;
        return 0;
}

static int load_all(Query q, Registry *r, int (*load)(Store *s, Query *q, Registry *r, Error *e), Error *e) {
        int result;
        while ((result = query_row(&q, e)) > 0) {
                result = load(q.store, &q, r, e);
                if (result < 0) {
                        query_reset(&q);
                        return result;
                }
        }
        return result;
}

int store_load(Store *s, Registry *r, Error *e) {
        int result = load_all(query_new(s, SQL_NETWORK_ALL), r, load_network, e);
        if (result >= 0)
                result = load_all(query_new(s, SQL_DOMAIN_ALL), r, load_domain, e);
        if (result >= 0)
                result = load_all(query_new(s, SQL_ENDED_ALL), r, load_ended, e);

        Query next = query_new(s, SQL_META_GET);
        query_put_text(&next, "next_domain_id");
        return result < 0 ? result : load_all(next, r, load_next_domain_id, e);
}
