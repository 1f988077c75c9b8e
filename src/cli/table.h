/* Tables for people: aligned, and coloured on a terminal. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "base/error.h"
#include "cli/term.h"

typedef struct Column {
        const char *title;
        bool right; /* numbers stand at the right */
        /* The cell of a row, allocated; NULL without memory. It is escaped where it is printed. */
        char *(*cell)(const json_t *row);
        Colour (*colour)(const json_t *row); /* NULL: none */
} Column;

/* A header and one line for each member of rows, an array. Writes nothing when there is none. */
int table_print(FILE *out, const Column *columns, size_t n_columns, const json_t *rows, Error *e);
