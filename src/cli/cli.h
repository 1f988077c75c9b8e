/* What every verb gets, how it begins and how it ends.
 *
 * Data goes to standard output, everything else to standard error. A verb returns one of the statuses below, which is
 * the program's exit status. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/error.h"
#include "cli/options.h"

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* D-Bus names that the whole command line uses. */
#define ROOT_PATH         "/com/googlecode/debmarshal"
#define MANAGER_INTERFACE "com.googlecode.debmarshal.Manager"
#define NETWORK_INTERFACE "com.googlecode.debmarshal.Network"
#define DOMAIN_INTERFACE  "com.googlecode.debmarshal.Domain"
#define NETWORK_PREFIX    ROOT_PATH "/network"
#define DOMAIN_PREFIX     ROOT_PATH "/domain"
#define PRIVOPS_PATH      ROOT_PATH "/Privops"
#define PRIVOPS_INTERFACE "com.googlecode.debmarshal.Privops"

struct Verb;

typedef struct Cli {
        const struct Verb *verb; /* the row that is running; NULL before one is chosen */

        /* Options that every verb takes. */
        const char *address;
        bool system, session, help, version;

        sd_bus *bus; /* NULL until daemon_connect() */
} Cli;

typedef struct Verb {
        const char *noun; /* NULL: the verb stands alone */
        const char *name;
        const char *arguments; /* as the help shows them */
        size_t min, max;       /* how many there may be besides options */
        bool options_first;    /* options end at the first argument: what follows is another program's */
        const char *help;      /* one line */
        int (*run)(Cli *cli, int argc, char **argv);
} Verb;
#define VERB_ANY ((size_t)-1)

/* Parse a verb's own options and the common ones. True: go on, with *ret_arguments filled in. False: the verb is over
 * with *ret_status, after its help, the version or an error has been printed. */
bool verb_begin(Cli *cli, const Option *options, int argc, char **argv, Arguments *ret_arguments, int *ret_status);

void print_version(void);

/* Print "debmarshal: TEXT" and return STATUS_FAILED. */
int verb_fail(const Error *e);

/* Print "debmarshal: TEXT; try 'debmarshal VERB --help'" and return STATUS_USAGE. */
int verb_usage(const Cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

/* A line to standard error, of which the control characters are escaped: it may hold text of users and guests. */
void say(const char *format, ...) PRINTF_LIKE(1, 2);

/* "debmarshal NOUN NAME" of a row. Returns buffer. */
#define VERB_TITLE_MAX 64
const char *verb_title(const Verb *verb, char buffer[VERB_TITLE_MAX]);
