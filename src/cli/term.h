/* What a terminal needs and a pipe does not: colour, progress, escaped text. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* SGR sequences; "" where there is no colour. */
typedef enum Colour { COLOUR_NONE, COLOUR_BOLD, COLOUR_RED, COLOUR_GREEN, COLOUR_YELLOW, COLOUR_COUNT } Colour;

/* Whether text to this stream may be coloured: a terminal that can, and NO_COLOR is not set. */
bool colour_wanted(FILE *out);
const char *colour_begin(Colour c, bool wanted);
const char *colour_end(Colour c, bool wanted);

/* A copy safe for a terminal: bytes outside printable ASCII as \xHH, except line ends and tabs. Unlike string_escape()
 * it leaves backslashes alone, for text that was escaped where it was made. */
char *text_safe(const char *text);

/* "Creating a network... " on standard error while something takes its time; only on a terminal. */
void progress_begin(const char *what);
void progress_end(void);

/* "12 s", "5 min", "3 h", "9 d" since a moment of the real-time clock. Returns buffer. */
#define AGE_TEXT_MAX 32
const char *age_format(uint64_t then_usec, uint64_t now_usec, char buffer[AGE_TEXT_MAX]);

/* "90", "90s", "500ms", "5min", "2h": a number of seconds, or with a unit. -EINVAL, -ERANGE. */
int duration_parse(const char *text, uint64_t *ret_usec);
