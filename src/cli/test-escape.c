#include "cli/console.h"

#include "base/test-support.h"

/* Type one text; what goes through is compared. */
static void typed(Escape *state, const char *in, const char *through, bool detaches) {
        char out[64];
        size_t n = 0;

        assert_int_equal(escape_filter(state, in, strlen(in), out, &n), detaches);
        assert_true(n <= strlen(in) + 1);
        assert_int_equal(n, strlen(through));
        assert_memory_equal(out, through, n);
}

static void test_ordinary_text_goes_through(void **state) {
        Escape e = { 0 };

        (void)state;
        typed(&e, "ls ~/x\r", "ls ~/x\r", false);
        typed(&e, "a~.b\n", "a~.b\n", false);
        typed(&e, "..\r", "..\r", false);
}

static void test_tilde_dot_detaches_at_a_line_start(void **state) {
        Escape e = { 0 };

        (void)state;
        typed(&e, "~.", "", true);

        e = (Escape){ 0 };
        typed(&e, "exit\r~.more", "exit\r", true);

        e = (Escape){ 0 };
        typed(&e, "x\n", "x\n", false);
        typed(&e, "~", "", false); /* key by key, as people type */
        typed(&e, ".", "", true);
}

static void test_held_tilde_is_not_lost(void **state) {
        Escape e = { 0 };

        (void)state;
        typed(&e, "~", "", false);
        typed(&e, "x", "~x", false);
        typed(&e, ".", ".", false);
        typed(&e, "\r", "\r", false);
        typed(&e, "~", "", false);
        typed(&e, "\r", "~\r", false);
        typed(&e, "~.", "", true); /* that line end began a line */
}

static void test_two_tildes_send_one(void **state) {
        Escape e = { 0 };

        (void)state;
        typed(&e, "~~.", "~.", false);
        typed(&e, "\r~~", "\r~", false);
        typed(&e, "~.", "~.", false);
}

static void test_control_bracket_detaches_anywhere(void **state) {
        Escape e = { 0 };

        (void)state;
        typed(&e,
              "abc\x1d"
              "def",
              "abc", true);
        e = (Escape){ 0 };
        typed(&e, "~\x1d", "", true);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ordinary_text_goes_through),
                cmocka_unit_test(test_tilde_dot_detaches_at_a_line_start),
                cmocka_unit_test(test_held_tilde_is_not_lost),
                cmocka_unit_test(test_two_tildes_send_one),
                cmocka_unit_test(test_control_bracket_detaches_anywhere),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
