/* com.googlecode.debmarshal.Manager: the daemon itself, and what belongs to no object that exists. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* ---- properties ---------------------------------------------------------------------------------------------------
 */

static int append_version(sd_bus_message *reply, UNUSED Face *f) {
        return sd_bus_message_append(reply, "s", VERSION);
}

static int append_scope(sd_bus_message *reply, Face *f) {
        return sd_bus_message_append(reply, "s", f->bus->engine->scope == SCOPE_SYSTEM ? "system" : "session");
}

static int append_hypervisors(sd_bus_message *reply, Face *f) {
        const Engine *engine = f->bus->engine;

        int r = sd_bus_message_open_container(reply, 'a', "(sbs)");
        for (size_t i = 0; i < engine->n_hypervisors && r >= 0; i++) {
                AUTO(string_drop) char *copy = NULL;
                const HypervisorStatus *s = &engine->hypervisors[i];
                const char *reason = s->known ? valid_text(s->reason, &copy) : "it is still being probed";
                r = sd_bus_message_append(reply, "(sbs)", s->driver->name, (int)(s->known && s->usable), reason);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_emulators_of(sd_bus_message *reply, const Driver *driver) {
        for (size_t i = 0; driver->emulator; i++) {
                AUTO(string_drop) char *path = NULL;
                const char *arch;

                int r = driver->emulator(i, &arch, &path);
                if (r == -ENOENT)
                        break;
                if (r > 0)
                        r = sd_bus_message_append(reply, "(ss)", arch, path);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int append_emulators(sd_bus_message *reply, Face *f) {
        const Engine *engine = f->bus->engine;

        int r = sd_bus_message_open_container(reply, 'a', "(ss)");
        for (size_t i = 0; i < engine->n_hypervisors && r >= 0; i++)
                r = append_emulators_of(reply, engine->hypervisors[i].driver);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_boot_loaders(sd_bus_message *reply, Face *f) {
        const BootLoaders *loaders = &f->bus->engine->driver_settings.boot_loaders;

        int r = sd_bus_message_open_container(reply, 'a', "(ss)");
        for (size_t i = 0; r >= 0; i++) {
                AUTO(string_drop) char *path = NULL, *copy = NULL;
                const char *name;

                r = boot_loaders_at(loaders, i, &name, &path);
                if (r == -ENOENT)
                        return sd_bus_message_close_container(reply);
                if (r > 0)
                        r = sd_bus_message_append(reply, "(ss)", name, valid_text(path, &copy));
        }
        return r;
}

static int append_facts_of(sd_bus_message *reply, const Driver *driver) {
        DriverFact fact;

        for (size_t i = 0; driver->describe && driver->describe(i, &fact) >= 0; i++) {
                AUTO(string_drop) char *copy = NULL;
                int r = sd_bus_message_append(reply, "(ssss)", driver->name, fact.name, valid_text(fact.text, &copy),
                                              fact.cure);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int append_facts(sd_bus_message *reply, Face *f) {
        const Engine *engine = f->bus->engine;

        int r = sd_bus_message_open_container(reply, 'a', "(ssss)");
        for (size_t i = 0; i < engine->n_hypervisors && r >= 0; i++)
                r = append_facts_of(reply, engine->hypervisors[i].driver);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_dnsmasq(sd_bus_message *reply, Face *f) {
        AUTO(string_drop) char *copy = NULL;
        return sd_bus_message_append(reply, "s", valid_text(f->bus->engine->net_host.dnsmasq_path, &copy));
}

static int append_pool(sd_bus_message *reply, Face *f) {
        char text[SUBNET_TEXT_MAX];
        return sd_bus_message_append(reply, "s", subnet_format(&f->bus->engine->limits.pool, text));
}

static int append_caller_uid(sd_bus_message *reply, Face *f) {
        sd_bus_message *asking = sd_bus_get_current_message(f->connection);
        Caller who = { .uid = (uid_t)-1 };

        if (asking)
                caller_of(f, asking, &who, NULL);
        return sd_bus_message_append(reply, "u", (uint32_t)who.uid);
}

static const struct {
        const char *name;
        int (*append)(sd_bus_message *reply, Face *f);
} properties[] = {
        { "Version", append_version },
        { "Scope", append_scope },
        { "Hypervisors", append_hypervisors },
        { "Emulators", append_emulators },
        { "BootLoaders", append_boot_loaders },
        { "Dnsmasq", append_dnsmasq },
        { "Pool", append_pool },
        { "CallerUid", append_caller_uid },
        { "Facts", append_facts },
};

static int get_property(UNUSED sd_bus *c, UNUSED const char *path, UNUSED const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, UNUSED sd_bus_error *e) {
        for (size_t i = 0; i < ARRAY_LEN(properties); i++)
                if (string_equal(properties[i].name, property))
                        return properties[i].append(reply, userdata);
        return -ENOENT;
}

/* ---- creating and finding objects ---------------------------------------------------------------------------------
 */

static int append_network(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        AUTO(string_drop) char *path = network_path(answer->network->name);
        return path ? sd_bus_message_append(reply, "so", answer->network->name, path) : -ENOMEM;
}

static int set_option(void *target, const char *key, const ExtraValue *value, Error *e) {
        NetworkRequest *request = target;
        bool is_subnet = string_equal(key, "subnet");

        if (!is_subnet && !string_equal(key, "ipv6"))
                return error_set_value(e, ERROR_INVALID_INPUT, "option", key, "known are subnet, ipv6");
        if (value->kind != EXTRA_STRING)
                return error_set_value(e, ERROR_INVALID_INPUT, "option", key, "a string is wanted");
        if (is_subnet) {
                request->subnet = value->string;
                return 0;
        }
        request->ipv6_mode = ipv6_mode_from_name(value->string);
        if (request->ipv6_mode == IPV6_MODE_COUNT)
                return error_set_value(e, ERROR_INVALID_INPUT, "ipv6", value->string, "slaac, dhcp or none is wanted");
        return 0;
}

static int on_create_network(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        AUTO(strings_drop) char **hosts = NULL;
        NetworkRequest request = { .ipv6_mode = IPV6_SLAAC };
        int r;
        Request *q = request_new(m, "Manager.CreateNetwork", append_network, &r);
        if (!q)
                return r;

        r = hosts_read(q, m, &hosts);
        if (r >= 0)
                r = read_extras(m, "The options of a network", set_option, &request, &q->error);
        if (r < 0)
                return request_go(q, r);
        request.hosts = hosts;
        return request_go(q,
                          engine_create_network(q->bus->engine, &q->caller, &request, request_answered, q, &q->error));
}

static bool network_is_there(Registry *r, const char *name) {
        const Network *n = registry_network(r, name);
        return n && n->announced;
}

static bool domain_is_there(Registry *r, const char *name) {
        const Domain *d = registry_domain(r, name);
        return d && d->announced;
}

typedef struct Kind {
        const char *what;
        ErrorId missing;
        bool (*is_there)(Registry *r, const char *name);
        char *(*path)(const char *name);
} Kind;

static const Kind network_kind = { "network", ERROR_NETWORK_NOT_FOUND, network_is_there, network_path };
static const Kind domain_kind = { "domain", ERROR_DOMAIN_NOT_FOUND, domain_is_there, domain_path };

static int answer_path(sd_bus_message *m, const Face *f, const Kind *kind) {
        AUTO(error_clear) Error error = ERROR_INIT;
        AUTO(string_drop) char *path = NULL;
        const char *name;

        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                error_set_message(&error, r, "The name");
        else if (!kind->is_there(&f->bus->engine->registry, name))
                error_set_value(&error, kind->missing, kind->what, name, "there is none of that name");
        if (error_is_set(&error))
                return reply_error(m, &error);
        path = kind->path(name);
        return path ? sd_bus_reply_method_return(m, "o", path) : -ENOMEM;
}

static int on_get_network(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return answer_path(m, userdata, &network_kind);
}

static int on_get_domain(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return answer_path(m, userdata, &domain_kind);
}

/* ---- ended domains ------------------------------------------------------------------------------------------------
 */

static int append_ended(Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        AUTO(string_drop) char *copy = NULL;
        const EndedDomain *d = q->ended;
        return sd_bus_message_append(reply, "tssth", d->id, end_reason_name(d->reason), valid_text(d->message, &copy),
                                     d->ended_usec, answer->fds[0]);
}

static int on_get_ended_domain(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        EngineAnswer answer = { .fds = { -1, -1 } };
        const char *name;
        int r;
        Request *q = request_new(m, "Manager.GetEndedDomain", append_ended, &r);
        if (!q)
                return r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return request_go(q, r);
        request_set_domain(q, name);
        r = engine_ended_domain(q->bus->engine, &q->caller, name, &q->ended, &answer.fds[0], &q->error);
        return request_finish(q, r, &answer);
}

static int append_ended_list(Request *q, sd_bus_message *reply, UNUSED const EngineAnswer *answer) {
        const EndedDomain *d;

        int r = sd_bus_message_open_container(reply, 'a', "(tsusst)");
        TAILQ_FOREACH (d, &q->bus->engine->registry.ended, entry) {
                AUTO(string_drop) char *copy = NULL;
                if (r < 0 || (q->caller.uid != 0 && q->caller.uid != d->uid))
                        continue;
                r = sd_bus_message_append(reply, "(tsusst)", d->id, d->name, (uint32_t)d->uid,
                                          end_reason_name(d->reason), valid_text(d->message, &copy), d->ended_usec);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int on_list_ended_domains(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        int r;
        Request *q = request_new(m, "Manager.ListEndedDomains", append_ended_list, &r);
        if (!q)
                return r;

        q->quiet = true;
        return request_finish(q, 0, NULL);
}

/* ---- usage and limits ---------------------------------------------------------------------------------------------
 */

static int append_usage(Request *q, sd_bus_message *reply, UNUSED const EngineAnswer *answer) {
        const Owner *owner;

        int r = sd_bus_message_open_container(reply, 'a', "(ua{st})");
        TAILQ_FOREACH (owner, &q->bus->engine->registry.owners.list, entry) {
                const Charge *held = &owner->held;
                if (r < 0)
                        break;
                r = sd_bus_message_append(reply, "(ua{st})", (uint32_t)owner->uid, 6, "networks", held->networks,
                                          "domains", held->domains, "memory", held->memory, "vcpus", held->vcpus,
                                          "streams", held->streams, "connections", held->connections);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int on_get_usage(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        int r;
        Request *q = request_new(m, "Manager.GetUsage", append_usage, &r);
        if (!q)
                return r;

        q->quiet = true;
        return request_finish(q, 0, NULL);
}

static int append_limits(Request *q, sd_bus_message *reply, UNUSED const EngineAnswer *answer) {
        const Limits *l = limits_for(&q->bus->engine->limits, q->caller.uid);

        if (!l)
                return sd_bus_message_append(reply, "a{st}", 0);
        return sd_bus_message_append(reply, "a{st}", 7, "networks", l->networks, "domains", l->domains, "memory",
                                     l->memory, "vcpus", l->vcpus, "streams", l->streams, "connections", l->connections,
                                     "vcpus_per_domain", l->vcpus_per_domain);
}

static int on_get_limits(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        int r;
        Request *q = request_new(m, "Manager.GetLimits", append_limits, &r);
        if (!q)
                return r;

        q->quiet = true;
        return request_finish(q, 0, NULL);
}

static int on_probe(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        int r;
        Request *q = request_new(m, "Manager.Probe", NULL, &r);
        if (!q)
                return r;

        return request_go(q, engine_probe(q->bus->engine, request_answered, q, &q->error));
}

#define PROPERTY(name, type, flags) SD_BUS_PROPERTY(name, type, get_property, 0, flags)
const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("CreateNetwork", SD_BUS_ARGS("as", hosts, "a{sv}", options),
                                SD_BUS_RESULT("s", name, "o", network), on_create_network, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetNetwork", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", network), on_get_network,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetDomain", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", domain), on_get_domain,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetEndedDomain", SD_BUS_ARGS("s", name),
                                SD_BUS_RESULT("t", id, "s", reason, "s", message, "t", ended_usec, "h", log),
                                on_get_ended_domain, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ListEndedDomains", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(tsusst)", domains),
                                on_list_ended_domains, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetUsage", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ua{st})", usage), on_get_usage, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetLimits", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{st}", limits), on_get_limits, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Probe", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_probe, ANYBODY),
        PROPERTY("Version", "s", SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY("Scope", "s", SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY("Hypervisors", "a(sbs)", 0),
        PROPERTY("Emulators", "a(ss)", 0),
        PROPERTY("BootLoaders", "a(ss)", 0),
        PROPERTY("Facts", "a(ssss)", 0),
        PROPERTY("Dnsmasq", "s", SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY("Pool", "s", SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY("CallerUid", "u", 0),
        SD_BUS_VTABLE_END,
};
