/* Find the daemon, and start the session's when none answers. */
#pragma once

#include "cli/cli.h"

/* Set cli->bus. The error says where it looked and what is to be done. */
int daemon_connect(Cli *cli, Error *e);

/* The same, but nothing is started; for completion. */
int daemon_connect_running(Cli *cli, Error *e);
