/* A second terminal of a guest's console, for Xen's own tools.
 *
 * "xl console" opens the terminal that the store names, which is xenconsoled's, and that one is our console's source:
 * with two readers each would get a part. So the store is made to name a terminal of ours instead, which is one more
 * client of the console; xenconsoled's own is kept under the domain's uuid, where a new daemon finds it, with what
 * tells it apart from a later terminal of the same name. An xenconsoled that is started anew names another one again.
 */
#pragma once

#include <systemd/sd-event.h>

#include "driver/xen/store.h"
#include "guest/console.h"

/* The two sides of a new pseudo-terminal, raw. Ours is non-blocking; theirs is to be kept open too, or ours would tell
 * the end of the file whenever nobody else has it open. */
typedef struct MirrorTerminal {
        int ours, theirs;
} MirrorTerminal;
#define MIRROR_TERMINAL_NONE ((MirrorTerminal){ -1, -1 })
void mirror_terminal_drop(MirrorTerminal *t); /* for AUTO() */

#define MIRROR_NAME_MAX 64
/* Make one that the store is to name. */
int mirror_open(MirrorTerminal *ret, char name[MIRROR_NAME_MAX], Error *e);
/* Name it in the store. source: the name of xenconsoled's, to be kept, which is open as source_fd; NULL while there is
 * none yet. */
int mirror_name(XenStore *s, uint32_t id, const char *uuid, const char *source, int source_fd, const char *name,
                Error *e);
/* Both. */
int mirror_make(XenStore *s, uint32_t id, const char *uuid, const char *source, int source_fd, MirrorTerminal *ret,
                Error *e);
/* The name of xenconsoled's terminal, wherever it is kept, and its identity for xen_console_open(), NULL where none is
 * known; the caller's. -ENOENT. */
int mirror_find_source(XenStore *s, uint32_t id, const char *uuid, char **ret, char **ret_identity);

typedef struct Mirror Mirror;
/* Attach it to the console. Takes the descriptors, also on failure. */
int mirror_start(sd_event *event, Console *console, MirrorTerminal *t, Mirror **ret, Error *e);
Mirror *mirror_free(Mirror *m); /* NULL allowed */
