/* What the keeper reads, and what the server is configured with: the input is taken for a plan, and its lines for host
 * names, of which a network is made when they are such. The configuration then has the lines that it must have, and no
 * name has become an option. */
#include <arpa/inet.h>

#include "base/string-util.h"
#include "core/names.h"
#include "fuzz.h"
#include "net/plan.h"

#define NAMES_MAX   64
#define FIXED_LINES 22 /* up to domain= */

static void check_plan(const char *text) {
        KeeperPlan plan;

        if (keeper_plan_parse(text, &plan) < 0)
                return;
        CHECK(plan.prefix <= 32);
        CHECK(plan.dnsmasq[0] == '/' && memchr(plan.dnsmasq, '\0', sizeof plan.dnsmasq));
        CHECK(!strchr(plan.dnsmasq, '\n'));
        CHECK(!(plan.mac.octets[0] & 1));
}

static void check_line(const char *line) {
        static const char *const options[] = {
                "user=",        "group=",       "pid-file=",        "log-facility=", "interface=",      "local=",
                "cache-size=0", "dhcp-option=", "domain=",          "dhcp-range=",   "dhcp-lease-max=", "enable-ra",
                "ra-param=",    "dhcp-host=",   "host-record=",     "quiet-",        "bind-interfaces", "no-",
                "keep-in-fore", "leasefile-ro", "dhcp-authoritati", "dhcp-rapid-",   "dhcp-ignore-n",
        };

        for (size_t i = 0; i < sizeof options / sizeof *options; i++)
                if (string_has_prefix(line, options[i]))
                        return;
        abort();
}

static void check_config(char *const *names, Ipv6Mode mode) {
        Owner owner = { .uid = 1000 };
        Network *n;
        char *config;
        size_t lines = 0;

        CHECK(network_new("debmarshal-0", &owner, &n) == 0);
        CHECK(subnet_parse("10.0.0.0/16", &n->subnet) == 0);
        CHECK(inet_pton(AF_INET6, "fd00:1:2:3::", &n->prefix6) == 1);
        n->ipv6_mode = mode;
        CHECK(network_set_hosts(n, names) == 0);
        CHECK(dnsmasq_config_format(n, &config) == 0);

        for (char *rest = config, *line; (line = strsep(&rest, "\n")) && rest; lines++)
                check_line(line);
        CHECK(lines ==
              FIXED_LINES + 2 + (mode == IPV6_NONE ? 0 : 3) + 2 * n->n_hosts + !network_host_by_name(n, "gateway"));
        free(config);
        network_free(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_text(data, size), *rest = text, *line, *names[NAMES_MAX + 1];
        size_t n = 0;

        check_plan(text);
        while (n < NAMES_MAX && (line = strsep(&rest, "\n")))
                if (*line)
                        names[n++] = line;
        names[n] = NULL;
        if (host_names_check(names, NULL) == 0)
                check_config(names, size > 0 ? data[size - 1] % IPV6_MODE_COUNT : IPV6_NONE);
        free(text);
        return 0;
}
