/* Two passes: every cell is made and measured, then printed. Cells are escaped to printable ASCII first, so that their
 * bytes are their columns on the terminal. */
#include "cli/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

#define CELL_MAX 256 /* no honest cell is longer */
#define GAP      2

typedef struct Grid {
        char **cells; /* row by row */
        size_t count, n_columns;
        size_t *widths;
} Grid;

static void grid_done(Grid *g) {
        for (size_t i = 0; g->cells && i < g->count; i++)
                free(g->cells[i]);
        free(g->cells);
        free(g->widths);
}

static int grid_fill(Grid *g, const Column *columns, const json_t *rows) {
        for (size_t i = 0; i < g->count; i++) {
                size_t c = i % g->n_columns;
                AUTO(string_drop) char *raw = columns[c].cell(json_array_get(rows, i / g->n_columns));

                g->cells[i] = raw ? string_escape(raw, CELL_MAX) : NULL;
                if (!g->cells[i])
                        return -1;
                if (strlen(g->cells[i]) > g->widths[c])
                        g->widths[c] = strlen(g->cells[i]);
        }
        return 0;
}

static void print_cell(FILE *out, const Grid *g, const Column *column, size_t c, const char *text, Colour colour,
                       bool coloured) {
        int pad = (int)(g->widths[c] - strlen(text));
        bool last = c + 1 == g->n_columns;

        fprintf(out, "%*s%s%s%s%*s", column->right ? pad : 0, "", colour_begin(colour, coloured), text,
                colour_end(colour, coloured), last ? 0 : (column->right ? 0 : pad) + GAP, "");
        if (last)
                putc('\n', out);
}

int table_print(FILE *out, const Column *columns, size_t n_columns, const json_t *rows, Error *e) {
        AUTO(grid_done) Grid g = { .count = json_array_size(rows) * n_columns, .n_columns = n_columns };
        bool coloured = colour_wanted(out);

        if (g.count == 0)
                return 0;
        g.cells = calloc(g.count, sizeof *g.cells);
        g.widths = calloc(n_columns, sizeof *g.widths);
        if (!g.cells || !g.widths)
                return error_set(e, ERROR_INTERNAL, "out of memory");
        for (size_t c = 0; c < n_columns; c++)
                g.widths[c] = strlen(columns[c].title);
        if (grid_fill(&g, columns, rows) < 0)
                return error_set(e, ERROR_INTERNAL, "out of memory");

        for (size_t c = 0; c < n_columns; c++)
                print_cell(out, &g, &columns[c], c, columns[c].title, COLOUR_BOLD, coloured);
        for (size_t i = 0; i < g.count; i++) {
                const Column *column = &columns[i % n_columns];
                const json_t *row = json_array_get(rows, i / n_columns);

                print_cell(out, &g, column, i % n_columns, g.cells[i],
                           column->colour ? column->colour(row) : COLOUR_NONE, coloured);
        }
        return 0;
}
