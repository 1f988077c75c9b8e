#include "cli/term.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/string-util.h"
#include "base/time-util.h"

static const char *const colours[] = {
        [COLOUR_NONE] = "",          [COLOUR_BOLD] = "\x1b[1m",    [COLOUR_RED] = "\x1b[31m",
        [COLOUR_GREEN] = "\x1b[32m", [COLOUR_YELLOW] = "\x1b[33m",
};
static_assert(ARRAY_LEN(colours) == COLOUR_COUNT, "row missing");

bool colour_wanted(FILE *out) {
        const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

        return isatty(fileno(out)) && !(no && *no) && term && *term && !string_equal(term, "dumb");
}

const char *colour_begin(Colour c, bool wanted) {
        return wanted ? colours[c] : "";
}

const char *colour_end(Colour c, bool wanted) {
        return wanted && c != COLOUR_NONE ? "\x1b[0m" : "";
}

char *text_safe(const char *text) {
        char *safe = malloc(4 * strlen(text) + 1), *p = safe;

        if (!safe)
                return NULL;
        for (const char *s = text; *s; s++)
                if ((*s >= 0x20 && *s < 0x7f) || *s == '\n' || *s == '\t')
                        *p++ = *s;
                else
                        p += sprintf(p, "\\x%02x", (unsigned char)*s);
        *p = '\0';
        return safe;
}

static bool progress_shown;

void progress_begin(const char *what) {
        progress_shown = isatty(STDERR_FILENO);
        if (progress_shown)
                fprintf(stderr, "%s... ", what);
}

void progress_end(void) {
        if (progress_shown)
                fputs("\r\x1b[K", stderr);
        progress_shown = false;
}

const char *age_format(uint64_t then_usec, uint64_t now_usec, char buffer[AGE_TEXT_MAX]) {
        uint64_t s = now_usec > then_usec ? (now_usec - then_usec) / USEC_PER_SEC : 0;

        if (s < 120)
                snprintf(buffer, AGE_TEXT_MAX, "%" PRIu64 " s", s);
        else if (s < 2 * 3600)
                snprintf(buffer, AGE_TEXT_MAX, "%" PRIu64 " min", s / 60);
        else if (s < 48 * 3600)
                snprintf(buffer, AGE_TEXT_MAX, "%" PRIu64 " h", s / 3600);
        else
                snprintf(buffer, AGE_TEXT_MAX, "%" PRIu64 " d", s / 86400);
        return buffer;
}

int duration_parse(const char *text, uint64_t *ret_usec) {
        static const struct {
                const char *name;
                uint64_t usec;
        } units[] = {
                { "", USEC_PER_SEC },    { "s", USEC_PER_SEC },         { "ms", USEC_PER_MSEC },
                { "m", 60000000 },       { "min", 60000000 },           { "h", 3600 * USEC_PER_SEC },
                { "sec", USEC_PER_SEC }, { "d", 86400 * USEC_PER_SEC },
        };
        size_t digits = strspn(text, "0123456789");
        char number[21];
        uint64_t n;

        if (digits == 0 || digits >= sizeof number)
                return -EINVAL;
        memcpy(number, text, digits);
        number[digits] = '\0';
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
                if (!string_equal(text + digits, units[i].name))
                        continue;
                int r = parse_u64(number, INT64_MAX / units[i].usec, &n);
                if (r < 0)
                        return r;
                *ret_usec = n * units[i].usec;
                return 0;
        }
        return -EINVAL;
}
