/* network create, list, show, destroy. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/string-util.h"
#include "base/time-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/objects.h"
#include "cli/table.h"
#include "cli/verbs.h"

static int append_option(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

static int create(Cli *cli, const Arguments *hosts, const char *subnet, const char *ipv6, sd_bus_message **ret_reply,
                  Error *e) {
        AUTO(message_drop) sd_bus_message *m = NULL;

        int r = call_new(cli, ROOT_PATH, MANAGER_INTERFACE, "CreateNetwork", &m, e);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < hosts->count; i++)
                r = sd_bus_message_append(m, "s", hosts->items[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_option(m, "subnet", subnet);
        if (r >= 0)
                r = append_option(m, "ipv6", ipv6);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0)
                return error_set(e, ERROR_INVALID_INPUT, "host names and options must be UTF-8 text");
        progress_begin("Creating the network");
        r = call_send(cli, m, CALL_LONG_USEC, ret_reply, e);
        progress_end();
        return r;
}

/* Properties and hosts together. Who may not see the hosts gets the properties alone. */
static int load_with_hosts(Cli *cli, const char *path, json_t **ret, Error *e) {
        AUTO(json_drop) json_t *network = NULL, *hosts = NULL;
        AUTO(error_clear) Error refused = ERROR_INIT;

        int r = object_load(cli, OBJECT_NETWORK, path, &network, e);
        if (r < 0)
                return r;
        r = network_hosts(cli, path, &hosts, &refused);
        if (r < 0 && refused.id != ERROR_ACCESS_DENIED)
                return error_move(e, &refused);
        if (hosts && json_object_set(network, "hosts", hosts) < 0)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        *ret = TAKE(network);
        return 0;
}

int verb_network_create(Cli *cli, int argc, char **argv) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *network = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        const char *subnet = NULL, *ipv6 = NULL, *name, *path;
        bool json = false;
        const Option options[] = {
                { "subnet", 0, "CIDR", "this subnet, such as 10.1.2.0/24, instead of a free one", .text = &subnet },
                { "ipv6", 0, "MODE", "slaac, dhcp or none", .text = &ipv6 },
                { "json", 0, NULL, "print the network as JSON", .flag = &json },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || create(cli, &args, subnet, ipv6, &reply, &e) < 0)
                return verb_fail(&e);
        int r = sd_bus_message_read(reply, "so", &name, &path);
        if (r < 0) {
                call_misunderstood(r, &e);
                return verb_fail(&e);
        }
        if (!json) {
                puts(name);
                return STATUS_DONE;
        }
        if (load_with_hosts(cli, path, &network, &e) < 0 || value_print(network, &e) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

static char *cell_name(const json_t *row) {
        return strdup(value_text(row, "name"));
}

static char *cell_owner(const json_t *row) {
        return strdup(value_text(row, "owner_name"));
}

static char *cell_state(const json_t *row) {
        return strdup(value_text(row, "state"));
}

static Colour colour_state(const json_t *row) {
        const char *state = value_text(row, "state");

        return string_equal(state, "up") || string_equal(state, "active")       ? COLOUR_GREEN
               : string_equal(state, "failed") || string_equal(state, "broken") ? COLOUR_RED
                                                                                : COLOUR_YELLOW;
}

static char *cell_subnet(const json_t *row) {
        return strdup(value_text(row, "subnet"));
}

static char *cell_ipv6(const json_t *row) {
        return strdup(value_text(row, "ipv6_mode"));
}

static char *cell_hosts(const json_t *row) {
        return string_printf("%u", (unsigned)value_number(row, "host_count"));
}

static char *cell_domains(const json_t *row) {
        return string_printf("%u", (unsigned)value_number(row, "domain_count"));
}

static char *cell_age(const json_t *row) {
        char buffer[AGE_TEXT_MAX];

        return strdup(age_format(value_number(row, "created_usec"), now_realtime_usec(), buffer));
}

static const Column network_columns[] = {
        { "NAME", false, cell_name, NULL },     { "STATE", false, cell_state, colour_state },
        { "SUBNET", false, cell_subnet, NULL }, { "IPV6", false, cell_ipv6, NULL },
        { "HOSTS", true, cell_hosts, NULL },    { "DOMAINS", true, cell_domains, NULL },
        { "AGE", true, cell_age, NULL },        { "OWNER", false, cell_owner, NULL },
};

static void print_names(const json_t *rows) {
        for (size_t i = 0; i < json_array_size(rows); i++)
                puts(value_text(json_array_get(rows, i), "name"));
}

/* For completion: the hosts of the caller's networks, one a line. */
static int print_host_names(Cli *cli, const json_t *networks, Error *e) {
        for (size_t i = 0; i < json_array_size(networks); i++) {
                AUTO(string_drop) char *path = NULL;
                AUTO(json_drop) json_t *hosts = NULL;

                int r = network_path(cli, value_text(json_array_get(networks, i), "name"), &path, e);
                if (r >= 0)
                        r = network_hosts(cli, path, &hosts, e);
                if (r < 0)
                        return r;
                print_names(hosts);
        }
        return 0;
}

int verb_network_list(Cli *cli, int argc, char **argv) {
        AUTO(json_drop) json_t *networks = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        bool all = false, json = false, names = false, host_names = false;
        const Option options[] = {
                { "all", 'a', NULL, "everybody's, not only your own (root: the default)", .flag = &all },
                { "json", 0, NULL, "print an array of objects as JSON", .flag = &json },
                { "names", 0, NULL, NULL, .flag = &names },
                { "host-names", 0, NULL, NULL, .flag = &host_names },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (names || host_names) { /* completion: silent, and nothing is started for it */
                if (daemon_connect_running(cli, &e) < 0 ||
                    objects_load(cli, OBJECT_NETWORK, names && geteuid() == 0, &networks, &e) < 0)
                        return STATUS_FAILED;
                if (names)
                        print_names(networks);
                return host_names && print_host_names(cli, networks, &e) < 0 ? STATUS_FAILED : STATUS_DONE;
        }
        if (daemon_connect(cli, &e) < 0 ||
            objects_load(cli, OBJECT_NETWORK, all || geteuid() == 0, &networks, &e) < 0 ||
            (json ? value_print(networks, &e)
                  : table_print(stdout, network_columns, ARRAY_LEN(network_columns), networks, &e)) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

static char *cell_address(const json_t *row) {
        return strdup(value_text(row, "address"));
}

static char *cell_mac(const json_t *row) {
        return strdup(value_text(row, "mac"));
}

static char *cell_address6(const json_t *row) {
        return strdup(value_text(row, "address6"));
}

static const Column host_columns[] = {
        { "HOST", false, cell_name, NULL },
        { "ADDRESS", false, cell_address, NULL },
        { "MAC", false, cell_mac, NULL },
        { "IPV6", false, cell_address6, NULL },
};

static int print_network(const json_t *n, Error *e) {
        static const struct {
                const char *title, *key;
        } lines[] = {
                { "Name", "name" },
                { "Owner", "owner_name" },
                { "State", "state" },
                { "Reason", "reason" },
                { "Subnet", "subnet" },
                { "Gateway", "gateway" },
                { "Netmask", "netmask" },
                { "IPv6", "ipv6_mode" },
                { "IPv6 subnet", "subnet6" },
                { "IPv6 gateway", "gateway6" },
                { "DNS domain", "dns_domain" },
        };
        const json_t *hosts = json_object_get(n, "hosts");
        char age[AGE_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
                AUTO(string_drop) char *safe = text_safe(value_text(n, lines[i].key));
                if (safe && *safe)
                        printf("%-13s %s\n", lines[i].title, safe);
        }
        printf("%-13s %u\n", "Domains", (unsigned)value_number(n, "domain_count"));
        printf("%-13s %s\n", "Age", age_format(value_number(n, "created_usec"), now_realtime_usec(), age));
        if (json_array_size(hosts) > 0)
                putchar('\n');
        /* Without IPv6 its column would be empty. */
        return table_print(stdout, host_columns, ARRAY_LEN(host_columns) - (*value_text(n, "subnet6") ? 0 : 1), hosts,
                           e);
}

int verb_network_show(Cli *cli, int argc, char **argv) {
        AUTO(json_drop) json_t *network = NULL;
        AUTO(string_drop) char *path = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        bool json = false;
        const Option options[] = {
                { "json", 0, NULL, "print the network as JSON", .flag = &json },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || network_path(cli, args.items[0], &path, &e) < 0 ||
            load_with_hosts(cli, path, &network, &e) < 0 ||
            (json ? value_print(network, &e) : print_network(network, &e)) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

static bool is_on(const json_t *domain, const char *network) {
        const json_t *nics = json_object_get(domain, "nics");

        for (size_t i = 0; i < json_array_size(nics); i++)
                if (string_equal(value_text(json_array_get(nics, i), "network"), network))
                        return true;
        return false;
}

static int destroy_domains_on(Cli *cli, const char *network, Error *e) {
        AUTO(json_drop) json_t *domains = NULL;

        int r = objects_load(cli, OBJECT_DOMAIN, true, &domains, e);
        for (size_t i = 0; r >= 0 && i < json_array_size(domains); i++) {
                const json_t *domain = json_array_get(domains, i);
                AUTO(error_clear) Error one = ERROR_INIT;

                if (!is_on(domain, network))
                        continue;
                r = call(cli, PRIVOPS_PATH, PRIVOPS_INTERFACE, "destroyDomain", NULL, &one, "ss",
                         value_text(domain, "name"), "");
                if (r < 0 && one.id == ERROR_DOMAIN_NOT_FOUND) /* it ended by itself meanwhile */
                        r = 0;
                else if (r < 0)
                        r = error_move(e, &one);
        }
        return r;
}

static int destroy(Cli *cli, const char *name, bool domains, Error *e) {
        int r = domains ? destroy_domains_on(cli, name, e) : 0;

        return r < 0 ? r : call(cli, PRIVOPS_PATH, PRIVOPS_INTERFACE, "destroyNetwork", NULL, e, "s", name);
}

int verb_network_destroy(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        bool domains = false;
        const Option options[] = {
                { "domains", 'd', NULL, "destroy the domains on it first", .flag = &domains },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0)
                return verb_fail(&e);
        status = STATUS_DONE;
        for (size_t i = 0; i < args.count; i++) {
                AUTO(error_clear) Error one = ERROR_INIT;

                if (destroy(cli, args.items[i], domains, &one) >= 0)
                        continue;
                status = STATUS_FAILED;
                say("%s%s", error_text(&one), one.id == ERROR_NETWORK_IN_USE ? ", or give --domains" : "");
        }
        return status;
}
