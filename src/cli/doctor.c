/* doctor: what works here, what does not, and how to mend it. Each line is one check; the status is 1 when one that
 * everything depends on fails. */
#include "cli/doctor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/string-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/objects.h"
#include "cli/term.h"
#include "cli/verbs.h"

static const struct {
        const char *name;
        Colour colour;
} statuses[] = {
        [CHECK_OK] = { "ok", COLOUR_GREEN },
        [CHECK_WARN] = { "warn", COLOUR_YELLOW },
        [CHECK_FAIL] = { "fail", COLOUR_RED },
};
static_assert(ARRAY_LEN(statuses) == CHECK_STATUS_COUNT, "row missing");

const char *check_status_name(CheckStatus s) {
        return statuses[s].name;
}

void report_add(Report *r, CheckStatus status, const char *name, const char *cure, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        AUTO(string_drop) char *text = string_vprintf(format, ap);
        va_end(ap);
        if (status == CHECK_FAIL)
                r->failed = true;
        json_array_append_new(r->checks, json_pack("{ssssssss}", "name", name, "status", statuses[status].name, "text",
                                                   string_or(text, "out of memory"), "cure", string_or(cure, "")));
}

/* The manager's properties, or NULL after a line about why not. */
static json_t *check_daemon(Cli *cli, Report *r) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(message_drop) sd_bus_message *reply = NULL;
        json_t *manager = NULL;

        if (daemon_connect(cli, &e) < 0 ||
            call(cli, ROOT_PATH, "org.freedesktop.DBus.Properties", "GetAll", &reply, &e, "s", MANAGER_INTERFACE) < 0 ||
            value_read_properties(reply, &manager) < 0) {
                report_add(r, CHECK_FAIL, "daemon",
                           "mend what it says; 'debmarshald --scope=session' in a terminal shows more", "%s",
                           error_text(&e));
                return NULL;
        }
        AUTO(string_drop) char *user = user_name(value_number(manager, "caller_uid"));
        report_add(r, CHECK_OK, "daemon", NULL, "scope %s, version %s; you are %s (uid %" PRIu64 ") to it",
                   value_text(manager, "scope"), value_text(manager, "version"), string_or(user, "?"),
                   value_number(manager, "caller_uid"));
        return manager;
}

/* Let the daemon look again, so that what was mended a moment ago counts; a minute at the most. */
static void probe_again(Cli *cli) {
        AUTO(message_drop) sd_bus_message *m = NULL;

        progress_begin("Probing the hypervisors");
        if (call_new(cli, ROOT_PATH, MANAGER_INTERFACE, "Probe", &m, NULL) >= 0)
                call_send(cli, m, CALL_LONG_USEC, NULL, NULL);
        progress_end();
}

static void check_hypervisors(Report *r, const json_t *manager) {
        const json_t *all = json_object_get(manager, "hypervisors");
        size_t usable = 0;

        for (size_t i = 0; i < json_array_size(all); i++) {
                const json_t *h = json_array_get(all, i);
                const char *name = json_string_value(json_array_get(h, 0));
                const char *reason = string_or(json_string_value(json_array_get(h, 2)), "");
                bool works = json_is_true(json_array_get(h, 1));

                usable += works;
                report_add(r, works ? CHECK_OK : CHECK_WARN, "hypervisor", NULL, "%s %s%s%s", string_or(name, "?"),
                           works ? "works" : "does not work", *reason ? ": " : "", reason);
        }
        if (usable == 0)
                report_add(r, CHECK_FAIL, "hypervisor", "sudo apt install qemu-system-x86 (qemu-system-arm on arm64)",
                           "none works, so no domain can be started");
}

/* What the drivers found beyond that: rows of hypervisor, name, text, cure. */
static void check_facts(Report *r, const json_t *manager) {
        const json_t *all = json_object_get(manager, "facts");

        for (size_t i = 0; i < json_array_size(all); i++) {
                const char *texts[4];

                for (size_t k = 0; k < ARRAY_LEN(texts); k++)
                        texts[k] = string_or(json_string_value(json_array_get(json_array_get(all, i), k)), "");
                report_add(r, *texts[3] ? CHECK_WARN : CHECK_OK, texts[0], texts[3], "%s: %s", texts[1], texts[2]);
        }
}

/* What is found: a list of names with their paths. Returns how many. */
static size_t add_programs(Report *r, const char *what, const json_t *all) {
        for (size_t i = 0; i < json_array_size(all); i++) {
                const json_t *pair = json_array_get(all, i);
                report_add(r, CHECK_OK, what, NULL, "%s: %s",
                           string_or(json_string_value(json_array_get(pair, 0)), "?"),
                           string_or(json_string_value(json_array_get(pair, 1)), "?"));
        }
        return json_array_size(all);
}

static void check_emulators(Report *r, const json_t *manager) {
        if (add_programs(r, "emulator", json_object_get(manager, "emulators")) == 0)
                report_add(r, CHECK_WARN, "emulator", "sudo apt install qemu-system-x86, or another qemu-system-*",
                           "no emulator is installed");
}

/* None is no warning: most guests need none. */
static void check_boot_loaders(Report *r, const json_t *manager) {
        (void)add_programs(r, "boot loader", json_object_get(manager, "boot_loaders"));
}

static void check_dnsmasq(Report *r, const json_t *manager) {
        const char *path = value_text(manager, "dnsmasq");

        if (*path)
                report_add(r, CHECK_OK, "dnsmasq", NULL, "%s", path);
        else
                report_add(r, CHECK_FAIL, "dnsmasq", "sudo apt install dnsmasq-base",
                           "not found, so no network can be created");
}

static int read_amounts(sd_bus_message *m, json_t *object) {
        const char *name;
        uint64_t n;
        int r = sd_bus_message_enter_container(m, 'a', "{st}");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "{st}", &name, &n)) > 0)
                json_object_set_new(object, name, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static json_t *load_limits(Cli *cli) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *limits = json_object();

        if (call(cli, ROOT_PATH, MANAGER_INTERFACE, "GetLimits", &reply, NULL, NULL) < 0 ||
            read_amounts(reply, limits) < 0)
                return NULL;
        return TAKE(limits);
}

/* Objects with "uid", "user" and "amounts". */
static json_t *load_usage(Cli *cli) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        AUTO(json_drop) json_t *usage = json_array();
        uint32_t uid;

        if (call(cli, ROOT_PATH, MANAGER_INTERFACE, "GetUsage", &reply, NULL, NULL) < 0 ||
            sd_bus_message_enter_container(reply, 'a', "(ua{st})") < 0)
                return NULL;
        while (sd_bus_message_enter_container(reply, 'r', "ua{st}") > 0) {
                json_t *amounts = json_object();

                if (sd_bus_message_read(reply, "u", &uid) < 0 || read_amounts(reply, amounts) < 0 ||
                    sd_bus_message_exit_container(reply) < 0) {
                        json_decref(amounts);
                        return NULL;
                }
                AUTO(string_drop) char *user = user_name(uid);
                json_array_append_new(usage, json_pack("{sIssso}", "uid", (json_int_t)uid, "user", string_or(user, "?"),
                                                       "amounts", amounts));
        }
        return TAKE(usage);
}

/* "3 of 64 networks", or "3 networks" where nothing limits them. */
static char *amount_text(const char *name, uint64_t n, const json_t *limit) {
        char used[SIZE_TEXT_MAX], most[SIZE_TEXT_MAX];
        bool is_size = string_equal(name, "memory");

        snprintf(used, sizeof used, "%" PRIu64, n);
        snprintf(most, sizeof most, "%" PRIu64, (uint64_t)json_integer_value(limit));
        if (is_size && n > 0)
                size_format(n, used);
        if (is_size)
                size_format((uint64_t)json_integer_value(limit), most);
        return limit ? string_printf("%s of %s %s", used, most, name) : string_printf("%s %s", used, name);
}

/* What one user holds; a full quota is a warning. */
static void check_holder(Report *r, const json_t *row, const json_t *limits) {
        static const char *const names[] = { "networks", "domains", "memory", "vcpus", "streams", "connections" };
        const json_t *amounts = json_object_get(row, "amounts");
        AUTO(string_list_free) char **parts = NULL;
        AUTO(string_drop) char *joined = NULL;
        bool full = false;

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                const json_t *limit = json_object_get(limits, names[i]);
                uint64_t n = value_number(amounts, names[i]);
                AUTO(string_drop) char *text = amount_text(names[i], n, limit);

                full |= limit && n >= value_number(limits, names[i]);
                if (text)
                        string_list_append(&parts, text);
        }
        joined = parts ? string_list_join(parts, ", ") : NULL;
        report_add(r, full ? CHECK_WARN : CHECK_OK, "quota",
                   full ? "destroy what is no longer needed, or raise the limit in /etc/debmarshal/debmarshald.conf"
                        : NULL,
                   "%s holds %s", value_text(row, "user"), string_or(joined, "nothing"));
}

static void check_quotas(Report *r, const json_t *usage, const json_t *limits, uint64_t caller) {
        for (size_t i = 0; i < json_array_size(usage); i++) {
                const json_t *row = json_array_get(usage, i);
                /* The limits are the caller's: others' may be other. */
                check_holder(r, row, value_number(row, "uid") == caller ? limits : NULL);
        }
        if (json_array_size(usage) == 0)
                report_add(r, CHECK_OK, "quota", NULL, "nobody holds anything");
}

static void print_report(const Report *r) {
        bool coloured = colour_wanted(stdout);

        for (size_t i = 0; i < json_array_size(r->checks); i++) {
                const json_t *c = json_array_get(r->checks, i);
                AUTO(string_drop) char *text = text_safe(value_text(c, "text"));
                const char *status = value_text(c, "status"), *cure = value_text(c, "cure");
                Colour colour = COLOUR_NONE;

                for (size_t s = 0; s < CHECK_STATUS_COUNT; s++)
                        if (string_equal(status, statuses[s].name))
                                colour = statuses[s].colour;
                printf("%s%-4s%s  %-17s  %s\n", colour_begin(colour, coloured), status, colour_end(colour, coloured),
                       value_text(c, "name"), string_or(text, ""));
                if (*cure)
                        printf("%25s%s\n", "", cure);
        }
}

static int print_json(const Report *r, const json_t *usage, const json_t *limits, Error *e) {
        AUTO(json_drop) json_t *all = json_pack("{sbsO}", "ok", !r->failed, "checks", r->checks);

        if (usage)
                json_object_set(all, "usage", (json_t *)(uintptr_t)usage);
        if (limits)
                json_object_set(all, "limits", (json_t *)(uintptr_t)limits);
        return value_print(all, e);
}

int verb_doctor(Cli *cli, int argc, char **argv) {
        AUTO(json_drop) json_t *checks = json_array(), *manager = NULL, *usage = NULL, *limits = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        bool json = false;
        const Option options[] = {
                { "json", 0, NULL, "print the checks as JSON", .flag = &json },
                { 0 },
        };
        Report report = { .checks = checks };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        manager = check_daemon(cli, &report);
        bool session = !manager || string_equal(value_text(manager, "scope"), "session");
        if (manager) {
                AUTO(message_drop) sd_bus_message *reply = NULL;

                probe_again(cli);
                if (call(cli, ROOT_PATH, "org.freedesktop.DBus.Properties", "GetAll", &reply, NULL, "s",
                         MANAGER_INTERFACE) >= 0) {
                        json_drop(&manager);
                        value_read_properties(reply, &manager);
                }
                check_hypervisors(&report, manager);
                check_facts(&report, manager);
                check_emulators(&report, manager);
                check_boot_loaders(&report, manager);
                check_dnsmasq(&report, manager);
        }
        check_user_namespaces(&report, session);
        check_tun(&report, session);
        if (session)
                check_runtime_directory(&report);
        if (manager) {
                limits = load_limits(cli);
                usage = load_usage(cli);
                check_quotas(&report, usage, limits, value_number(manager, "caller_uid"));
        }
        if (!json)
                print_report(&report);
        else if (print_json(&report, usage, limits, &e) < 0)
                return verb_fail(&e);
        return report.failed ? STATUS_FAILED : STATUS_DONE;
}
