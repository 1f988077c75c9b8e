#include "daemon/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/string-util.h"

enum { OPT_SCOPE = 256, OPT_RUNTIME_DIR, OPT_CONFIG, OPT_LOG_LEVEL, OPT_DAEMONIZE, OPT_DRIVER_NULL, OPT_VERSION };

static const struct option option_table[] = {
        { "scope", required_argument, NULL, OPT_SCOPE },
        { "runtime-dir", required_argument, NULL, OPT_RUNTIME_DIR },
        { "config", required_argument, NULL, OPT_CONFIG },
        { "log-level", required_argument, NULL, OPT_LOG_LEVEL },
        { "daemonize", no_argument, NULL, OPT_DAEMONIZE },
        { "driver-null", no_argument, NULL, OPT_DRIVER_NULL },
        { "version", no_argument, NULL, OPT_VERSION },
        { "help", no_argument, NULL, 'h' },
        { 0 },
};

static const char help_text[] =
        "Usage: debmarshald [OPTION...]\n"
        "Serve isolated networks and virtual machines over D-Bus.\n\n"
        "  --scope=system|session  for every user of this host (needs root), or for you alone\n"
        "                          (default: system for root, session for others)\n"
        "  --runtime-dir=DIR       keep state and sockets here (/run/debmarshal, $XDG_RUNTIME_DIR/debmarshal)\n"
        "  --config=FILE           read this instead of " SYSCONFDIR "/debmarshal/debmarshald.conf\n"
        "  --log-level=LEVEL       error, warning, info or debug\n"
        "  --daemonize             go on in the background, and return when requests are served\n"
        "  --driver-null           offer the hypervisor \"null\" too, whose guests do nothing (for tests)\n"
        "  --version, --help       what they say\n\n"
        "See debmarshald(8).\n";

static bool set_scope(Options *o, const char *text) {
        bool is_system = string_equal(text, "system");

        o->scope = is_system ? SCOPE_SYSTEM : SCOPE_SESSION;
        return is_system || string_equal(text, "session");
}

static bool set_log_level(Options *o, const char *text) {
        static const struct {
                const char *name;
                int level;
        } levels[] = { { "error", LOG_ERR }, { "warning", LOG_WARNING }, { "info", LOG_INFO }, { "debug", LOG_DEBUG } };

        for (size_t i = 0; i < ARRAY_LEN(levels); i++)
                if (string_equal(levels[i].name, text)) {
                        o->log_level = levels[i].level;
                        return true;
                }
        return false;
}

static OptionsVerdict refuse(const char *option, const char *value, const char *wanted) {
        fprintf(stderr, "debmarshald: --%s=%s: %s is wanted; try 'debmarshald --help'\n", option, value, wanted);
        return OPTIONS_USAGE;
}

static OptionsVerdict take_option(Options *o, int option) {
        switch (option) {
        case OPT_SCOPE:
                return set_scope(o, optarg) ? OPTIONS_RUN : refuse("scope", optarg, "system or session");
        case OPT_RUNTIME_DIR:
                o->runtime_dir = optarg;
                return *optarg ? OPTIONS_RUN : refuse("runtime-dir", optarg, "a directory");
        case OPT_CONFIG:
                o->config = optarg;
                return OPTIONS_RUN;
        case OPT_LOG_LEVEL:
                return set_log_level(o, optarg) ? OPTIONS_RUN
                                                : refuse("log-level", optarg, "error, warning, info or debug");
        case OPT_DAEMONIZE:
                o->daemonize = true;
                return OPTIONS_RUN;
        case OPT_DRIVER_NULL:
                o->driver_null = true;
                return OPTIONS_RUN;
        case OPT_VERSION:
                puts("debmarshald " VERSION);
                return OPTIONS_DONE;
        case 'h':
                fputs(help_text, stdout);
                return OPTIONS_DONE;
        default: /* getopt_long() has said what is wrong */
                return OPTIONS_USAGE;
        }
}

OptionsVerdict options_parse(int argc, char **argv, Options *ret) {
        int option;

        *ret = (Options){ .scope = geteuid() == 0 ? SCOPE_SYSTEM : SCOPE_SESSION, .log_level = -1 };
        optind = 0; /* from the start, whoever called it before */
        while ((option = getopt_long(argc, argv, "h", option_table, NULL)) != -1) {
                OptionsVerdict verdict = take_option(ret, option);
                if (verdict != OPTIONS_RUN)
                        return verdict;
        }
        if (optind < argc) {
                fprintf(stderr, "debmarshald: unexpected argument '%s'; try 'debmarshald --help'\n", argv[optind]);
                return OPTIONS_USAGE;
        }
        return OPTIONS_RUN;
}
