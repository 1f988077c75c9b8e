/* Words of the command line that mean more than themselves: disks, networks, ssh targets, addresses. */
#include <netinet/in.h>

#include "base/error.h"
#include "base/string-util.h"
#include "base/test-support.h"
#include "cli/domain-create.h"
#include "cli/stream.h"
#include "cli/vnc.h"

static void test_disk(void **state) {
        static const struct {
                const char *text, *path, *format;
        } rows[] = {
                { "/a", "/a", "raw" },
                { "/a:ro", "/a", "raw:ro" },
                { "qcow2:/a", "/a", "qcow2" },
                { "qcow2:/a:ro", "/a", "qcow2:ro" },
                { "raw:/a:rw", "/a", "raw" },
                { "/a:b,c=d", "/a:b,c=d", "raw" }, /* neither a format nor an option */
                { "/a:ro:rw", "/a:ro", "raw" },    /* the way to say a path that ends so */
                { "/vmdk:/x", "/vmdk:/x", "raw" },
                { "raw:qcow2:/x", "qcow2:/x", "raw" },
        };

        (void)state;
        assert_int_equal(chdir("/"), 0); /* the last row is relative */
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                AUTO(string_drop) char *path = NULL, *format = NULL, *wanted = NULL;

                assert_int_equal(disk_parse(rows[i].text, &path, &format, NULL), 0);
                wanted = string_printf("%s%s", *rows[i].path == '/' ? "" : "/", rows[i].path);
                assert_string_equal(path, wanted);
                assert_string_equal(format, rows[i].format);
        }
}

static void test_disk_without_path(void **state) {
        static const char *const texts[] = { "", "raw:", "qcow2::ro", ":ro" };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                AUTO(string_drop) char *path = NULL, *format = NULL;
                AUTO(error_clear) Error e = ERROR_INIT;

                assert_int_equal(disk_parse(texts[i], &path, &format, &e), error_errno(ERROR_INVALID_INPUT));
                assert_null(path);
        }
}

static void test_relative_paths(void **state) {
        AUTO(string_drop) char *one = NULL, *two = NULL, *three = NULL;

        (void)state;
        assert_int_equal(chdir("/usr"), 0);
        assert_int_equal(path_absolute("bin/../x", &one), 0);
        assert_string_equal(one, "/usr/bin/../x"); /* not tidied: /usr/bin may be a symbolic link */
        assert_int_equal(path_absolute("/x", &two), 0);
        assert_string_equal(two, "/x");
        assert_int_equal(chdir("/"), 0);
        assert_int_equal(path_absolute("x", &three), 0);
        assert_string_equal(three, "/x");
}

static void test_nic(void **state) {
        AUTO(string_drop) char *network = NULL, *rest = NULL, *network2 = NULL, *rest2 = NULL;
        AUTO(error_clear) Error e = ERROR_INIT, e2 = ERROR_INIT;

        (void)state;
        assert_int_equal(nic_parse("debmarshal-0", &network, &rest, NULL), 0);
        assert_string_equal(network, "debmarshal-0");
        assert_string_equal(rest, "");
        assert_int_equal(nic_parse("debmarshal-0,00:16:3e:00:00:01", &network2, &rest2, NULL), 0);
        assert_string_equal(rest2, "00:16:3e:00:00:01");
        assert_true(looks_like_mac(rest2));
        assert_false(looks_like_mac("web"));
        assert_true(nic_parse("debmarshal-0,", &network, &rest, &e) < 0);
        assert_true(nic_parse(",web", &network, &rest, &e2) < 0);
}

static void test_ssh_target(void **state) {
        static const struct {
                const char *text;
                int result;
                const char *user, *network, *host;
        } rows[] = {
                { "web", 0, NULL, NULL, "web" },
                { "debmarshal-0/web", 0, NULL, "debmarshal-0", "web" },
                { "root@web", 0, "root", NULL, "web" },
                { "a@b@debmarshal-0/web", 0, "a@b", "debmarshal-0", "web" },
                { "", -EINVAL, NULL, NULL, NULL },
                { "@web", -EINVAL, NULL, NULL, NULL },
                { "/web", -EINVAL, NULL, NULL, NULL },
                { "debmarshal-0/", -EINVAL, NULL, NULL, NULL },
                { "-oProxyCommand=x", -EINVAL, NULL, NULL, NULL },
                { "debmarshal-0/-oProxyCommand=x", -EINVAL, NULL, NULL, NULL },
                { "-x@web", -EINVAL, NULL, NULL, NULL },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                AUTO(string_drop) char *user = NULL, *network = NULL, *host = NULL;

                assert_int_equal(target_parse(rows[i].text, &user, &network, &host), rows[i].result);
                assert_true(string_equal(user, rows[i].user));
                assert_true(string_equal(network, rows[i].network));
                assert_true(string_equal(host, rows[i].host));
        }
}

/* What a shell makes of a quoted word must be the word, but for the percent signs that are ssh's to halve. */
static void test_proxy_quote(void **state) {
        static const struct {
                const char *word, *seen;
        } rows[] = {
                { "plain", "plain" },
                { "", "" },
                { "a b", "a b" },
                { "it's", "it's" },
                { "$(reboot);`x`\"\\", "$(reboot);`x`\"\\" },
                { "100%h", "100%%h" },
                { "'''", "'''" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                AUTO(string_drop) char *quoted = proxy_quote(rows[i].word), *command = NULL;
                char seen[64] = "";

                command = string_printf("printf %%s %s", quoted);
                FILE *shell = popen(command, "r");
                assert_non_null(shell);
                size_t n = fread(seen, 1, sizeof seen - 1, shell);
                assert_int_equal(pclose(shell), 0);
                assert_int_equal(n, strlen(rows[i].seen));
                assert_string_equal(seen, rows[i].seen);
        }
}

static void test_loopback(void **state) {
        struct sockaddr_storage address;
        socklen_t length;

        (void)state;
        assert_int_equal(loopback_parse("127.0.0.1:5901", &address, &length), 0);
        assert_int_equal(ntohs(((struct sockaddr_in *)&address)->sin_port), 5901);
        assert_int_equal(loopback_parse("0", &address, &length), 0);
        assert_int_equal(address.ss_family, AF_INET);
        assert_int_equal(loopback_parse("localhost:1", &address, &length), 0);
        assert_int_equal(loopback_parse("[::1]:1", &address, &length), 0);
        assert_int_equal(address.ss_family, AF_INET6);
        assert_int_equal(loopback_parse("0.0.0.0:1", &address, &length), -EPERM);
        assert_int_equal(loopback_parse("192.168.0.1:1", &address, &length), -EPERM);
        assert_int_equal(loopback_parse("[::]:1", &address, &length), -EINVAL);
        assert_int_equal(loopback_parse("127.0.0.1:65536", &address, &length), -EINVAL);
        assert_int_equal(loopback_parse("127.0.0.1:", &address, &length), -EINVAL);
        assert_int_equal(loopback_parse("", &address, &length), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_disk),           cmocka_unit_test(test_disk_without_path),
                cmocka_unit_test(test_relative_paths), cmocka_unit_test(test_nic),
                cmocka_unit_test(test_ssh_target),     cmocka_unit_test(test_proxy_quote),
                cmocka_unit_test(test_loopback),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
