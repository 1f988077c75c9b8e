#include "base/test-support.h"

#include <syslog.h>

#include "base/string-util.h"
#include "daemon/options.h"

static OptionsVerdict parse(char *const *list, Options *ret) {
        char **argv = NULL;
        assert_int_equal(string_list_copy(list, &argv), 0);
        OptionsVerdict verdict = options_parse((int)string_list_length(argv), argv, ret);
        string_list_free(&argv);
        return verdict;
}

static void test_defaults(void **state UNUSED) {
        Options o;
        assert_int_equal(parse(LIST("debmarshald"), &o), OPTIONS_RUN);
        assert_int_equal(o.scope, geteuid() == 0 ? SCOPE_SYSTEM : SCOPE_SESSION);
        assert_int_equal(o.log_level, -1);
        assert_null(o.runtime_dir);
        assert_null(o.config);
        assert_false(o.daemonize);
        assert_false(o.driver_null);
}

static void test_each_option(void **state UNUSED) {
        Options o;
        assert_int_equal(
                parse(LIST("debmarshald", "--scope=session", "--daemonize", "--driver-null", "--log-level=debug"), &o),
                OPTIONS_RUN);
        assert_int_equal(o.scope, SCOPE_SESSION);
        assert_int_equal(o.log_level, LOG_DEBUG);
        assert_true(o.daemonize);
        assert_true(o.driver_null);
        assert_int_equal(parse(LIST("debmarshald", "--scope", "system"), &o), OPTIONS_RUN);
        assert_int_equal(o.scope, SCOPE_SYSTEM);
}

static void test_usage(void **state UNUSED) {
        Options o;
        assert_int_equal(parse(LIST("debmarshald", "--scope=galaxy"), &o), OPTIONS_USAGE);
        assert_int_equal(parse(LIST("debmarshald", "--runtime-dir="), &o), OPTIONS_USAGE);
        assert_int_equal(parse(LIST("debmarshald", "--log-level=9"), &o), OPTIONS_USAGE);
        assert_int_equal(parse(LIST("debmarshald", "--unknown"), &o), OPTIONS_USAGE);
        assert_int_equal(parse(LIST("debmarshald", "--config"), &o), OPTIONS_USAGE);
        assert_int_equal(parse(LIST("debmarshald", "stray"), &o), OPTIONS_USAGE);
        assert_int_equal(parse(LIST("debmarshald", "--version"), &o), OPTIONS_DONE);
        assert_int_equal(parse(LIST("debmarshald", "--help"), &o), OPTIONS_DONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_each_option),
                cmocka_unit_test(test_usage),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
