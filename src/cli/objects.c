#include "cli/objects.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "cli/call.h"

static const char *kind_interface(ObjectKind kind) {
        return kind == OBJECT_NETWORK ? NETWORK_INTERFACE : DOMAIN_INTERFACE;
}

char *user_name(uint64_t uid) {
        const struct passwd *p = getpwuid((uid_t)uid);

        return p ? string_printf("%s", p->pw_name) : string_printf("%u", (unsigned)uid);
}

const char *domain_host(const json_t *domain) {
        const json_t *nics = json_object_get(domain, "nics");

        for (size_t i = 0; i < json_array_size(nics); i++) {
                const char *host = value_text(json_array_get(nics, i), "host");
                if (*host)
                        return host;
        }
        return "";
}

/* Rows of a(sss...) under these names. */
static json_t *name_members(const json_t *rows, const char *const *names, size_t n_names) {
        AUTO(json_drop) json_t *array = json_array();

        for (size_t i = 0; array && i < json_array_size(rows); i++) {
                json_t *object = json_object();

                for (size_t k = 0; k < n_names; k++)
                        json_object_set(object, names[k], json_array_get(json_array_get(rows, i), k));
                if (json_array_append_new(array, object) < 0)
                        return NULL;
        }
        return TAKE(array);
}

/* What the properties leave to be said for people. */
static int complete_object(ObjectKind kind, json_t *object) {
        static const char *const nic[] = { "network", "mac", "host" };
        AUTO(string_drop) char *owner = user_name(value_number(object, "owner"));

        if (json_object_set_new(object, "owner_name", json_string(string_or(owner, "?"))) < 0)
                return -ENOMEM;
        if (kind == OBJECT_NETWORK)
                return 0;
        json_t *nics = name_members(json_object_get(object, "nics"), nic, ARRAY_LEN(nic));
        return nics && json_object_set_new(object, "nics", nics) == 0 ? 0 : -ENOMEM;
}

/* One {interface: properties} entry; *ret is set when the interface is the wanted one. */
static int read_interface(sd_bus_message *m, ObjectKind kind, json_t **ret) {
        const char *interface;

        int r = sd_bus_message_read(m, "s", &interface);
        if (r < 0)
                return r;
        if (!string_equal(interface, kind_interface(kind)))
                return sd_bus_message_skip(m, "a{sv}");
        r = value_read_properties(m, ret);
        return r < 0 ? r : complete_object(kind, *ret);
}

/* One object of GetManagedObjects' answer: {o: a{sa{sv}}}. */
static int read_object(sd_bus_message *m, ObjectKind kind, json_t **ret) {
        int r = sd_bus_message_skip(m, "o");

        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = read_interface(m, kind, ret);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* The objects that are the wanted uid's; all of them with -1. */
static int read_objects(sd_bus_message *m, ObjectKind kind, int64_t uid, json_t *array) {
        int r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                AUTO(json_drop) json_t *object = NULL;

                r = read_object(m, kind, &object);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
                if (object && (uid < 0 || value_number(object, "owner") == (uint64_t)uid) &&
                    json_array_append(array, object) < 0)
                        return -ENOMEM;
        }
        return r;
}

static int compare_names(const void *a, const void *b) {
        return strverscmp(value_text(*(json_t *const *)a, "name"), value_text(*(json_t *const *)b, "name"));
}

static json_t *sorted(const json_t *array) {
        size_t n = json_array_size(array);
        json_t **items = calloc(n + 1, sizeof(json_t *));
        AUTO(json_drop) json_t *result = json_array();

        for (size_t i = 0; items && i < n; i++)
                items[i] = json_array_get(array, i);
        if (items)
                qsort(items, n, sizeof *items, compare_names);
        for (size_t i = 0; items && result && i < n; i++)
                json_array_append(result, items[i]);
        free(items);
        return json_array_size(result) == n ? TAKE(result) : NULL;
}

int objects_load(Cli *cli, ObjectKind kind, bool all, json_t **ret, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *array = json_array();
        uid_t uid = 0;

        int r = all ? 0 : caller_uid(cli, &uid, e);
        if (r >= 0)
                r = call(cli, ROOT_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &reply, e, NULL);
        if (r < 0)
                return r;
        r = array ? read_objects(reply, kind, all ? -1 : (int64_t)uid, array) : -ENOMEM;
        if (r < 0)
                return call_misunderstood(r, e);
        *ret = sorted(array);
        return *ret ? 0 : error_set(e, ERROR_INTERNAL, "out of memory");
}

int object_load(Cli *cli, ObjectKind kind, const char *path, json_t **ret, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *object = NULL;

        int r = call(cli, path, "org.freedesktop.DBus.Properties", "GetAll", &reply, e, "s", kind_interface(kind));
        if (r < 0)
                return r;
        r = value_read_properties(reply, &object);
        if (r >= 0)
                r = complete_object(kind, object);
        if (r < 0)
                return call_misunderstood(r, e);
        *ret = TAKE(object);
        return 0;
}

/* The answer to a call without arguments, which read() makes the rows of. */
static int load_rows(Cli *cli, const char *path, const char *interface, const char *method,
                     int (*read)(sd_bus_message *m, json_t *array), json_t **ret, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *array = json_array();

        int r = call(cli, path, interface, method, &reply, e, NULL);
        if (r < 0)
                return r;
        r = array ? read(reply, array) : -ENOMEM;
        if (r < 0)
                return call_misunderstood(r, e);
        *ret = TAKE(array);
        return 0;
}

static int read_ended(sd_bus_message *m, json_t *array) {
        const char *name, *reason, *message;
        uint64_t id, ended;
        uint32_t uid;
        int r = sd_bus_message_enter_container(m, 'a', "(tsusst)");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(tsusst)", &id, &name, &uid, &reason, &message, &ended)) > 0) {
                AUTO(string_drop) char *owner = user_name(uid);
                json_t *row = json_pack("{sIsssIsssssssI}", "id", (json_int_t)id, "name", name, "owner",
                                        (json_int_t)uid, "owner_name", string_or(owner, "?"), "reason", reason,
                                        "message", message, "ended_usec", (json_int_t)ended);
                if (json_array_append_new(array, row) < 0)
                        return -ENOMEM;
        }
        return r;
}

int ended_load(Cli *cli, json_t **ret, Error *e) {
        return load_rows(cli, ROOT_PATH, MANAGER_INTERFACE, "ListEndedDomains", read_ended, ret, e);
}

static int read_hosts(sd_bus_message *m, json_t *array) {
        const char *name, *address, *mac, *address6;
        int r = sd_bus_message_enter_container(m, 'a', "(ssss)");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(ssss)", &name, &address, &mac, &address6)) > 0) {
                json_t *host =
                        json_pack("{ssssssss}", "name", name, "address", address, "mac", mac, "address6", address6);
                if (json_array_append_new(array, host) < 0)
                        return -ENOMEM;
        }
        return r;
}

int network_hosts(Cli *cli, const char *path, json_t **ret, Error *e) {
        return load_rows(cli, path, NETWORK_INTERFACE, "GetHosts", read_hosts, ret, e);
}

/* GetNetwork or GetDomain. */
static int look_up(Cli *cli, const char *method, const char *name, char **ret_path, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        const char *path;

        int r = call(cli, ROOT_PATH, MANAGER_INTERFACE, method, &reply, e, "s", name);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return call_misunderstood(r, e);
        return string_replace(ret_path, path) < 0 ? error_set(e, ERROR_INTERNAL, "out of memory") : 0;
}

int network_path(Cli *cli, const char *name, char **ret_path, Error *e) {
        return look_up(cli, "GetNetwork", name, ret_path, e);
}

static bool has_host(const json_t *domain, const char *host) {
        const json_t *nics = json_object_get(domain, "nics");

        for (size_t i = 0; i < json_array_size(nics); i++)
                if (strcasecmp(value_text(json_array_get(nics, i), "host"), host) == 0)
                        return true;
        return false;
}

int domain_by_host(const json_t *objects, const char *host, const char **ret_name, Error *e) {
        AUTO(string_list_free) char **names = NULL;
        AUTO(string_drop) char *joined = NULL;

        for (size_t i = 0; *host && i < json_array_size(objects); i++)
                if (has_host(json_array_get(objects, i), host)) {
                        *ret_name = value_text(json_array_get(objects, i), "name");
                        if (string_list_append(&names, *ret_name) < 0)
                                return error_set(e, ERROR_INTERNAL, "out of memory");
                }
        if (string_list_length(names) == 1)
                return 0;
        if (!names)
                return error_set(e, ERROR_DOMAIN_NOT_FOUND, "no domain of that name, and none of yours is host %s",
                                 host);
        joined = string_list_join(names, ", ");
        return error_set(e, ERROR_INVALID_INPUT, "several of your domains are host %s: %s", host,
                         string_or(joined, ""));
}

int domain_path(Cli *cli, const char *name, char **ret_path, Error *e) {
        AUTO(error_clear) Error first = ERROR_INIT;
        AUTO(json_drop) json_t *own = NULL;
        const char *found = NULL;

        int r = look_up(cli, "GetDomain", name, ret_path, &first);
        if (r >= 0)
                return r;
        /* A word of another form than our names is refused as invalid; it may be a host name all the same. */
        if (first.id != ERROR_DOMAIN_NOT_FOUND && first.id != ERROR_INVALID_INPUT)
                return error_move(e, &first);
        r = objects_load(cli, OBJECT_DOMAIN, false, &own, e);
        if (r < 0)
                return r;
        r = domain_by_host(own, name, &found, e);
        if (r == error_errno(ERROR_DOMAIN_NOT_FOUND) && e && e->id == ERROR_DOMAIN_NOT_FOUND) {
                error_clear(e);
                return error_move(e, &first);
        }
        return r < 0 ? r : look_up(cli, "GetDomain", found, ret_path, e);
}

int domain_name(const char *path, char **ret, Error *e) {
        int r = sd_bus_path_decode(path, DOMAIN_PREFIX, ret);

        return r > 0 ? 0 : call_misunderstood(r < 0 ? r : -EBADMSG, e);
}

bool domain_may_have_ended(const Error *e) {
        return e->id == ERROR_DOMAIN_NOT_FOUND || e->id == ERROR_ACCESS_DENIED;
}

int manager_text(Cli *cli, const char *property, char **ret, Error *e) {
        int r = sd_bus_get_property_string(cli->bus, NULL, ROOT_PATH, MANAGER_INTERFACE, property, NULL, ret);

        return r < 0 ? error_set_errno(e, r, "cannot read the daemon's %s", property) : 0;
}

int caller_uid(Cli *cli, uid_t *ret, Error *e) {
        uint32_t uid;
        int r = sd_bus_get_property_trivial(cli->bus, NULL, ROOT_PATH, MANAGER_INTERFACE, "CallerUid", NULL, 'u', &uid);

        if (r < 0)
                return error_set_errno(e, r, "cannot ask the daemon who it takes us for");
        *ret = uid;
        return 0;
}
