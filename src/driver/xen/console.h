/* A guest's console is a pseudo-terminal of xenconsoled's, whose name is in the store. */
#pragma once

#include "base/error.h"

/* Open it, raw and non-blocking, if it is one. */
int xen_console_open(const char *path, int *ret_fd, Error *e);
