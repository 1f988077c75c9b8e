/* The directory in which everything of one daemon lives. */
#pragma once

#include "engine/engine.h"

#define RUNTIME_LOCK   "lock"
#define RUNTIME_SOCKET "bus"

/* The path: given, or the scope's own. NULL without memory. */
char *runtime_dir_path(Scope scope, const char *given);

/* Make it if it is not there, and open it. It must be ours alone to write; ERROR_ACCESS_DENIED says what is wrong with
 * it. In the system scope everybody may pass through it to the socket, all else in it is closed to others. */
int runtime_dir_open(Scope scope, const char *path, int *ret_fd, Error *e);

/* Lock it for this process until it ends. -EWOULDBLOCK, without Error: another daemon has it. */
int runtime_dir_lock(int dir_fd, int *ret_fd, Error *e);
