#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "base/string-util.h"

#define OPTIONS_MAX      48
#define LONG_OPTION_BASE 256 /* above every letter: getopt's value of row N is LONG_OPTION_BASE + N */
#define SUGGEST_MAX      32

/* Both tables as getopt wants them. */
typedef struct Table {
        const Option *rows[OPTIONS_MAX];
        struct option longs[OPTIONS_MAX + 1];
        char letters[2 * OPTIONS_MAX + 3];
        size_t count;
} Table;

static void table_add(Table *t, const Option *options) {
        char *letters = t->letters + strlen(t->letters);

        for (const Option *o = options; o && o->name && t->count < OPTIONS_MAX; o++, t->count++) {
                t->rows[t->count] = o;
                t->longs[t->count] = (struct option){
                        .name = o->name,
                        .has_arg = o->value ? required_argument : no_argument,
                        .val = LONG_OPTION_BASE + (int)t->count,
                };
                if (!o->letter)
                        continue;
                *letters++ = o->letter;
                if (o->value)
                        *letters++ = ':';
        }
}

static const Option *table_find(const Table *t, int value) {
        if (value >= LONG_OPTION_BASE)
                return (size_t)(value - LONG_OPTION_BASE) < t->count ? t->rows[value - LONG_OPTION_BASE] : NULL;
        for (size_t i = 0; i < t->count; i++)
                if (t->rows[i]->letter == value)
                        return t->rows[i];
        return NULL;
}

static int option_store(const Option *o, char *value, Error *e) {
        if (o->flag)
                *o->flag = true;
        else if (o->text)
                *o->text = value;
        else if (string_list_append(o->list, value) < 0)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        return 0;
}

static int unknown_option(const Table *t, const char *text, Error *e) {
        const char *names[OPTIONS_MAX];
        char name[SUGGEST_MAX];
        size_t n = 0;

        for (size_t i = 0; i < t->count; i++)
                if (t->rows[i]->help)
                        names[n++] = t->rows[i]->name;

        snprintf(name, sizeof name, "%s", string_has_prefix(text, "--") ? text + 2 : text);
        name[strcspn(name, "=")] = '\0';
        const char *near = suggest(name, names, n);
        if (near)
                return error_set(e, ERROR_INVALID_INPUT, "unknown option %s (did you mean --%s?)", text, near);
        return error_set(e, ERROR_INVALID_INPUT, "unknown option %s", text);
}

/* getopt said '?': an unknown option, or a value where none belongs. */
static int refuse(const Table *t, char **argv, Error *e) {
        if (optopt >= LONG_OPTION_BASE && table_find(t, optopt))
                return error_set(e, ERROR_INVALID_INPUT, "option --%s takes no value", table_find(t, optopt)->name);
        if (optopt > 0 && optopt < LONG_OPTION_BASE)
                return error_set(e, ERROR_INVALID_INPUT, "unknown option -%c", optopt);
        return unknown_option(t, argv[optind - 1], e);
}

int options_parse(const Option *own, const Option *common, bool options_first, int argc, char **argv, Arguments *ret,
                  Error *e) {
        Table t = { .letters = "" };
        int c;

        /* '+': the first argument ends the options; ':' tells a missing value from an unknown option. */
        strcpy(t.letters, options_first ? "+:" : ":");
        table_add(&t, own);
        table_add(&t, common);

        optind = 0; /* GNU: start anew */
        opterr = 0;
        while ((c = getopt_long(argc, argv, t.letters, t.longs, NULL)) >= 0) {
                if (c == '?')
                        return refuse(&t, argv, e);
                const Option *o = table_find(&t, c == ':' ? optopt : c);
                if (!o)
                        return refuse(&t, argv, e);
                if (c == ':')
                        return error_set(e, ERROR_INVALID_INPUT, "option --%s needs a value: %s", o->name, o->value);
                int r = option_store(o, optarg, e);
                if (r < 0)
                        return r;
        }

        *ret = (Arguments){ .items = argv + optind, .count = (size_t)(argc - optind) };
        if (options_first && ret->count > 1 && string_equal(ret->items[1], "--")) {
                ret->items[1] = ret->items[0];
                ret->items++;
                ret->count--;
        }
        return 0;
}

void options_help(FILE *out, const Option *options) {
        for (const Option *o = options; o && o->name; o++) {
                char left[64];

                if (!o->help)
                        continue;
                int n = o->letter ? snprintf(left, sizeof left, "-%c, ", o->letter)
                                  : snprintf(left, sizeof left, "    ");
                snprintf(left + n, sizeof left - (size_t)n, "--%s%s%s", o->name, o->value ? "=" : "",
                         string_or(o->value, ""));
                fprintf(out, "  %-34s %s\n", left, o->help);
        }
}

/* Levenshtein's distance, with one row; both texts are shorter than SUGGEST_MAX. */
static size_t distance(const char *a, const char *b) {
        size_t row[SUGGEST_MAX + 1], la = strlen(a), lb = strlen(b);

        for (size_t j = 0; j <= lb; j++)
                row[j] = j;
        for (size_t i = 1; i <= la; i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= lb; j++) {
                        size_t change = diagonal + (a[i - 1] != b[j - 1]);
                        size_t gap = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

                        diagonal = row[j];
                        row[j] = change < gap ? change : gap;
                }
        }
        return row[lb];
}

const char *suggest(const char *text, const char *const *names, size_t count) {
        const char *best = NULL;
        size_t nearest = strlen(text) / 3 + 1; /* further away than that, it is another word */

        if (strlen(text) >= SUGGEST_MAX)
                return NULL;
        for (size_t i = 0; i < count; i++) {
                if (strlen(names[i]) >= SUGGEST_MAX)
                        continue;
                size_t d = distance(text, names[i]);
                if (d < nearest || (d == nearest && !best)) {
                        nearest = d;
                        best = names[i];
                }
        }
        return best;
}
