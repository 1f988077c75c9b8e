/* --daemonize: a parent that waits until the daemon is ready, and the daemon in the background. */
#pragma once

#include "base/error.h"

typedef enum BackgroundRole { BACKGROUND_PARENT, BACKGROUND_DAEMON } BackgroundRole;

/* Fork. In the parent this returns when the daemon has called background_ready() (*ret_status 0) or has ended without
 * (1; what went wrong is on standard error). In the daemon, *ret_pipe is for background_ready(). */
int background_fork(BackgroundRole *ret_role, int *ret_pipe, int *ret_status, Error *e);

/* Tell the parent, and let go of what it had of its caller: standard input and output become /dev/null, standard error
 * log_fd. Takes the pipe. */
void background_ready(int *pipe, int log_fd);
