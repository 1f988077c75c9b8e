/* The objects that come and go: from path to network or domain and back, and the lists of them. Only what the registry
 * has announced exists here, so that a path is found from the signal that adds it to the one that removes it. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

int network_find(UNUSED sd_bus *c, const char *path, UNUSED const char *interface, void *userdata, void **ret,
                 UNUSED sd_bus_error *e) {
        AUTO(string_drop) char *name = NULL;
        Face *f = userdata;

        int r = sd_bus_path_decode(path, NETWORK_PREFIX, &name);
        if (r <= 0)
                return r;
        Network *n = registry_network(&f->bus->engine->registry, name);
        if (!n || !n->announced)
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
        Domain *d = registry_domain(&f->bus->engine->registry, name);
        if (!d || !d->announced)
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
