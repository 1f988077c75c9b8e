/* domain create: words become createDomain's arguments. What they mean is the daemon's to judge, except what only this
 * side knows: the working directory, host names to be turned into MACs, and a password that shall not stand in the
 * argument list of a process. */
#include "cli/domain-create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/random.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/domain-streams.h"
#include "cli/objects.h"
#include "cli/term.h"
#include "cli/verbs.h"

#define PASSWORD_FILE_MAX 4096
#define APPEAR_USEC       (100 * USEC_PER_MSEC) /* between looks for a domain that is being created */
#define END_USEC          (1 * USEC_PER_SEC)    /* what the answer may take behind the end of the console */

/* What was asked for, as the options left it. */
typedef struct Request {
        const char *memory, *vcpus, *host, *mac, *hypervisor, *arch, *firmware, *type, *on_poweroff, *on_reboot;
        const char *kernel, *initrd, *cmdline, *bootloader, *vnc_password_file;
        char **networks, **disks, **extra; /* owned, as the options gave them */
        bool paused, stub_domain;

        /* Made of them. */
        char **paths, **formats; /* one of each for a disk */
        char *network;           /* the first, with its MAC or "" */
        char *first_mac;
        char **nics; /* the others: "NETWORK" or "NETWORK,MAC" */
        char *kernel_path, *initrd_path, *vnc_password;
} Request;

static void request_done(Request *r) {
        string_list_free(&r->networks);
        string_list_free(&r->disks);
        string_list_free(&r->extra);
        string_list_free(&r->paths);
        string_list_free(&r->formats);
        string_list_free(&r->nics);
        string_drop(&r->network);
        string_drop(&r->first_mac);
        string_drop(&r->kernel_path);
        string_drop(&r->initrd_path);
        string_drop(&r->vnc_password);
}

static int no_memory(Error *e) {
        return error_set(e, ERROR_INTERNAL, "out of memory");
}

int path_absolute(const char *path, char **ret) {
        AUTO(string_drop) char *here = NULL;

        if (*path == '/')
                return string_replace(ret, path);
        here = getcwd(NULL, 0);
        if (!here)
                return -errno;
        *ret = string_printf("%s/%s", string_equal(here, "/") ? "" : here, path);
        return *ret ? 0 : -ENOMEM;
}

bool looks_like_mac(const char *text) {
        return strchr(text, ':') != NULL;
}

int disk_parse(const char *text, char **ret_path, char **ret_format, Error *e) {
        static const char *const formats[] = { "raw", "qcow2" };
        AUTO(string_drop) char *path = NULL, *format = NULL;
        const char *chosen = "raw", *path_text = text;
        size_t length;

        for (size_t i = 0; i < ARRAY_LEN(formats); i++)
                if (string_has_prefix(text, formats[i]) && text[strlen(formats[i])] == ':') {
                        chosen = formats[i];
                        path_text = text + strlen(formats[i]) + 1;
                }
        length = strlen(path_text);
        bool suffix = length >= 3 &&
                      (string_equal(path_text + length - 3, ":ro") || string_equal(path_text + length - 3, ":rw"));
        bool read_only = suffix && path_text[length - 1] == 'o';
        path = string_printf("%.*s", (int)(suffix ? length - 3 : length), path_text);
        format = string_printf("%s%s", chosen, read_only ? ":ro" : "");
        if (!path || !format)
                return no_memory(e);
        if (!*path)
                return error_set(e, ERROR_INVALID_INPUT, "disk '%s' has no path", text);
        int r = path_absolute(path, ret_path);
        if (r < 0)
                return error_set_errno(e, r, "cannot tell where %s is", path);
        *ret_format = TAKE(format);
        return 0;
}

int nic_parse(const char *text, char **ret_network, char **ret_rest, Error *e) {
        const char *comma = strchr(text, ',');
        int length = comma ? (int)(comma - text) : (int)strlen(text);

        if (length == 0 || (comma && !comma[1]))
                return error_set(e, ERROR_INVALID_INPUT, "'%s' is not NETWORK[,MAC|HOST]", text);
        *ret_network = string_printf("%.*s", length, text);
        *ret_rest = string_printf("%s", comma ? comma + 1 : "");
        return *ret_network && *ret_rest ? 0 : no_memory(e);
}

/* The MAC that a network keeps for a host. */
static int reserved_mac(Cli *cli, const char *network, const char *host, char **ret, Error *e) {
        AUTO(string_drop) char *path = NULL;
        AUTO(json_drop) json_t *hosts = NULL;

        int r = network_path(cli, network, &path, e);
        if (r >= 0)
                r = network_hosts(cli, path, &hosts, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < json_array_size(hosts); i++) {
                const json_t *h = json_array_get(hosts, i);
                if (strcasecmp(value_text(h, "name"), host) != 0)
                        continue;
                return string_replace(ret, value_text(h, "mac")) < 0 ? no_memory(e) : 0;
        }
        return error_set(e, ERROR_INVALID_INPUT, "network %s has no host %s ('debmarshal network show %s' lists them)",
                         network, host, network);
}

/* One --network, whose MAC may come from elsewhere (given; NULL: it does not). */
static int resolve_nic(Cli *cli, const char *text, const char *host, const char *mac, char **ret_network,
                       char **ret_mac, Error *e) {
        AUTO(string_drop) char *network = NULL, *rest = NULL;

        int r = nic_parse(text, &network, &rest, e);
        if (r < 0)
                return r;
        const char *wanted = string_or(rest, string_or(mac, string_or(host, "")));
        if (*wanted && !looks_like_mac(wanted))
                r = reserved_mac(cli, network, wanted, ret_mac, e);
        else if (string_replace(ret_mac, wanted) < 0)
                r = no_memory(e);
        if (r >= 0)
                *ret_network = TAKE(network);
        return r;
}

static int resolve_nics(Cli *cli, Request *q, Error *e) {
        int r = resolve_nic(cli, q->networks[0], q->host, q->mac, &q->network, &q->first_mac, e);

        for (size_t i = 1; r >= 0 && q->networks[i]; i++) {
                AUTO(string_drop) char *network = NULL, *mac = NULL, *nic = NULL;

                r = resolve_nic(cli, q->networks[i], NULL, NULL, &network, &mac, e);
                if (r < 0)
                        return r;
                nic = string_printf("%s%s%s", network, mac && *mac ? "," : "", string_or(mac, ""));
                if (!nic || string_list_append(&q->nics, nic) < 0)
                        return no_memory(e);
        }
        return r;
}

/* Not file_read_all(): the file may well be a pipe, whose writer is waited for. */
static int read_password(Request *q, Error *e) {
        AUTO(fd_drop) int fd = -1;

        if (!q->vnc_password_file)
                return 0;
        fd = open(q->vnc_password_file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        int r = fd < 0 ? -errno : fd_read_all(fd, PASSWORD_FILE_MAX, &q->vnc_password, NULL);
        if (r < 0)
                return error_set_errno(e, r, "cannot read the VNC password from %s", q->vnc_password_file);
        q->vnc_password[strcspn(q->vnc_password, "\r\n")] = '\0';
        return *q->vnc_password ? 0
                                : error_set(e, ERROR_INVALID_INPUT, "%s holds no password in its first line",
                                            q->vnc_password_file);
}

/* All that needs no daemon. */
static int request_prepare(Request *q, Error *e) {
        int r = 0;

        for (size_t i = 0; q->disks && q->disks[i]; i++) {
                AUTO(string_drop) char *path = NULL, *format = NULL;

                r = disk_parse(q->disks[i], &path, &format, e);
                if (r < 0)
                        return r;
                if (string_list_append(&q->paths, path) < 0 || string_list_append(&q->formats, format) < 0)
                        return no_memory(e);
        }
        if (q->kernel)
                r = path_absolute(q->kernel, &q->kernel_path);
        if (r >= 0 && q->initrd)
                r = path_absolute(q->initrd, &q->initrd_path);
        if (r < 0)
                return error_set_errno(e, r, "cannot tell where the kernel is");
        return read_password(q, e);
}

static int append_strings(sd_bus_message *m, char *const *list) {
        int r = sd_bus_message_open_container(m, 'a', "s");

        for (size_t i = 0; r >= 0 && list && list[i]; i++)
                r = sd_bus_message_append(m, "s", list[i]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_text(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

static int append_list(sd_bus_message *m, const char *key, char *const *list) {
        if (!list)
                return 0;
        int r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = append_strings(m, list);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* --extra KEY=VALUE, for keys that have no option of their own yet. */
static int append_extra(sd_bus_message *m, char *const *extra, Error *e) {
        for (size_t i = 0; extra && extra[i]; i++) {
                const char *equals = strchr(extra[i], '=');
                AUTO(string_drop) char *key = equals ? string_printf("%.*s", (int)(equals - extra[i]), extra[i]) : NULL;

                if (!equals || equals == extra[i])
                        return error_set(e, ERROR_INVALID_INPUT, "--extra takes KEY=VALUE, not '%s'", extra[i]);
                if (!key)
                        return no_memory(e);
                int r = append_text(m, key, equals + 1);
                if (r < 0)
                        return error_set_errno(e, r, "cannot send --extra %s", key);
        }
        return 0;
}

static int append_vcpus(sd_bus_message *m, const char *text, Error *e) {
        uint64_t n;

        if (!text)
                return 0;
        if (parse_u64(text, UINT32_MAX, &n) < 0)
                return error_set(e, ERROR_INVALID_INPUT, "no number of vcpus: %s", text);
        return sd_bus_message_append(m, "{sv}", "vcpus", "t", n);
}

static int append_extras(sd_bus_message *m, const Request *q, Error *e) {
        const struct {
                const char *key, *value;
        } texts[] = {
                { "kernel", q->kernel_path },        { "initrd", q->initrd_path },
                { "cmdline", q->cmdline },           { "bootloader", q->bootloader },
                { "on_poweroff", q->on_poweroff },   { "on_reboot", q->on_reboot },
                { "firmware", q->firmware },         { "type", q->type },
                { "vnc_password", q->vnc_password },
        };
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (size_t i = 0; r >= 0 && i < ARRAY_LEN(texts); i++)
                r = append_text(m, texts[i].key, texts[i].value);
        if (r >= 0)
                r = append_vcpus(m, q->vcpus, e);
        if (r >= 0)
                r = append_list(m, "disk_formats", q->formats);
        if (r >= 0)
                r = append_list(m, "nics", q->nics);
        if (r >= 0 && q->paused)
                r = sd_bus_message_append(m, "{sv}", "paused", "b", 1);
        if (r >= 0 && q->stub_domain)
                r = sd_bus_message_append(m, "{sv}", "stubdomain", "b", 1);
        if (r >= 0)
                r = append_extra(m, q->extra, e);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int prepare_call(Cli *cli, const Request *q, sd_bus_message **ret, Error *e) {
        AUTO(message_drop) sd_bus_message *m = NULL;

        int r = call_new(cli, PRIVOPS_PATH, PRIVOPS_INTERFACE, "createDomain", &m, e);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", string_or(q->memory, "512M"));
        if (r >= 0)
                r = append_strings(m, q->paths);
        if (r >= 0)
                r = sd_bus_message_append(m, "ssss", q->network, q->first_mac, string_or(q->hypervisor, ""),
                                          string_or(q->arch, ""));
        if (r >= 0)
                r = append_extras(m, q, e);
        if (r < 0)
                return error_is_set(e) ? r : error_set(e, ERROR_INVALID_INPUT, "paths and options must be UTF-8 text");
        *ret = TAKE(m);
        return 0;
}

static int read_name(sd_bus_message *reply, char **ret_name, Error *e) {
        const char *name;

        int r = sd_bus_message_read(reply, "s", &name);
        if (r < 0)
                return call_misunderstood(r, e);
        return string_replace(ret_name, name) < 0 ? no_memory(e) : 0;
}

static int create(Cli *cli, const Request *q, char **ret_name, Error *e) {
        AUTO(message_drop) sd_bus_message *m = NULL, *reply = NULL;

        int r = prepare_call(cli, q, &m, e);
        if (r < 0)
                return r;
        progress_begin("Starting the domain");
        r = call_send(cli, m, q->bootloader ? CALL_FOREVER : CALL_LONG_USEC, &reply, e);
        progress_end();
        return r < 0 ? r : read_name(reply, ret_name, e);
}

/* A MAC such as the daemon takes where none is given. */
static int choose_mac(char **ret, Error *e) {
        AUTO(string_drop) char *text = NULL;
        uint8_t b[3];

        int r = random_bytes(b, sizeof b);
        if (r < 0)
                return error_set_errno(e, r, "cannot choose a MAC");
        text = string_printf("00:16:3e:%02x:%02x:%02x", b[0], b[1], b[2]);
        return text && string_replace(ret, text) >= 0 ? 0 : no_memory(e);
}

static bool is_ours(const json_t *domain, const Request *q) {
        const json_t *nic = json_array_get(json_object_get(domain, "nics"), 0);

        return string_equal(value_text(domain, "state"), "creating") &&
               string_equal(value_text(nic, "network"), q->network) &&
               strcasecmp(value_text(nic, "mac"), q->first_mac) == 0;
}

/* The domain that is being created for us, once its boot loader runs. A network has each MAC once, and the daemon
 * answers us in the order in which we ask: so it is ours, unless we have been refused, which the call then tells. */
static int find_creating(Cli *cli, const Request *q, char **ret_name, Error *e) {
        AUTO(json_drop) json_t *domains = NULL;

        int r = objects_load(cli, OBJECT_DOMAIN, false, &domains, e);
        for (size_t i = 0; r >= 0 && i < json_array_size(domains) && !*ret_name; i++) {
                const json_t *d = json_array_get(domains, i);

                if (is_ours(d, q) && string_replace(ret_name, value_text(d, "name")) < 0)
                        return no_memory(e);
        }
        return r;
}

/* Until it is answered (1), or there is a menu (0). */
static int wait_for_menu(Cli *cli, const Request *q, PendingCall *p, char **ret_name, Error *e) {
        AUTO(string_drop) char *name = NULL;
        int r = 0;

        while (r == 0 && !name) {
                r = pending_wait(cli, p, APPEAR_USEC, e);
                if (r == 0)
                        r = find_creating(cli, q, &name, e);
        }
        if (r == 0)
                r = pending_wait(cli, p, 0, e);
        if (r == 0)
                *ret_name = TAKE(name);
        return r;
}

/* The daemon answers when the menu has been answered; so that somebody can, the console is attached to before that.
 * Which domain's, its MAC tells, which therefore is known beforehand. */
static int create_at_console(Cli *cli, Request *q, char **ret_name, Error *e) {
        AUTO(message_drop) sd_bus_message *m = NULL;
        AUTO(pending_drop) PendingCall call_under_way = { 0 };
        sd_bus_message *reply = NULL;

        int r = *q->first_mac ? 0 : choose_mac(&q->first_mac, e);
        if (r >= 0)
                r = prepare_call(cli, q, &m, e);
        /* However long the console is open, the answer lies there meanwhile: no deadline may be over by then. */
        if (r >= 0)
                r = pending_begin(cli, m, CALL_FOREVER, &call_under_way, e);
        if (r >= 0)
                r = wait_for_menu(cli, q, &call_under_way, ret_name, e);
        if (r == 0) {
                say("%s is starting", *ret_name);
                r = console_attach(cli, *ret_name, e);
                if (r >= 0)
                        r = pending_wait(cli, &call_under_way, END_USEC, e);
                if (r == 0)
                        return 1; /* detached from a menu that still waits */
        }
        if (r > 0)
                r = pending_reply(&call_under_way, &reply, e);
        if (r < 0)
                return r;
        bool attached = *ret_name;
        r = read_name(reply, ret_name, e);
        return r < 0 ? r : attached;
}

static int print_created(Cli *cli, const char *name, Error *e) {
        AUTO(string_drop) char *path = NULL;
        AUTO(json_drop) json_t *domain = NULL;

        int r = domain_path(cli, name, &path, e);
        if (r >= 0)
                r = object_load(cli, OBJECT_DOMAIN, path, &domain, e);
        return r < 0 ? r : value_print(domain, e);
}

int verb_domain_create(Cli *cli, int argc, char **argv) {
        AUTO(request_done) Request q = { 0 };
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(string_drop) char *name = NULL;
        bool console = false, json = false;
        const Option options[] = {
                { "network", 'n', "NET[,MAC|HOST]", "an interface on this network; may be repeated",
                  .list = &q.networks },
                { "host", 0, "HOST", "be this host of the first network", .text = &q.host },
                { "mac", 0, "MAC", "the first interface's address", .text = &q.mac },
                { "memory", 'm', "SIZE", "such as 512M (the default) or 2G", .text = &q.memory },
                { "vcpus", 'c', "N", "how many processors", .text = &q.vcpus },
                { "disk", 'd', "[FORMAT:]PATH[:ro]", "a disk, raw or qcow2; may be repeated", .list = &q.disks },
                { "kernel", 'k', "FILE", "boot this kernel", .text = &q.kernel },
                { "initrd", 'i', "FILE", "with this initial RAM disk", .text = &q.initrd },
                { "cmdline", 'a', "TEXT", "and this command line", .text = &q.cmdline },
                { "bootloader", 0, "NAME", "boot what it finds in the first disk, such as pygrub",
                  .text = &q.bootloader },
                { "hypervisor", 0, "NAME", "such as kvm or qemu; the best by default", .text = &q.hypervisor },
                { "arch", 0, "ARCH", "such as x86_64 or aarch64; this machine's by default", .text = &q.arch },
                { "firmware", 0, "NAME", "bios or uefi", .text = &q.firmware },
                { "type", 0, "NAME", "of a Xen guest: pvh, pv or hvm", .text = &q.type },
                { "stubdomain", 0, NULL, "of type hvm: emulate its devices in a domain of their own",
                  .flag = &q.stub_domain },
                { "on-poweroff", 0, "ACTION", "destroy (the default) or restart", .text = &q.on_poweroff },
                { "on-reboot", 0, "ACTION", "restart (the default) or destroy", .text = &q.on_reboot },
                { "paused", 0, NULL, "do not run until resumed", .flag = &q.paused },
                { "vnc-password-file", 0, "FILE", "ask VNC viewers for the password in there",
                  .text = &q.vnc_password_file },
                { "extra", 0, "KEY=VALUE", "any other key that createDomain knows", .list = &q.extra },
                { "console", 0, NULL, "attach to the console at once", .flag = &console },
                { "json", 0, NULL, "print the domain as JSON", .flag = &json },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (!q.networks)
                return verb_usage(cli, "a domain needs --network");
        if (q.host && q.mac)
                return verb_usage(cli, "--host and --mac exclude each other");
        if (json && console)
                return verb_usage(cli, "--json and --console exclude each other");
        if (request_prepare(&q, &e) < 0 || daemon_connect(cli, &e) < 0 || resolve_nics(cli, &q, &e) < 0)
                return verb_fail(&e);
        int r = console && q.bootloader ? create_at_console(cli, &q, &name, &e) : create(cli, &q, &name, &e);
        if (r < 0)
                return verb_fail(&e);
        if (r > 0) /* attached to already */
                return STATUS_DONE;
        if (console) { /* standard output is the guest's now */
                say("%s started", name);
                return console_attach(cli, name, &e) < 0 ? verb_fail(&e) : STATUS_DONE;
        }
        if (json)
                return print_created(cli, name, &e) < 0 ? verb_fail(&e) : STATUS_DONE;
        puts(name);
        return STATUS_DONE;
}
