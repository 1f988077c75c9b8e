/* What happens in the registry, as signals on every connection: InterfacesAdded, InterfacesRemoved, PropertiesChanged.
 * A connection that cannot take them is not worth failing anything for. */
#include "bus/internal.h"

#include <string.h>

#include "base/string-util.h"

typedef int (*Emit)(sd_bus *c, const char *path);

/* Takes the path, NULL without memory. */
static void emit_everywhere(Bus *b, char *taken, Emit emit) {
        AUTO(string_drop) char *path = taken;
        Face *f;

        if (!path)
                return;
        TAILQ_FOREACH (f, &b->faces, entry) {
                if (!face_is_ready(f))
                        continue;
                int r = emit(f->connection, path);
                if (r < 0)
                        log_debug("Failed to signal a change of %s: %s, ignoring", path, strerror(-r));
                face_check_queue(f);
        }
}

static int emit_network_changed(sd_bus *c, const char *path) {
        return sd_bus_emit_properties_changed(c, path, NETWORK_INTERFACE, "State", "Reason", "DomainCount", NULL);
}

static int emit_network_added(sd_bus *c, const char *path) {
        return sd_bus_emit_interfaces_added(c, path, NETWORK_INTERFACE, NULL);
}

static int emit_network_removed(sd_bus *c, const char *path) {
        return sd_bus_emit_interfaces_removed(c, path, NETWORK_INTERFACE, NULL);
}

static int emit_domain_changed(sd_bus *c, const char *path) {
        return sd_bus_emit_properties_changed(c, path, DOMAIN_INTERFACE, "State", NULL);
}

static int emit_domain_added(sd_bus *c, const char *path) {
        return sd_bus_emit_interfaces_added(c, path, DOMAIN_INTERFACE, NULL);
}

static int emit_domain_removed(sd_bus *c, const char *path) {
        return sd_bus_emit_interfaces_removed(c, path, DOMAIN_INTERFACE, NULL);
}

static void network_added(void *userdata, Network *n) {
        emit_everywhere(userdata, network_path(n->name), emit_network_added);
}

static void network_changed(void *userdata, Network *n) {
        emit_everywhere(userdata, network_path(n->name), emit_network_changed);
}

static void network_removed(void *userdata, Network *n) {
        Bus *b = userdata;

        emit_everywhere(b, network_path(n->name), emit_network_removed);
        heap_object_gone(b);
}

static void domain_added(void *userdata, Domain *d) {
        emit_everywhere(userdata, domain_path(d->name), emit_domain_added);
}

static void domain_changed(void *userdata, Domain *d) {
        emit_everywhere(userdata, domain_path(d->name), emit_domain_changed);
}

static void domain_removed(void *userdata, Domain *d) {
        Bus *b = userdata;

        emit_everywhere(b, domain_path(d->name), emit_domain_removed);
        heap_object_gone(b);
}

const RegistryListener bus_listener = {
        .network_added = network_added,
        .network_changed = network_changed,
        .network_removed = network_removed,
        .domain_added = domain_added,
        .domain_changed = domain_changed,
        .domain_removed = domain_removed,
};
