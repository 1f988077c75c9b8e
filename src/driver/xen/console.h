/* A guest's console is a pseudo-terminal of xenconsoled's, whose name is in the store. */
#pragma once

#include "base/error.h"

/* Which terminal it is, told apart from a later one of the same name; "" when that cannot be told. Returns buffer. */
#define XEN_CONSOLE_IDENTITY_MAX 64
const char *xen_console_identify(int fd, char buffer[XEN_CONSOLE_IDENTITY_MAX]);

/* Open it, raw and non-blocking, if it is one, and the very one of that identity (NULL: any). */
int xen_console_open(const char *path, const char *identity, int *ret_fd, Error *e);
