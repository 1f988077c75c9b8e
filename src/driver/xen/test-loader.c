/* Where there is no Xen there is a driver that says so. Where there is, the tests of tests/xen see more. */
#include "base/test-support.h"
#include "driver/xen/loader.h"

static void answered(void *userdata, int fd, const Error *e) {
        unsigned *answers = userdata;

        assert_int_equal(fd, -1);
        assert_non_null(e);
        assert_int_equal(e->id, ERROR_NOT_SUPPORTED);
        assert_true(*error_text(e));
        ++*answers;
}

static void test_absent_driver_says_why(void **state) {
        (void)state;
        DriverHost host = { .privileged = true };
        unsigned answers = 0;

        if (access("/proc/xen/capabilities", F_OK) == 0)
                skip();
        const Driver *driver = xen_driver_load("/nonexistent", NULL);
        assert_non_null(driver);
        assert_string_equal(driver->name, "xen");
        assert_null(driver->adopt);
        assert_int_equal(sd_event_new(&host.event), 0);
        assert_int_equal(driver->probe(&host, answered, &answers, NULL), 0);
        assert_int_equal(answers, 0); /* never from inside the call */
        assert_true(sd_event_run(host.event, 1000000) > 0);
        assert_int_equal(answers, 1);
        sd_event_unref(host.event);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_absent_driver_says_why) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
