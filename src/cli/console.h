/* A raw terminal on a stream, and the way out of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Where we are in the detach sequences: "~." at the beginning of a line, or Ctrl-] anywhere. "~~" sends one "~". */
typedef struct Escape {
        bool inside_line; /* something other than a line end came last */
        bool tilde;       /* a "~" at the beginning of a line is held back */
} Escape;

/* Take the sequences out of what was typed. out has room for length + 1: a "~" held back before may come first. True:
 * detach; out is then what was typed before it. */
bool escape_filter(Escape *state, const char *in, size_t length, char *out, size_t *ret_length);

typedef enum ConsoleEnd { CONSOLE_CLOSED, CONSOLE_DETACHED } ConsoleEnd;

/* Attach standard input and output to the stream until the guest or the person ends it; name is for messages. A
 * terminal is raw meanwhile, and restored whatever happens: a signal that ends us does so after that. */
int console_run(int socket, const char *name, ConsoleEnd *ret, Error *e);
