/* Xen's store: a tree of small values that dom0, guests and drivers share, served by xenstored.
 *
 * What is read costs a round trip per call, what is changed some for all of it (wire.h). Whoever asks waits for the
 * answer; so the workers do what a domain needs, and the daemon itself only reads a little when a watch fires. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/string-util.h"

typedef struct XenStore XenStore;
int xenstore_open(XenStore **ret, Error *e);
XenStore *xenstore_close(XenStore *s); /* NULL allowed */
void xenstore_drop(XenStore **s);      /* for AUTO() */
struct xs_handle *xenstore_handle(XenStore *s);

/* A transaction being filled in. Failures are remembered, and told by xenstore_change(). */
typedef struct XenStoreChange XenStoreChange;
typedef void (*XenStoreFill)(XenStoreChange *c, const void *userdata);
/* All of it or nothing. fill() runs again when somebody else has changed the same nodes meanwhile, but not for ever:
 * then -EAGAIN. */
int xenstore_change(XenStore *s, XenStoreFill fill, const void *userdata, Error *e);

/* DIRECTORY/KEY = the text. A new node inherits its directory's permissions. */
void change_write(XenStoreChange *c, const char *directory, const char *key, const char *format, ...) PRINTF_LIKE(4, 5);
/* A node that owner may do anything with, and reader may read (XENSTORE_NOBODY: nobody else). Both are domain ids; dom0
 * may always. key NULL: the directory itself. */
#define XENSTORE_NOBODY UINT32_MAX
void change_node(XenStoreChange *c, const char *directory, const char *key, uint32_t owner, uint32_t reader);
/* With all below it; nothing there is fine. */
void change_remove(XenStoreChange *c, const char *path);

/* The value up to its first NUL, the caller's. -ENOENT. A guest may have written it. */
int xenstore_read(XenStore *s, const char *path, char **ret);
/* The names below a node; an empty list when there is none. */
int xenstore_list(XenStore *s, const char *path, char ***ret);

/* Wait until the node has a value that is not empty, in the calling process: for workers. -ETIMEDOUT. */
int xenstore_wait(XenStore *s, const char *path, uint64_t deadline_usec, char **ret);
