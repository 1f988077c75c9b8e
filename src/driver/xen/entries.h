/* A domain's entries in Xen's store: those that its guest needs, and those by which Xen's own tools know it. */
#pragma once

#include "core/domain.h"
#include "driver/xen/store.h"

typedef struct XenIdentity {
        uint32_t id; /* Xen's number of it, another after each boot */
        const Domain *domain;
        MachineType type;
        char uuid[DOMAIN_UUID_TEXT_MAX];
} XenIdentity;

/* The pages and event channels that guest and dom0 share. */
typedef struct XenRings {
        uint32_t store_port, console_port;
        unsigned long store_frame, console_frame;
} XenRings;

/* Bytes of a guest's memory that are its emulated screen's. */
uint64_t entries_video_memory(const XenIdentity *who);

/* All that there must be before a guest is built, or its device model is started. */
int entries_add(XenStore *s, const XenIdentity *who, Error *e);
/* Where its rings are. To be followed by the introduction. */
int entries_add_rings(XenStore *s, const XenIdentity *who, const XenRings *rings, Error *e);
/* What there is of a domain in the store: all of it, or only dom0's side of its devices, of which the tools of others
 * know nothing when they destroy a domain of ours. That side says whose it is, since a number alone may be another's by
 * now. */
typedef enum XenRemains { XEN_REMAINS_DOMAIN, XEN_REMAINS_DEVICES } XenRemains;
#define XEN_OWNER_KEY "debmarshal-uuid"
/* The number under which a uuid has entries, though Xen may not know the domain any more. -ENOENT. */
int entries_find(XenStore *s, const char *uuid, uint32_t *ret_id, XenRemains *ret_remains);
/* Remove it, with what is kept under the uuid. Nothing there is fine. */
int entries_remove(XenStore *s, uint32_t id, const char *uuid, XenRemains remains, Error *e);
/* Once the kernel has nothing of it any more: what is kept under the uuid alone, and what the kernel's drivers have
 * complained about its devices (0: it is not known which) until then, which is of no use to whoever has the number now.
 */
int entries_remove_last(XenStore *s, uint32_t id, const char *uuid, Error *e);

/* The guest's own directory. Returns buffer. */
#define XEN_PATH_MAX 128
const char *entries_path(uint32_t id, char buffer[XEN_PATH_MAX]);
