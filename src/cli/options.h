/* Options by small tables: a verb keeps its values in locals and names each in one row. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

typedef struct Option {
        const char *name;  /* "memory" for --memory; NULL ends a table */
        char letter;       /* 'm' for -m; 0: none */
        const char *value; /* what the help calls the value; NULL: takes none */
        const char *help;  /* NULL: works, but is not shown */

        /* Where it goes; exactly one is set. Texts point into argv; the list owns its strings. A text or flag given
         * twice: the last one counts. */
        bool *flag;
        const char **text;
        char ***list;
} Option;

/* What is left when the options are taken away; points into argv. */
typedef struct Arguments {
        char **items;
        size_t count;
} Arguments;

#define OPTION_TABLES_MAX 2

/* argv[0] is skipped. own and common may be NULL. With options_first the first argument ends the options, and a "--"
 * right after it is dropped. ERROR_INVALID_INPUT names what is wrong, with the nearest option that exists. */
int options_parse(const Option *own, const Option *common, bool options_first, int argc, char **argv, Arguments *ret,
                  Error *e);

/* The table as a help page shows it. */
void options_help(FILE *out, const Option *options);

/* The one of names that a person may have meant by text; NULL when none is near. */
const char *suggest(const char *text, const char *const *names, size_t count);
