/* domain list, show, destroy, and the verbs that only name a domain: pause, resume, reset, shutdown, wait. */
#include <errno.h>
#include <inttypes.h>
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

static char *cell_name(const json_t *row) {
        return strdup(value_text(row, "name"));
}

static char *cell_host(const json_t *row) {
        return strdup(string_or(domain_host(row), "-"));
}

static char *cell_state(const json_t *row) {
        return strdup(value_text(row, "state"));
}

static Colour colour_state(const json_t *row) {
        return string_equal(value_text(row, "state"), "running") ? COLOUR_GREEN : COLOUR_YELLOW;
}

static char *cell_hypervisor(const json_t *row) {
        return strdup(value_text(row, "hypervisor"));
}

static char *cell_arch(const json_t *row) {
        return strdup(value_text(row, "arch"));
}

static char *cell_memory(const json_t *row) {
        char buffer[SIZE_TEXT_MAX];

        return string_printf("%s", size_format(value_number(row, "memory"), buffer));
}

static char *cell_vcpus(const json_t *row) {
        return string_printf("%u", (unsigned)value_number(row, "vcpus"));
}

static char *cell_networks(const json_t *row) {
        const json_t *nics = json_object_get(row, "nics");
        AUTO(string_list_free) char **names = NULL;

        for (size_t i = 0; i < json_array_size(nics); i++)
                if (string_list_append(&names, value_text(json_array_get(nics, i), "network")) < 0)
                        return NULL;
        return names ? string_list_join(names, ",") : strdup("-");
}

static char *cell_age(const json_t *row) {
        char buffer[AGE_TEXT_MAX];

        return string_printf("%s", age_format(value_number(row, "created_usec"), now_realtime_usec(), buffer));
}

static char *cell_owner(const json_t *row) {
        return strdup(value_text(row, "owner_name"));
}

static const Column domain_columns[] = {
        { "NAME", false, cell_name, NULL },
        { "HOST", false, cell_host, NULL },
        { "STATE", false, cell_state, colour_state },
        { "HYPERVISOR", false, cell_hypervisor, NULL },
        { "ARCH", false, cell_arch, NULL },
        { "MEMORY", true, cell_memory, NULL },
        { "VCPUS", true, cell_vcpus, NULL },
        { "NETWORK", false, cell_networks, NULL },
        { "AGE", true, cell_age, NULL },
        { "OWNER", false, cell_owner, NULL },
};

static char *cell_reason(const json_t *row) {
        return strdup(value_text(row, "reason"));
}

static char *cell_message(const json_t *row) {
        return strdup(value_text(row, "message"));
}

static char *cell_ended(const json_t *row) {
        char buffer[AGE_TEXT_MAX];

        return string_printf("%s ago", age_format(value_number(row, "ended_usec"), now_realtime_usec(), buffer));
}

static const Column ended_columns[] = {
        { "NAME", false, cell_name, NULL },       { "ENDED", true, cell_ended, NULL },
        { "REASON", false, cell_reason, NULL },   { "OWNER", false, cell_owner, NULL },
        { "MESSAGE", false, cell_message, NULL },
};

/* For completion: each name, and the host names of the caller's own. */
static void print_names(const json_t *domains) {
        for (size_t i = 0; i < json_array_size(domains); i++) {
                const json_t *domain = json_array_get(domains, i);

                puts(value_text(domain, "name"));
                if (*domain_host(domain))
                        puts(domain_host(domain));
        }
}

int verb_domain_list(Cli *cli, int argc, char **argv) {
        AUTO(json_drop) json_t *domains = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        bool all = false, json = false, names = false, ended = false;
        const Option options[] = {
                { "all", 'a', NULL, "everybody's, not only your own (root: the default)", .flag = &all },
                { "ended", 0, NULL, "those that have ended and are still remembered", .flag = &ended },
                { "json", 0, NULL, "print an array of objects as JSON", .flag = &json },
                { "names", 0, NULL, NULL, .flag = &names },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (names) { /* completion: silent, and nothing is started for it */
                if (daemon_connect_running(cli, &e) < 0 || objects_load(cli, OBJECT_DOMAIN, false, &domains, &e) < 0)
                        return STATUS_FAILED;
                print_names(domains);
                return STATUS_DONE;
        }
        const Column *columns = ended ? ended_columns : domain_columns;
        size_t n = ended ? ARRAY_LEN(ended_columns) : ARRAY_LEN(domain_columns);
        if (daemon_connect(cli, &e) < 0 ||
            (ended ? ended_load(cli, &domains, &e)
                   : objects_load(cli, OBJECT_DOMAIN, all || geteuid() == 0, &domains, &e)) < 0 ||
            (json ? value_print(domains, &e) : table_print(stdout, columns, n, domains, &e)) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

/* The properties, and under "spec" what only the owner is told. */
static int load_described(Cli *cli, const char *path, json_t **ret, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *domain = NULL, *spec = NULL;
        AUTO(error_clear) Error refused = ERROR_INIT;
        const char *text;

        int r = object_load(cli, OBJECT_DOMAIN, path, &domain, e);
        if (r < 0)
                return r;
        r = call(cli, path, DOMAIN_INTERFACE, "Describe", &reply, &refused, NULL);
        if (r < 0 && refused.id != ERROR_ACCESS_DENIED)
                return error_move(e, &refused);
        if (r >= 0) {
                r = sd_bus_message_read(reply, "s", &text);
                spec = r < 0 ? NULL : json_loads(text, JSON_DECODE_ANY, NULL);
                if (!spec || json_object_set(domain, "spec", spec) < 0)
                        return call_misunderstood(r < 0 ? r : -EBADMSG, e);
        }
        *ret = TAKE(domain);
        return 0;
}

static void print_line(const char *title, const char *text) {
        AUTO(string_drop) char *safe = text_safe(text);

        if (safe && *safe)
                printf("%-13s %s\n", title, safe);
}

static void print_disks(const json_t *disks) {
        for (size_t i = 0; i < json_array_size(disks); i++) {
                const json_t *disk = json_array_get(disks, i);
                AUTO(string_drop)
                char *text = string_printf("%s (%s%s)", value_text(disk, "path"),
                                           string_or(value_text(disk, "format"), "raw"),
                                           json_is_true(json_object_get(disk, "read_only")) ? ", read-only" : "");

                print_line(i == 0 ? "Disks" : " ", string_or(text, ""));
        }
}

static void print_nics(const json_t *nics) {
        for (size_t i = 0; i < json_array_size(nics); i++) {
                const json_t *nic = json_array_get(nics, i);
                const char *host = value_text(nic, "host");
                AUTO(string_drop)
                char *text = string_printf("%s %s%s%s", value_text(nic, "network"), value_text(nic, "mac"),
                                           *host ? " " : "", host);

                print_line(i == 0 ? "Networks" : " ", string_or(text, ""));
        }
}

static int print_domain(const json_t *d) {
        const json_t *spec = json_object_get(d, "spec");
        AUTO(string_drop) char *memory = cell_memory(d), *vcpus = cell_vcpus(d), *age = cell_age(d);

        print_line("Name", value_text(d, "name"));
        print_line("Owner", value_text(d, "owner_name"));
        print_line("State", value_text(d, "state"));
        print_line("Hypervisor", value_text(d, "hypervisor"));
        print_line("Architecture", value_text(d, "arch"));
        print_line("Memory", string_or(memory, ""));
        print_line("Vcpus", string_or(vcpus, ""));
        print_nics(json_object_get(d, "nics"));
        print_disks(json_object_get(spec, "disks"));
        print_line("Kernel", value_text(spec, "kernel"));
        print_line("Initrd", value_text(spec, "initrd"));
        print_line("Command line", value_text(spec, "cmdline"));
        if (!string_equal(value_text(spec, "firmware"), "default"))
                print_line("Firmware", value_text(spec, "firmware"));
        print_line("Type", value_text(spec, "type"));
        print_line("On poweroff", value_text(d, "on_poweroff"));
        print_line("On reboot", value_text(d, "on_reboot"));
        if (value_number(spec, "pid") > 0)
                printf("%-13s %" PRIu64 "\n", "Process", value_number(spec, "pid"));
        print_line("Age", string_or(age, ""));
        return 0;
}

int verb_domain_show(Cli *cli, int argc, char **argv) {
        AUTO(json_drop) json_t *domain = NULL;
        AUTO(string_drop) char *path = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        bool json = false;
        const Option options[] = {
                { "json", 0, NULL, "print the domain as JSON", .flag = &json },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || domain_path(cli, args.items[0], &path, &e) < 0 ||
            load_described(cli, path, &domain, &e) < 0 || (json ? value_print(domain, &e) : print_domain(domain)) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

static int call_on(Cli *cli, const char *name, const char *method, Error *e) {
        AUTO(string_drop) char *path = NULL;
        int r = domain_path(cli, name, &path, e);

        return r < 0 ? r : call(cli, path, DOMAIN_INTERFACE, method, NULL, e, NULL);
}

int verb_domain_destroy(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0)
                return verb_fail(&e);
        status = STATUS_DONE;
        for (size_t i = 0; i < args.count; i++) {
                AUTO(error_clear) Error one = ERROR_INIT;

                if (call_on(cli, args.items[i], "Destroy", &one) < 0)
                        status = verb_fail(&one);
        }
        return status;
}

static int simple_verb(Cli *cli, int argc, char **argv, const char *method) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || call_on(cli, args.items[0], method, &e) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

int verb_domain_pause(Cli *cli, int argc, char **argv) {
        return simple_verb(cli, argc, argv, "Pause");
}

int verb_domain_resume(Cli *cli, int argc, char **argv) {
        return simple_verb(cli, argc, argv, "Resume");
}

int verb_domain_reset(Cli *cli, int argc, char **argv) {
        return simple_verb(cli, argc, argv, "Reset");
}

int verb_domain_shutdown(Cli *cli, int argc, char **argv) {
        return simple_verb(cli, argc, argv, "Shutdown");
}

static int wait_for_living(Cli *cli, const char *path, uint64_t timeout_usec, sd_bus_message **ret_reply, Error *e) {
        AUTO(message_drop) sd_bus_message *m = NULL;

        int r = call_new(cli, path, DOMAIN_INTERFACE, "Wait", &m, e);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "t", timeout_usec);
        return r < 0 ? error_set_errno(e, r, "cannot prepare Wait") : call_send(cli, m, CALL_FOREVER, ret_reply, e);
}

/* {name, reason, message} of a domain's end, which is waited for unless it is there already. */
static int wait_for_end(Cli *cli, const char *name, uint64_t timeout_usec, json_t **ret, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(error_clear) Error first = ERROR_INIT;
        AUTO(string_drop) char *path = NULL, *real_name = NULL;
        const char *reason, *message;

        int r = domain_path(cli, name, &path, &first);
        if (r >= 0)
                r = domain_name(path, &real_name, &first);
        if (r >= 0)
                r = wait_for_living(cli, path, timeout_usec, &reply, &first);
        if (r >= 0)
                r = sd_bus_message_read(reply, "ss", &reason, &message);
        else if ((!path || domain_may_have_ended(&first)) && /* it may end between the look-up and the call */
                 call(cli, ROOT_PATH, MANAGER_INTERFACE, "GetEndedDomain", &reply, NULL, "s",
                      string_or(real_name, name)) >= 0)
                r = sd_bus_message_read(reply, "tss", NULL, &reason, &message);
        else
                return error_move(e, &first);
        if (r < 0)
                return call_misunderstood(r, e);
        *ret = json_pack("{ssssss}", "name", name, "reason", reason, "message", message);
        return *ret ? 0 : error_set(e, ERROR_INTERNAL, "out of memory");
}

int verb_domain_wait(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(json_drop) json_t *end = NULL;
        const char *timeout = NULL;
        uint64_t timeout_usec = 0;
        bool json = false;
        const Option options[] = {
                { "timeout", 't', "TIME", "give up after this long, such as 90s or 5min", .text = &timeout },
                { "json", 0, NULL, "print name, reason and message as JSON", .flag = &json },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (timeout && (duration_parse(timeout, &timeout_usec) < 0 || timeout_usec == 0))
                return verb_usage(cli, "no length of time: %s (90s, 5min and 2h are)", timeout);
        if (daemon_connect(cli, &e) < 0 || wait_for_end(cli, args.items[0], timeout_usec, &end, &e) < 0)
                return verb_fail(&e);

        const char *reason = value_text(end, "reason"), *message = value_text(end, "message");
        bool wanted = string_equal(reason, "poweroff") || string_equal(reason, "destroyed");
        if (json && value_print(end, &e) < 0)
                return verb_fail(&e);
        if (!json)
                puts(reason);
        if (!json && !wanted && *message)
                say("%s", message);
        return wanted ? STATUS_DONE : STATUS_FAILED;
}
