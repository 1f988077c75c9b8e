/* The objects that come and go: from path to network or domain and back, and the lists of them. Only what the registry
 * has announced exists here, so that a path is found from the signal that adds it to the one that removes it.
 *
 * sd-bus looks for one object several times per call, and for all of them in the order of our list to fill
 * GetManagedObjects: looking first at where the last look-up ended makes the whole linear. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

static Network *look_up_network(Bus *b, const char *name) {
        Network *last = b->last_network, *next = last ? TAILQ_NEXT(last, entry) : NULL;

        if (last && string_equal(last->name, name))
                return last;
        Network *found = next && string_equal(next->name, name) ? next : registry_network(&b->engine->registry, name);
        if (!found || !found->announced)
                return NULL; /* and not remembered: nobody would tell when it goes */
        b->last_network = found;
        return found;
}

static Domain *look_up_domain(Bus *b, const char *name) {
        Domain *last = b->last_domain, *next = last ? TAILQ_NEXT(last, entry) : NULL;

        if (last && string_equal(last->name, name))
                return last;
        Domain *found = next && string_equal(next->name, name) ? next : registry_domain(&b->engine->registry, name);
        if (!found || !found->announced)
                return NULL; /* and not remembered: nobody would tell when it goes */
        b->last_domain = found;
        return found;
}

int network_find(UNUSED sd_bus *c, const char *path, UNUSED const char *interface, void *userdata, void **ret,
                 UNUSED sd_bus_error *e) {
        AUTO(string_drop) char *name = NULL;
        Face *f = userdata;

        int r = sd_bus_path_decode(path, NETWORK_PREFIX, &name);
        if (r <= 0)
                return r;
        Network *n = look_up_network(f->bus, name);
        if (!n)
                return 0;
        *ret = n;
        return 1;
}

int domain_find(UNUSED sd_bus *c, const char *path, UNUSED const char *interface, void *userdata, void **ret,
                UNUSED sd_bus_error *e) {
        AUTO(string_drop) char *name = NULL;
        Face *f = userdata;

        int r = sd_bus_path_decode(path, DOMAIN_PREFIX, &name);
        if (r <= 0)
                return r;
        Domain *d = look_up_domain(f->bus, name);
        if (!d)
                return 0;
        *ret = d;
        return 1;
}

static char *encode(const char *prefix, const char *name) {
        char *path;
        return sd_bus_path_encode(prefix, name, &path) < 0 ? NULL : path;
}

char *network_path(const char *name) {
        return encode(NETWORK_PREFIX, name);
}

char *domain_path(const char *name) {
        return encode(DOMAIN_PREFIX, name);
}

int network_list(UNUSED sd_bus *c, UNUSED const char *prefix, void *userdata, char ***ret, UNUSED sd_bus_error *e) {
        Face *f = userdata;
        Registry *r = &f->bus->engine->registry;
        AUTO(string_list_free) char **list = calloc(r->n_networks + 1, sizeof *list);
        if (!list)
                return -ENOMEM;

        size_t count = 0;
        Network *n;
        TAILQ_FOREACH (n, &r->networks, entry) {
                if (n->announced && !(list[count++] = network_path(n->name)))
                        return -ENOMEM;
        }
        *ret = TAKE(list);
        return 0;
}

int domain_list(UNUSED sd_bus *c, UNUSED const char *prefix, void *userdata, char ***ret, UNUSED sd_bus_error *e) {
        Face *f = userdata;
        Registry *r = &f->bus->engine->registry;
        AUTO(string_list_free) char **list = calloc(r->n_domains + 1, sizeof *list);
        if (!list)
                return -ENOMEM;

        size_t count = 0;
        Domain *d;
        TAILQ_FOREACH (d, &r->domains, entry) {
                if (d->announced && !(list[count++] = domain_path(d->name)))
                        return -ENOMEM;
        }
        *ret = TAKE(list);
        return 0;
}
