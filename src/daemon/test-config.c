#include "daemon/config.h"

#include <string.h>

#include "base/string-util.h"
#include "base/test-support.h"

static void test_sets_each_key(void **state) {
        (void)state;
        Config c = CONFIG_DEFAULT;
        AUTO(error_clear) Error e = ERROR_INIT;

        int r = config_parse("f",
                             "max_networks = 1\n  max_domains=2 # two\n\nmax_memory = 3G\r\nmax_vcpus\t=\t4\n"
                             "max_streams = 5\nmax_connections = 6\nmax_vcpus_per_domain = 7\nstart_timeout = 8s\n"
                             "keep_ended = 9min\nmax_ended = 10\nconsole_log_size = 11k\nidle_timeout = 12h\n"
                             "spare_networks = 61\npool = 10.0.0.0/8\njail_uid_base = 70000\n"
                             "jail_uid_count = 14\nlog_level = debug\n"
                             "bootloader_timeout = 15s\nbootloader_x.y-1 = /opt/x y\nbootloader_pygrub = /opt/z\n"
                             "dnsmasq = /opt/a b#c/dnsmasq\n# the end",
                             &c, &e);
        assert_string_equal(error_text(&e), "no error");
        assert_int_equal(r, 0);
        assert_int_equal(c.limits.networks, 1);
        assert_int_equal(c.limits.domains, 2);
        assert_true(c.limits.memory == 3ULL << 30);
        assert_int_equal(c.limits.vcpus, 4);
        assert_int_equal(c.limits.streams, 5);
        assert_int_equal(c.limits.connections, 6);
        assert_int_equal(c.limits.vcpus_per_domain, 7);
        assert_int_equal(c.limits.start_usec, 8000000);
        assert_int_equal(c.limits.ended_usec, 540000000);
        assert_int_equal(c.limits.ended_per_owner, 10);
        assert_int_equal(c.limits.log_bytes, 11 * 1024);
        assert_true(c.limits.idle_usec == 12ULL * 3600 * 1000000);
        assert_int_equal(c.limits.spares, 61);
        assert_int_equal(c.limits.pool.prefix, 8);
        assert_int_equal(c.limits.jail_uid_base, 70000);
        assert_int_equal(c.limits.jail_uid_count, 14);
        assert_int_equal(c.log_level, 7);
        assert_string_equal(c.dnsmasq, "/opt/a b#c/dnsmasq");
        assert_int_equal(c.drivers.boot_loader_usec, 15000000);
        assert_int_equal(c.drivers.boot_loaders.count, 2);
        assert_string_equal(c.drivers.boot_loaders.items[0].name, "x.y-1");
        assert_string_equal(c.drivers.boot_loaders.items[0].path, "/opt/x y");
        assert_string_equal(c.drivers.boot_loaders.items[1].name, "pygrub");
}

static void test_too_many_boot_loaders(void **state) {
        (void)state;
        Config c = CONFIG_DEFAULT;
        AUTO(error_clear) Error e = ERROR_INIT;

        for (int i = 0; i < BOOT_LOADERS_MAX; i++) {
                AUTO(string_drop) char *text = string_printf("bootloader_l%d = /opt/l", i);
                assert_int_equal(config_parse("f", text, &c, &e), 0);
        }
        /* Another place for a known one, in another file, is no more of them. */
        assert_int_equal(config_parse("f", "bootloader_l3 = /opt/other", &c, &e), 0);
        assert_string_equal(c.drivers.boot_loaders.items[3].path, "/opt/other");
        assert_int_equal(config_parse("f", "bootloader_more = /opt/l", &c, &e), -EINVAL);
        assert_string_equal(error_text(&e), "f:1: bootloader_more: more than 16 boot loaders");
        assert_int_equal(c.drivers.boot_loaders.count, BOOT_LOADERS_MAX);
}

static void test_zero_and_empty(void **state) {
        (void)state;
        Config c = CONFIG_DEFAULT;

        assert_int_equal(config_parse("f", "", &c, NULL), 0);
        assert_int_equal(config_parse("f", "#", &c, NULL), 0);
        assert_int_equal(config_parse("f", "max_memory = 0\nidle_timeout = 0\nkeep_ended = 0\ndnsmasq =\n", &c, NULL),
                         0);
        assert_int_equal(c.limits.memory, 0);
        assert_int_equal(c.limits.idle_usec, 0);
        assert_string_equal(c.dnsmasq, "");
        assert_int_equal(c.limits.networks, 64);
}

static void test_refuses(void **state) {
        (void)state;
        static const struct {
                const char *text, *error;
        } cases[] = {
                { "\nmax_network = 1", "f:2: key \"max_network\": it is not known; these are: max_networks, " },
                { "max_networks", "f:1: line \"max_networks\": \"key = value\"" },
                { "max_networks =", "f:1: max_networks \"\": a number" },
                { "max_networks = 1\nmax_networks = 1", "f:2: max_networks is given twice, first in line 1" },
                { "max_networks = -1", "f:1: max_networks \"-1\"" },
                { "max_networks = 99999999999", "f:1: max_networks" },
                { "max_networks = 1 2", "f:1: max_networks" },
                { "max_connections = 0", "from 1 to" },
                { "max_vcpus_per_domain = 4097", "from 1 to 4096" },
                { "max_memory = 64", "f:1: max_memory \"64\": a size" },
                { "start_timeout = 30", "f:1: start_timeout \"30\": a time" },
                { "start_timeout = 0", "from 1s to 1h" },
                { "start_timeout = 500ms", "from 1s to 1h" },
                { "start_timeout = 2h", "from 1s to 1h" },
                { "start_timeout = 30 s", "a time" },
                { "start_timeout = s", "a time" },
                { "keep_ended = 99999999999999999999999999h", "a time" },
                { "keep_ended = 18446744073709551615h", "a time" },
                { "console_log_size = 1k", "from 4k to 1G" },
                { "console_log_size = 2G", "from 4k to 1G" },
                { "spare_networks = 65", "number from 0 to 64" },
                { "spare_networks = -1", "number from 0 to 64" },
                { "pool = 10.0.0.0/25", "prefix from 8 to 24" },
                { "pool = 10.0.0.0/7", "prefix from 8 to 24" },
                { "pool = 10.0.0.1/8", "prefix from 8 to 24" },
                { "pool = 127.0.0.0/8", "ordinary addresses" },
                { "jail_uid_base = 65536", "65537" },
                { "jail_uid_base = 2147483646", "2147483645" },
                { "jail_uid_count = 0", "from 1" },
                { "jail_uid_base = 2147483645\njail_uid_count = 2", "f: jail_uid_base and jail_uid_count" },
                { "log_level = notice", "error, warning, info or debug" },
                { "dnsmasq = dnsmasq", "an absolute path" },
                { "bootloader_timeout = 0", "from 1s to 1h" },
                { "bootloader_x = x", "f:1: bootloader_x \"x\": an absolute path" },
                { "bootloader_x =", "an absolute path" },
                { "bootloader_ = /x", "a boot loader's name is wanted" },
                { "bootloader_.x = /x", "a boot loader's name is wanted" },
                { "bootloader_x y = /x", "a boot loader's name is wanted" },
                { "bootloader_x/y = /x", "a boot loader's name is wanted" },
                { "bootloader_12345678901234567890123456789012 = /x", "a boot loader's name is wanted" },
                { "bootloader_x = /x\nbootloader_x = /y", "f:2: bootloader_x is given twice, first in line 1" },
                { "max_\x1b[2J = 1", "\\x1b" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                Config c = CONFIG_DEFAULT, before;
                AUTO(error_clear) Error e = ERROR_INIT;
                c.limits.vcpus = 123;
                memcpy(&before, &c, sizeof c);
                AUTO(string_drop) char *text = string_printf("%s\nmax_vcpus = 5\n", cases[i].text);
                assert_int_equal(config_parse("f", text, &c, &e), -EINVAL);
                assert_int_equal(e.id, ERROR_INVALID_INPUT);
                if (!strstr(error_text(&e), cases[i].error))
                        fail_msg("\"%s\" does not say \"%s\"", error_text(&e), cases[i].error);
                assert_memory_equal(&c, &before, sizeof c);
        }
}

static void test_last_jail_uid(void **state) {
        (void)state;
        Config c = CONFIG_DEFAULT;

        assert_int_equal(config_parse("f", "jail_uid_base = 2147483645\njail_uid_count = 1", &c, NULL), 0);
}

static void test_long_program(void **state) {
        (void)state;
        Config c = CONFIG_DEFAULT;
        char path[400];

        memset(path, '/', sizeof path);
        path[255] = '\0';
        AUTO(string_drop) char *fits = string_printf("dnsmasq = %s", path);
        assert_int_equal(config_parse("f", fits, &c, NULL), 0);
        assert_string_equal(c.dnsmasq, path);
        path[255] = '/';
        path[256] = '\0';
        AUTO(string_drop) char *too_long = string_printf("dnsmasq = %s", path);
        assert_int_equal(config_parse("f", too_long, &c, NULL), -EINVAL);
}

static void write_file(int dir_fd, const char *name, const char *text, size_t length) {
        AUTO(fd_drop) int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(fd_write_all(fd, text, length), 0);
}

static void test_load(void **state) {
        (void)state;
        TestDir d;
        Config c = CONFIG_DEFAULT;
        AUTO(error_clear) Error missing = ERROR_INIT, nul = ERROR_INIT;

        test_dir_open(&d);
        write_file(d.fd, "good", "max_networks = 3\n", 17);
        write_file(d.fd, "nul", "max_networks = 4\n\0x", 19);
        AUTO(string_drop)
        char *none = string_printf("%s/none", d.path), *good = string_printf("%s/good", d.path),
             *with_nul = string_printf("%s/nul", d.path);
        assert_int_equal(config_load(none, false, &c, NULL), 0);
        assert_int_equal(config_load(none, true, &c, &missing), -ENOENT);
        assert_non_null(strstr(error_text(&missing), none));
        assert_int_equal(config_load(good, true, &c, NULL), 0);
        assert_int_equal(c.limits.networks, 3);
        assert_int_equal(config_load(with_nul, true, &c, &nul), -EINVAL);
        assert_true(config_load(d.path, true, &c, NULL) < 0);
        assert_int_equal(c.limits.networks, 3);
        test_dir_close(&d);
}

/* Field by field: the padding between them is nobody's. */
static void assert_limits_equal(const Limits *a, const Limits *b) {
        assert_int_equal(a->networks, b->networks);
        assert_int_equal(a->domains, b->domains);
        assert_int_equal(a->memory, b->memory);
        assert_int_equal(a->vcpus, b->vcpus);
        assert_int_equal(a->streams, b->streams);
        assert_int_equal(a->connections, b->connections);
        assert_int_equal(a->vcpus_per_domain, b->vcpus_per_domain);
        assert_int_equal(a->start_usec, b->start_usec);
        assert_int_equal(a->ended_usec, b->ended_usec);
        assert_int_equal(a->ended_per_owner, b->ended_per_owner);
        assert_int_equal(a->log_bytes, b->log_bytes);
        assert_int_equal(a->idle_usec, b->idle_usec);
        assert_int_equal(a->spares, b->spares);
        assert_int_equal(a->pool.base, b->pool.base);
        assert_int_equal(a->pool.prefix, b->pool.prefix);
        assert_int_equal(a->jail_uid_base, b->jail_uid_base);
        assert_int_equal(a->jail_uid_count, b->jail_uid_count);
}

/* What the file that is installed shows as defaults is what the defaults are, and no key is missing in it. */
static void test_installed_file(void **state) {
        (void)state;
        const char *file = getenv("DEBMARSHAL_TEST_CONF");
        AUTO(string_drop) char *text = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        const Config defaults = CONFIG_DEFAULT;
        Config c = defaults, blank = { .log_level = -1, .dnsmasq = "/x" };
        size_t keys = 0;

        if (!file)
                skip();
        assert_int_equal(config_load(file, true, &c, &e), 0);
        assert_limits_equal(&c.limits, &defaults.limits);
        assert_int_equal(file_read_all(AT_FDCWD, file, 1 << 20, &text, NULL), 0);
        for (char *p = text; (p = strchr(p, '#')); p++)
                if ((p == text || p[-1] == '\n') && p[1] != ' ' && p[1] != '\n') {
                        *p = ' ';
                        keys++;
                }
        if (config_parse(file, text, &blank, &e) < 0)
                fail_msg("%s", error_text(&e));
        assert_int_equal(keys, 22);
        assert_int_equal(blank.drivers.boot_loader_usec, defaults.drivers.boot_loader_usec);
        assert_int_equal(blank.drivers.boot_loaders.count, 1); /* an example */
        assert_limits_equal(&blank.limits, &defaults.limits);
        assert_int_equal(blank.log_level, defaults.log_level);
        assert_string_equal(blank.dnsmasq, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sets_each_key), cmocka_unit_test(test_zero_and_empty),
                cmocka_unit_test(test_refuses),       cmocka_unit_test(test_last_jail_uid),
                cmocka_unit_test(test_long_program),  cmocka_unit_test(test_too_many_boot_loaders),
                cmocka_unit_test(test_load),          cmocka_unit_test(test_installed_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
