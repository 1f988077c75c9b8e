/* The null driver does what it is told, also in failing: the other suites rest on that. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/test-harness.h"

static Harness harness;

static int set_up(void **state) {
        (void)state;
        harness_begin(&harness);
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        harness_end(&harness);
        return 0;
}

static void begin(Run *r, const char *cmdline) {
        DomainSpec spec = DOMAIN_SPEC_INIT;

        spec.cmdline = strdup(cmdline);
        run_begin(r, &harness, &null_driver, "debmarshal-1", &spec);
}

static void client_gone(void *userdata) {
        (void)userdata;
}

static void test_life(void **state) {
        AUTO(fd_drop) int client = -1;
        char buffer[64];
        Run r;

        (void)state;
        begin(&r, "quiet");
        run_start(&r);
        assert_int_equal(console_attach(r.guest->console, client_gone, NULL, &client, NULL), 0);
        assert_int_equal(send(client, "echo\n", 5, MSG_NOSIGNAL), 5);
        assert_true(run_console_has(&r, "echo", 5));
        run_request(&r, null_driver.pause);
        assert_false(r.answer_failed);
        assert_true(r.paused);
        run_request(&r, null_driver.resume);
        assert_false(r.paused);
        run_request(&r, null_driver.screenshot);
        assert_int_equal(pread(r.fd, buffer, 8, 0), 8);
        assert_memory_equal(buffer, "\x89PNG", 4);
        run_request(&r, null_driver.shutdown);
        assert_true(run_until(&r, &r.ended, 1, 5));
        assert_int_equal(r.reason, END_POWEROFF);
        assert_true(run_alive(&r));
        run_request(&r, null_driver.reset);
        assert_int_equal(r.ended, 1);
        run_stop(&r);
        run_end(&r);
}

static void check_failure(const char *cmdline, ErrorId id) {
        Run r;

        begin(&r, cmdline);
        harness.limits.start_usec = 300000;
        assert_int_equal(null_driver.start(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.started, 1, 10));
        assert_true(r.start_failed);
        assert_int_equal(r.error_id, id);
        if (r.recorded)
                assert_false(run_alive(&r));
        run_check_clean(&r);
        run_end(&r);
}

static void test_failures(void **state) {
        (void)state;
        check_failure("fail=exec", ERROR_HYPERVISOR_FAILED);
        check_failure("fail=record", ERROR_INTERNAL);
        check_failure("quiet fail=start", ERROR_HYPERVISOR_FAILED);
        check_failure("hang=start", ERROR_TIMEOUT);
}

static void check_end(const char *cmdline, EndReason reason) {
        Run r;

        begin(&r, cmdline);
        r.domain.spec.on_reboot = END_DESTROY;
        run_start(&r);
        assert_true(run_until(&r, &r.ended, 1, 5));
        assert_int_equal(r.reason, reason);
        run_stop(&r);
        assert_int_equal(r.ended, 1);
        run_end(&r);
}

static void test_ends(void **state) {
        (void)state;
        check_end("poweroff-after-ms=20", END_POWEROFF);
        check_end("reboot-after-ms=20", END_REBOOT);
        check_end("crash-after-ms=20", END_CRASH);
        check_end("die-after-ms=20", END_CRASH);
}

static void test_stop_while_starting(void **state) {
        Run r;

        (void)state;
        begin(&r, "delay-ms=5000");
        assert_int_equal(null_driver.start(r.guest, NULL), 0);
        null_driver.stop(r.guest);
        null_driver.stop(r.guest);
        assert_int_equal(r.stopped, 0);
        assert_true(run_until(&r, &r.stopped, 1, 5));
        assert_int_equal(r.started, 0);
        run_check_clean(&r);
        run_end(&r);

        begin(&r, "delay-ms=5000");
        assert_int_equal(null_driver.start(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.recorded, 1, 5));
        run_for(&r, 50);
        run_stop(&r);
        assert_int_equal(r.started, 0);
        run_end(&r);
}

static void test_adopt(void **state) {
        Run r;

        (void)state;
        begin(&r, "");
        run_start(&r);
        run_renew(&r, &null_driver);
        assert_true(run_alive(&r));
        assert_int_equal(null_driver.adopt(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.started, 1, 5));
        assert_false(r.start_failed);
        run_stop(&r);
        run_renew(&r, &null_driver);
        AUTO(error_clear) Error e = ERROR_INIT;
        assert_true(null_driver.adopt(r.guest, &e) < 0);
        assert_int_equal(e.id, ERROR_HYPERVISOR_FAILED);
        run_end(&r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_life), TEST(test_failures), TEST(test_ends), TEST(test_stop_while_starting), TEST(test_adopt),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
