/* FIFOs in a domain's directory. A FIFO keeps what was written while nobody reads, so what a guest says while the
 * daemon is away waits there. Everybody opens them for reading and writing: then nobody sees an end of file or a broken
 * pipe because another has gone, and a new daemon takes over by opening them again. */
#pragma once

#include <sys/types.h>

/* Make a new one (0600) in place of whatever has the name, give it to owner ((uid_t)-1: the daemon's), and open it. */
int fifo_make(int dir_fd, const char *name, uid_t owner, int *ret_fd);

/* Non-blocking. -EINVAL when it is no FIFO. */
int fifo_open(int dir_fd, const char *name, int *ret_fd);

/* Its path, the caller's, for a jail, which binds by path: nobody but the daemon may rename anything in the directory.
 */
int fifo_path(int dir_fd, const char *name, char **ret);
