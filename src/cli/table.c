/* Two passes: every cell is made and measured, then printed. Cells are escaped to printable ASCII first, so that their
 * bytes are their columns on the terminal. */
#include "cli/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

#define CELL_MAX 256 /* no honest cell is longer */
#define GAP      2

typedef struct Grid {
        size_t n_rows, n_columns;
        char **cells; /* row by row */
        size_t *widths;
} Grid;

static void grid_done(Grid *g) {
        for (size_t i = 0; g->cells && i < g->n_rows * g->n_columns; i++)
                free(g->cells[i]);
        free(g->cells);
        free(g->widths);
}

static int grid_fill(Grid *g, const Column *columns, const json_t *rows) {
        g->cells = calloc(g->n_rows * g->n_columns, sizeof *g->cells);
        g->widths = calloc(g->n_columns, sizeof *g->widths);
        if (!g->cells || !g->widths)
                return -ENOMEM;

        for (size_t c = 0; c < g->n_columns; c++) {
                g->widths[c] = strlen(columns[c].title);
                for (size_t i = 0; i < g->n_rows; i++) {
                        AUTO(string_drop) char *raw = columns[c].cell(json_array_get(rows, i));
                        char **cell = &g->cells[i * g->n_columns + c];

                        *cell = raw ? string_escape(raw, CELL_MAX) : NULL;
                        if (!*cell)
                                return -ENOMEM;
                        if (strlen(*cell) > g->widths[c])
                                g->widths[c] = strlen(*cell);
                }
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

static void print_grid(FILE *out, const Grid *g, const Column *columns, const json_t *rows) {
        bool coloured = colour_wanted(out);

        for (size_t c = 0; c < g->n_columns; c++)
                print_cell(out, g, &columns[c], c, columns[c].title, COLOUR_BOLD, coloured);
        for (size_t i = 0; i < g->n_rows; i++)
                for (size_t c = 0; c < g->n_columns; c++) {
                        const json_t *row = json_array_get(rows, i);
                        Colour colour = columns[c].colour ? columns[c].colour(row) : COLOUR_NONE;

                        print_cell(out, g, &columns[c], c, g->cells[i * g->n_columns + c], colour, coloured);
                }
}

int table_print(FILE *out, const Column *columns, size_t n_columns, const json_t *rows, Error *e) {
        Grid g = { .n_rows = json_array_size(rows), .n_columns = n_columns };

        if (g.n_rows == 0)
                return 0;
        int r = grid_fill(&g, columns, rows);
        if (r == 0)
                print_grid(out, &g, columns, rows);
        grid_done(&g);
        return r < 0 ? error_set(e, ERROR_INTERNAL, "out of memory") : 0;
}
