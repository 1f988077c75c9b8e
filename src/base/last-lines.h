/* The last words of a program: the end of what it printed, for an error message. */
#pragma once

#include <stddef.h>

/* The last lines that are not empty, each safe to show, with "; " between them. NULL when there are none, or no memory.
 */
char *last_lines(const char *text, size_t length);

/* Make what was printed on a terminal plain lines, in place: escape sequences go, moves of the cursor begin a new line,
 * drawn lines and other control characters go, and so do spaces at the end of lines. Returns the new length. */
size_t terminal_strip(char *text, size_t length);
