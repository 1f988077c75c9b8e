/* The configuration file. */
#include "base/string-util.h"
#include "daemon/config.h"
#include "fuzz.h"

static void check_values(const Config *c) {
        CHECK(c->limits.pool.prefix >= 8 && c->limits.pool.prefix <= 24);
        CHECK(c->limits.jail_uid_base > 65536 && c->limits.jail_uid_count > 0);
        CHECK((uint64_t)c->limits.jail_uid_base + c->limits.jail_uid_count <= 0x7ffffffe);
        CHECK(c->limits.start_usec >= 1000000 && c->limits.log_bytes >= 4096);
        CHECK(c->log_level >= 3 && c->log_level <= 7);
        const BootLoaders *b = &c->drivers.boot_loaders;
        for (size_t i = 0; i < b->count; i++)
                CHECK(i < BOOT_LOADERS_MAX && boot_loader_name_check(b->items[i].name) == 0 &&
                      b->items[i].path[0] == '/');
        CHECK(memchr(c->dnsmasq, '\0', sizeof c->dnsmasq) && (!*c->dnsmasq || *c->dnsmasq == '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_text(data, size);
        Config c = CONFIG_DEFAULT, before;
        Error e = ERROR_INIT;

        memcpy(&before, &c, sizeof c);
        if (config_parse("file", text, &c, &e) == 0)
                check_values(&c);
        else
                CHECK(error_is_set(&e) && string_has_prefix(error_text(&e), "file:") && !memcmp(&c, &before, sizeof c));
        error_clear(&e);
        free(text);
        return 0;
}
