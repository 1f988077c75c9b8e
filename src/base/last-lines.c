#include "base/last-lines.h"

#include <stdbool.h>
#include <string.h>

#include "base/string-util.h"

#define LINES_SHOWN 6
#define LINE_SHOWN  400 /* bytes */

#define ESCAPE    0x1b
#define BELL      0x07
#define SHIFT_OUT 0x0e /* what follows is drawn, up to SHIFT_IN */
#define SHIFT_IN  0x0f
#define DELETE    0x7f

char *last_lines(const char *text, size_t length) {
        AUTO(string_list_free) StringList lines = NULL;
        const char *starts[LINES_SHOWN] = { NULL };
        size_t lengths[LINES_SHOWN] = { 0 }, n = 0;
        if (length == 0)
                return NULL;

        const char *end = text + length;
        while (end > text && n < LINES_SHOWN) {
                const char *newline = memrchr(text, '\n', (size_t)(end - text));
                const char *start = newline ? newline + 1 : text;

                if (end > start) {
                        starts[n] = start;
                        lengths[n++] = (size_t)(end - start);
                }
                end = newline ? newline : text;
        }
        while (n-- > 0) {
                char line[LINE_SHOWN + 1];
                size_t shown_length = lengths[n] < LINE_SHOWN ? lengths[n] : LINE_SHOWN;

                memcpy(line, starts[n], shown_length);
                line[shown_length] = '\0';
                AUTO(string_drop) char *shown = string_escape(line, LINE_SHOWN);
                if (!shown || string_list_append(&lines, shown) < 0)
                        return NULL;
        }
        return lines ? string_list_join(lines, "; ") : NULL;
}

/* How long the sequence is that begins at s, with an ESC; and whether it moves the cursor elsewhere. */
static size_t sequence_length(const char *s, size_t length, bool *ret_moves) {
        size_t i = 1;

        *ret_moves = false;
        if (length > 1 && s[1] == '[') { /* parameters, then a letter */
                for (i = 2; i < length && (unsigned char)s[i] >= 0x20 && (unsigned char)s[i] < 0x40; i++)
                        ;
                *ret_moves = i < length && strchr("HfdEF", s[i]);
        } else if (length > 1 && s[1] == ']') { /* a text, up to a BEL or another ESC */
                for (i = 2; i < length && s[i] != BELL && s[i] != ESCAPE; i++)
                        ;
                return i < length && s[i] == BELL ? i + 1 : i;
        } else
                for (; i < length && (unsigned char)s[i] >= 0x20 && (unsigned char)s[i] < 0x30; i++)
                        ;
        return i < length ? i + 1 : length;
}

static size_t end_line(char *text, size_t length) {
        while (length > 0 && text[length - 1] == ' ')
                length--;
        return length;
}

size_t terminal_strip(char *text, size_t length) {
        bool drawn = false, moves;
        size_t to = 0;

        for (size_t i = 0; i < length; i++) {
                unsigned char c = (unsigned char)text[i];

                moves = false;
                if (c == ESCAPE)
                        i += sequence_length(text + i, length - i, &moves) - 1;
                else if (c == SHIFT_OUT || c == SHIFT_IN)
                        drawn = c == SHIFT_OUT;
                if (c == '\n' || c == '\r' || moves) {
                        to = end_line(text, to);
                        text[to++] = '\n';
                } else if (c == '\t')
                        text[to++] = ' ';
                else if (c >= 0x20 && c != DELETE && !drawn)
                        text[to++] = (char)c;
        }
        return end_line(text, to);
}
