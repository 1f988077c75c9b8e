/* Owned file descriptors: -1 is "none". Everything made here is close-on-exec. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

/* Close if open, and set to -1; errno is kept. Usable with AUTO(). */
void fd_drop(int *fd);

/* Give the descriptor away: returns it and leaves -1. */
int fd_take(int *fd);

/* A small array of owned descriptors, such as a message carries. */
#define FD_SET_MAX 128
typedef struct FdSet {
        int fds[FD_SET_MAX];
        size_t count;
} FdSet;

/* Takes ownership of fd, also on failure (-EMFILE when full). */
int fd_set_add(FdSet *set, int fd);
void fd_set_clear(FdSet *set); /* closes all; usable with AUTO() */

int fd_set_nonblock(int fd, bool on);

/* Write all of it, going on after short writes and EINTR. For regular files, pipes and blocking sockets. */
int fd_write_all(int fd, const void *data, size_t length);

/* Read to the end of the file into a NUL-terminated buffer that the caller frees. -EFBIG past max bytes. */
int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_length);

/* The same by path, relative to dir_fd (AT_FDCWD allowed). */
int file_read_all(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_length);

/* Make path (mode) hold exactly this text: written beside it and renamed over it. */
int file_replace(int dir_fd, const char *path, const char *text, mode_t mode);

/* One SEQPACKET message with descriptors (SCM_RIGHTS); never raises SIGPIPE. The sender keeps its descriptors. */
int fd_send(int socket, const void *data, size_t length, const int *fds, size_t n_fds);

/* Receive one; *ret_length is the message's length, 0 at the end of the stream. Descriptors are added to *fds.
 * -EMSGSIZE when the message or its descriptors were cut, -EMFILE when *fds or this process has no room for them. */
int fd_receive(int socket, void *buffer, size_t size, size_t *ret_length, FdSet *fds);

/* Make 0, 1 and 2 open, on /dev/null where they are not, so that no other file gets their numbers. */
int fd_fill_stdio(void);

/* Where it leads now, in the caller's root: buffer has size bytes, of which a longer path is -ENAMETOOLONG. */
int fd_path(int fd, char *buffer, size_t size);

/* A memfd holding data, sealed against any change when sealed is true, offset 0. */
int fd_memfd(const char *name, const void *data, size_t length, bool sealed, int *ret_fd);
/* The same to an empty one that there is already; one that may be sealed, if it is to be. */
int fd_memfd_fill(int fd, const void *data, size_t length, bool sealed);

/* A listening UNIX stream socket at dir_fd/name with the mode given, replacing a dead one; non-blocking.
 * Works for directories whose path is longer than sun_path allows. */
int unix_listen(int dir_fd, const char *name, mode_t mode, int *ret_fd);

/* A stream socket connected to dir_fd/name; non-blocking once connected. -ECONNREFUSED, -ENOENT as the kernel says. */
int unix_connect(int dir_fd, const char *name, int *ret_fd);
/* The same to a stranger: no descriptors are taken (unix_refuse_descriptors()), from before it is connected. */
int unix_connect_plain(int dir_fd, const char *name, int *ret_fd);

/* Let nobody send descriptors to this end of a UNIX socket: whoever tries has EPERM (SO_PASSRIGHTS, Linux 6.16; nothing
 * is done before). For sockets of strangers, who choose what the last close of a descriptor does, and that is ours even
 * where we never asked for it: the kernel closes what nobody receives. A TCP socket may linger there for hours. What
 * accept() makes of a listener's has it too. */
void unix_refuse_descriptors(int fd);

/* Remove dir_fd/name and what is below it, never following a symbolic link and never leaving the file system; ENOENT is
 * success. */
int remove_tree(int dir_fd, const char *name);
