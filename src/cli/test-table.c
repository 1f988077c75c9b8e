#include "cli/table.h"

#include "base/string-util.h"
#include "base/test-support.h"
#include "cli/value.h"

static char *cell_name(const json_t *row) {
        return strdup(value_text(row, "name"));
}

static char *cell_count(const json_t *row) {
        return string_printf("%u", (unsigned)value_number(row, "count"));
}

static char *cell_nothing(const json_t *row) {
        (void)row;
        return NULL;
}

static Colour red(const json_t *row) {
        (void)row;
        return COLOUR_RED;
}

static const Column columns[] = {
        { "NAME", false, cell_name, red },
        { "N", true, cell_count, NULL },
        { "AGAIN", false, cell_name, NULL },
};

static char *print(const Column *c, size_t n, const char *rows_text, int expected) {
        AUTO(json_drop) json_t *rows = json_loads(rows_text, 0, NULL);
        AUTO(error_clear) Error e = ERROR_INIT;
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);

        assert_non_null(rows);
        assert_int_equal(table_print(out, c, n, rows, &e), expected);
        fclose(out);
        return text;
}

static void test_columns_align(void **state) {
        AUTO(string_drop)
        char *text = print(columns, 3, "[{\"name\": \"a\", \"count\": 5}, {\"name\": \"longer\", \"count\": 1234}]", 0);

        (void)state;
        assert_string_equal(text, "NAME       N  AGAIN\n"
                                  "a          5  a\n"
                                  "longer  1234  longer\n");
}

static void test_no_rows_no_header(void **state) {
        AUTO(string_drop) char *text = print(columns, 3, "[]", 0);

        (void)state;
        assert_string_equal(text, "");
}

/* A name that would move the cursor is shown as what it is. */
static void test_cells_are_escaped(void **state) {
        AUTO(string_drop) char *text = print(columns, 1, "[{\"name\": \"\\u001b[2J\\nx\"}]", 0);

        (void)state;
        assert_null(strchr(text, '\x1b'));
        assert_non_null(strstr(text, "\\x1b[2J\\x0ax\n"));
}

static void test_missing_members_are_empty(void **state) {
        AUTO(string_drop) char *text = print(columns, 2, "[{}]", 0);

        (void)state;
        assert_string_equal(text, "NAME  N\n"
                                  "      0\n");
}

static void test_cell_without_memory_fails(void **state) {
        static const Column bad[] = { { "X", false, cell_nothing, NULL } };
        AUTO(string_drop) char *text = print(bad, 1, "[{}]", error_errno(ERROR_INTERNAL));

        (void)state;
        assert_string_equal(text, "");
}

static void test_safe_text_keeps_lines_and_backslashes(void **state) {
        AUTO(string_drop) char *text = text_safe("a\\x0a\tb\nc\x1b\x7f\xc2\x9b");

        (void)state;
        assert_string_equal(text, "a\\x0a\tb\nc\\x1b\\x7f\\xc2\\x9b");
}

static void test_age(void **state) {
        char buffer[AGE_TEXT_MAX];
        uint64_t second = 1000000;

        (void)state;
        assert_string_equal(age_format(5 * second, 17 * second, buffer), "12 s");
        assert_string_equal(age_format(0, 120 * second, buffer), "2 min");
        assert_string_equal(age_format(0, 7200 * second, buffer), "2 h");
        assert_string_equal(age_format(0, 49 * 3600 * second, buffer), "2 d");
        assert_string_equal(age_format(9 * second, 5 * second, buffer), "0 s"); /* the clock was set back */
}

static void test_duration(void **state) {
        static const struct {
                const char *text;
                int result;
                uint64_t usec;
        } rows[] = {
                { "90", 0, 90000000 },
                { "90s", 0, 90000000 },
                { "500ms", 0, 500000 },
                { "5min", 0, 300000000 },
                { "2h", 0, 7200000000 },
                { "", -EINVAL, 0 },
                { "s", -EINVAL, 0 },
                { "-1s", -EINVAL, 0 },
                { "1 s", -EINVAL, 0 },
                { "1y", -EINVAL, 0 },
                { "9223372036854775807h", -ERANGE, 0 },
                { "99999999999999999999999", -EINVAL, 0 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                uint64_t usec = 0;
                assert_int_equal(duration_parse(rows[i].text, &usec), rows[i].result);
                assert_int_equal(usec, rows[i].usec);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_columns_align),
                cmocka_unit_test(test_no_rows_no_header),
                cmocka_unit_test(test_cells_are_escaped),
                cmocka_unit_test(test_missing_members_are_empty),
                cmocka_unit_test(test_cell_without_memory_fails),
                cmocka_unit_test(test_safe_text_keeps_lines_and_backslashes),
                cmocka_unit_test(test_age),
                cmocka_unit_test(test_duration),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
