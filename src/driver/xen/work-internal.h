/* What the workers of this driver share: work.c, work-stub.c. */
#pragma once

#include "driver/xen/hypervisor.h"
#include "driver/xen/work.h"

typedef struct Tools {
        Xen xen;
        XenStore *store;
} Tools;
int tools_open(Tools *t, Error *e);
void tools_close(Tools *t); /* for AUTO() */

int work_add_nics(Tools *t, const XenIdentity *who, Error *e);
/* Of all its interfaces, into their networks. */
int work_move_links(const XenIdentity *who, const int *networks, uint64_t deadline_usec, Error *e);
/* To xenstored; where its rings are goes into the store before. */
int work_introduce(Tools *t, const XenIdentity *who, const XenRings *rings, Error *e);
/* xenconsoled's terminal, as soon as there is one; its name, too, unless NULL. Both are the caller's. */
int work_open_terminal(Tools *t, uint32_t id, uint64_t deadline_usec, int *ret_fd, char **ret_name, Error *e);
