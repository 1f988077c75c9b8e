/* A domain's streams, for more than one verb. */
#pragma once

#include "cli/cli.h"

/* Attach to the console of a domain until it ends or the person detaches. Of a domain that has ended already, the log
 * is printed. */
int console_attach(Cli *cli, const char *name, Error *e);
