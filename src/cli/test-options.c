#include "cli/options.h"

#include "base/string-util.h"
#include "base/test-support.h"

/* A verb with an option of each kind. */
typedef struct Values {
        bool flag, common;
        const char *text;
        char **list;
} Values;

static int parse(Values *v, bool options_first, char **argv, Arguments *args, Error *e) {
        const Option own[] = {
                { "flag", 'f', NULL, "a flag", .flag = &v->flag },
                { "text", 't', "TEXT", "a text", .text = &v->text },
                { "list", 0, "ITEM", "a list", .list = &v->list },
                { "hidden", 0, NULL, NULL, .flag = &v->flag },
                { 0 },
        };
        const Option common[] = {
                { "common", 'c', NULL, "of every verb", .flag = &v->common },
                { 0 },
        };
        int argc = 0;

        while (argv[argc])
                argc++;
        return options_parse(own, common, options_first, argc, argv, args, e);
}

static void test_values_arrive(void **state) {
        char *argv[] = { (char[]){ "verb" },     (char[]){ "one" },    (char[]){ "-f" }, (char[]){ "--text=a=b" },
                         (char[]){ "--list=x" }, (char[]){ "--list" }, (char[]){ "-y" }, (char[]){ "two" },
                         (char[]){ "--common" }, (char[]){ "--" },     (char[]){ "-z" }, NULL };
        AUTO(error_clear) Error e = ERROR_INIT;
        Values v = { 0 };
        Arguments args;

        (void)state;
        assert_int_equal(parse(&v, false, argv, &args, &e), 0);
        assert_true(v.flag);
        assert_true(v.common);
        assert_string_equal(v.text, "a=b");
        assert_int_equal(string_list_length(v.list), 2);
        assert_string_equal(v.list[1], "-y");
        assert_int_equal(args.count, 3);
        assert_string_equal(args.items[0], "one");
        assert_string_equal(args.items[2], "-z");
        string_list_free(&v.list);
}

/* A second parse must not see anything of the first. */
static void test_parses_anew(void **state) {
        char *first[] = { (char[]){ "verb" }, (char[]){ "a" }, (char[]){ "-f" }, NULL };
        char *second[] = { (char[]){ "verb" }, (char[]){ "-t" }, (char[]){ "b" }, (char[]){ "c" }, NULL };
        AUTO(error_clear) Error e = ERROR_INIT;
        Values v = { 0 };
        Arguments args;

        (void)state;
        assert_int_equal(parse(&v, false, first, &args, &e), 0);
        v = (Values){ 0 };
        assert_int_equal(parse(&v, false, second, &args, &e), 0);
        assert_false(v.flag);
        assert_string_equal(v.text, "b");
        assert_int_equal(args.count, 1);
}

static void test_options_first_leaves_the_rest(void **state) {
        char *argv[] = { (char[]){ "exec" }, (char[]){ "-f" }, (char[]){ "net" }, (char[]){ "--" },
                         (char[]){ "ls" },   (char[]){ "-f" }, (char[]){ "--" },  NULL };
        AUTO(error_clear) Error e = ERROR_INIT;
        Values v = { 0 };
        Arguments args;

        (void)state;
        assert_int_equal(parse(&v, true, argv, &args, &e), 0);
        assert_int_equal(args.count, 4);
        assert_string_equal(args.items[0], "net");
        assert_string_equal(args.items[1], "ls");
        assert_string_equal(args.items[2], "-f");
        assert_string_equal(args.items[3], "--");
}

static void refused(const char *word, const char *text) {
        char *copy = strdup(word), *argv[] = { (char[]){ "verb" }, copy, NULL };
        AUTO(error_clear) Error e = ERROR_INIT;
        Values v = { 0 };
        Arguments args;

        assert_int_equal(parse(&v, false, argv, &args, &e), error_errno(ERROR_INVALID_INPUT));
        assert_string_equal(error_text(&e), text);
        free(copy);
}

static void test_refusals_name_the_option(void **state) {
        (void)state;
        refused("--txet=1", "unknown option --txet=1 (did you mean --text?)");
        refused("--elephant", "unknown option --elephant");
        refused("-q", "unknown option -q");
        refused("--flag=yes", "option --flag takes no value");
        refused("--text", "option --text needs a value: TEXT");
        refused("-t", "option --text needs a value: TEXT");
        refused("--hiddn", "unknown option --hiddn");
}

static void test_help_hides_the_hidden(void **state) {
        const Option options[] = {
                { "all", 'a', NULL, "everything", .flag = (bool[]){ false } },
                { "secret", 0, NULL, NULL, .flag = (bool[]){ false } },
                { "size", 0, "SIZE", "how much", .text = (const char *[]){ NULL } },
                { 0 },
        };
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);

        (void)state;
        options_help(out, options);
        fclose(out);
        assert_string_equal(text, "  -a, --all                          everything\n"
                                  "      --size=SIZE                    how much\n");
        free(text);
}

static void test_suggests_only_what_is_near(void **state) {
        static const char *const names[] = { "create", "list", "show", "destroy" };

        (void)state;
        assert_string_equal(suggest("craete", names, 4), "create");
        assert_string_equal(suggest("lst", names, 4), "list");
        assert_string_equal(suggest("shwo", names, 4), "show");
        assert_string_equal(suggest("detroy", names, 4), "destroy");
        assert_null(suggest("elephant", names, 4));
        assert_null(suggest("a-word-that-is-much-longer-than-any-of-ours", names, 4));
        assert_null(suggest("create", names, 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values_arrive),
                cmocka_unit_test(test_parses_anew),
                cmocka_unit_test(test_options_first_leaves_the_rest),
                cmocka_unit_test(test_refusals_name_the_option),
                cmocka_unit_test(test_help_hides_the_hidden),
                cmocka_unit_test(test_suggests_only_what_is_near),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
