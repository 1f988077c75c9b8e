/* The daemon's command line. */
#pragma once

#include <stdbool.h>

#include "engine/engine.h"

typedef struct Options {
        Scope scope;
        const char *runtime_dir; /* NULL: the scope's own */
        const char *config;      /* NULL: the default file, which may be missing */
        int log_level;           /* -1: what the configuration says */
        bool daemonize, driver_null;
} Options;

typedef enum OptionsVerdict {
        OPTIONS_RUN,
        OPTIONS_DONE,  /* --help or --version: printed, exit 0 */
        OPTIONS_USAGE, /* the error is on standard error, exit 2 */
} OptionsVerdict;

OptionsVerdict options_parse(int argc, char **argv, Options *ret);
