/* The keeper's side of the plan: apart from the daemon's, so that the keeper, of which there is one for each network,
 * links no more than it needs. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/string-util.h"
#include "net/plan.h"

#define PLAN_LINE_MAX 320

static int parse_gateway(const char *value, KeeperPlan *p) {
        struct in_addr address;
        if (inet_pton(AF_INET, value, &address) != 1)
                return -EINVAL;
        p->gateway = ntohl(address.s_addr);
        return 0;
}

static int parse_mac(const char *value, KeeperPlan *p) {
        return mac_parse(value, &p->mac);
}

static int parse_prefix(const char *value, KeeperPlan *p) {
        uint64_t prefix;
        if (parse_u64(value, 32, &prefix) < 0)
                return -EINVAL;
        p->prefix = (uint8_t)prefix;
        return 0;
}

static int parse_gateway6(const char *value, KeeperPlan *p) {
        if (inet_pton(AF_INET6, value, &p->gateway6) != 1 || IN6_IS_ADDR_UNSPECIFIED(&p->gateway6))
                return -EINVAL;
        return 0;
}

static int parse_dnsmasq(const char *value, KeeperPlan *p) {
        size_t length = strlen(value);
        if (value[0] != '/' || length >= sizeof p->dnsmasq)
                return -EINVAL;
        memcpy(p->dnsmasq, value, length + 1);
        return 0;
}

static const struct {
        const char *key;
        int (*parse)(const char *value, KeeperPlan *p);
        bool optional;
} plan_items[] = {
        { "mac", parse_mac, false },          { "gateway", parse_gateway, false }, { "prefix", parse_prefix, false },
        { "gateway6", parse_gateway6, true }, { "dnsmasq", parse_dnsmasq, false },
};

/* Returns the item's number, or -EINVAL. */
static int parse_line(char *line, KeeperPlan *p) {
        char *space = strchr(line, ' ');
        if (!space)
                return -EINVAL;
        *space = '\0';
        for (size_t i = 0; i < ARRAY_LEN(plan_items); i++)
                if (string_equal(line, plan_items[i].key))
                        return plan_items[i].parse(space + 1, p) < 0 ? -EINVAL : (int)i;
        return -EINVAL;
}

int keeper_plan_parse(const char *text, KeeperPlan *ret) {
        KeeperPlan p = { 0 };
        unsigned seen = 0;

        while (*text) {
                const char *end = strchr(text, '\n');
                size_t length = end ? (size_t)(end - text) : PLAN_LINE_MAX;
                if (length >= PLAN_LINE_MAX)
                        return -EINVAL;

                char line[PLAN_LINE_MAX];
                memcpy(line, text, length);
                line[length] = '\0';
                int item = parse_line(line, &p);
                if (item < 0 || seen & (1U << item))
                        return -EINVAL;
                seen |= 1U << item;
                text = end + 1;
        }
        for (size_t i = 0; i < ARRAY_LEN(plan_items); i++)
                if (!plan_items[i].optional && !(seen & (1U << i)))
                        return -EINVAL;
        *ret = p;
        return 0;
}
