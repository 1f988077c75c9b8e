#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "cli/term.h"

const char *verb_title(const Verb *verb, char buffer[VERB_TITLE_MAX]) {
        snprintf(buffer, VERB_TITLE_MAX, "debmarshal%s%s%s%s", verb && verb->noun ? " " : "",
                 verb ? string_or(verb->noun, "") : "", verb ? " " : "", verb ? verb->name : "");
        return buffer;
}

void print_version(void) {
        printf("debmarshal %s\n", VERSION);
}

static void print_help(const Verb *verb, const Option *own, const Option *common) {
        char title[VERB_TITLE_MAX];

        printf("usage: %s [OPTION...]%s%s\n\n%s\n", verb_title(verb, title), *verb->arguments ? " " : "",
               verb->arguments, verb->help);
        if (own && own->name) {
                printf("\nOptions:\n");
                options_help(stdout, own);
        }
        printf("\nOptions of every verb:\n");
        options_help(stdout, common);
        printf("\nSee debmarshal(1).\n");
}

static bool count_fits(const Cli *cli, const Arguments *a) {
        char title[VERB_TITLE_MAX];

        if (a->count >= cli->verb->min && a->count <= cli->verb->max)
                return true;
        if (a->count > cli->verb->max)
                verb_usage(cli, "unexpected argument: %s", a->items[cli->verb->max]);
        else
                verb_usage(cli, "'%s' takes %s", verb_title(cli->verb, title), cli->verb->arguments);
        return false;
}

bool verb_begin(Cli *cli, const Option *options, int argc, char **argv, Arguments *ret_arguments, int *ret_status) {
        AUTO(error_clear) Error e = ERROR_INIT;
        const Option common[] = {
                { "address", 0, "ADDRESS", "the daemon's D-Bus address, or the path of its socket",
                  .text = &cli->address },
                { "system", 0, NULL, "ask the system's daemon only", .flag = &cli->system },
                { "session", 0, NULL, "ask your own daemon only, and start it if need be", .flag = &cli->session },
                { "help", 'h', NULL, "show this", .flag = &cli->help },
                { "version", 0, NULL, "print the version", .flag = &cli->version },
                { 0 },
        };

        *ret_status = STATUS_USAGE;
        if (options_parse(options, common, cli->verb->options_first, argc, argv, ret_arguments, &e) < 0) {
                verb_usage(cli, "%s", error_text(&e));
                return false;
        }
        if (cli->help || cli->version) {
                if (cli->version)
                        print_version();
                else
                        print_help(cli->verb, options, common);
                *ret_status = STATUS_DONE;
                return false;
        }
        if (cli->system && cli->session) {
                verb_usage(cli, "--system and --session exclude each other");
                return false;
        }
        return count_fits(cli, ret_arguments);
}

/* One line on standard error, whole: other programs may write there too. */
static void complain(const char *text, const char *hint) {
        AUTO(string_drop) char *safe = text_safe(text);

        fflush(stdout);
        fprintf(stderr, "debmarshal: %s%s\n", string_or(safe, "out of memory"), hint);
}

int verb_fail(const Error *e) {
        complain(error_text(e), "");
        return STATUS_FAILED;
}

int verb_usage(const Cli *cli, const char *format, ...) {
        char title[VERB_TITLE_MAX];
        va_list ap;

        va_start(ap, format);
        AUTO(string_drop) char *text = string_vprintf(format, ap);
        va_end(ap);
        AUTO(string_drop) char *hint = string_printf("; try '%s --help'", verb_title(cli->verb, title));
        complain(string_or(text, "out of memory"), string_or(hint, ""));
        return STATUS_USAGE;
}

void say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        AUTO(string_drop) char *text = string_vprintf(format, ap);
        va_end(ap);
        complain(string_or(text, "out of memory"), "");
}
