/* Transactions in Xen's store on a connection of their own, in few round trips, one at a time; or one watch: see
 * wire.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Wire Wire;
/* Connects to xenstored. */
int wire_open(Wire **ret);
/* Over a socket that is there, which it takes. */
int wire_open_fd(int fd, Wire **ret);
Wire *wire_close(Wire *w); /* NULL allowed */

int wire_begin(Wire *w);
/* What the transaction is to do, in this order. Nothing is sent yet: -ENOMEM or -ENAMETOOLONG. */
int wire_write(Wire *w, const char *path, const void *data, size_t length);
int wire_mkdir(Wire *w, const char *path);
/* owner may do anything, reader (UINT32_MAX: nobody) read: domain ids. */
int wire_permit(Wire *w, const char *path, uint32_t owner, uint32_t reader);
int wire_remove(Wire *w, const char *path); /* nothing there is fine */
/* Do it, or with give_up nothing of it. All of it has been done, or nothing: then the first failure's -errno, and the
 * path that it was about, good until the next call, or NULL. -EAGAIN: somebody else has changed the same nodes
 * meanwhile. */
int wire_end(Wire *w, bool give_up, const char **ret_path);

/* From here on the connection only watches a path: its descriptor is readable after each change there, once at the
 * beginning too. */
int wire_watch(Wire *w, const char *path);
int wire_fd(const Wire *w); /* still w's */
/* What has come is taken: 1: the watch has fired, perhaps several times; 0: it has not. -errno: the connection is lost.
 */
int wire_fired(Wire *w);
