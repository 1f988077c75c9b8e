/* The capabilities of the calling process and of what it executes. A mask has bit N (1ULL << CAP_...) for capability N.
 * All return 0 or negative errno. */
#pragma once

#include <stdint.h>

/* Of the bounding set leave only these. -EPERM without CAP_SETPCAP, if there is any to be dropped. */
int capabilities_bound(uint64_t kept);
/* Have these and no others, the ambient ones included, until an exec. */
int capabilities_set(uint64_t kept);
/* Gain no more by any exec (no_new_privs). */
int capabilities_freeze(void);
/* All three: lose every capability but those, for what is executed too, and for good. */
int capabilities_keep(uint64_t kept);
