/* Who asks, and what each uid holds: every thing a user can hold is charged here before it is made, and the charge is
 * released with the thing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/error.h"
#include "core/limits.h"

/* As the bus or the kernel vouches for it; never from a message. */
typedef struct Caller {
        uid_t uid;
} Caller;

typedef struct Charge {
        uint64_t networks, domains, memory, vcpus, streams, connections;
        uint64_t dying_spares; /* spare keepers that are killed and not gone; she gets no other before they are */
} Charge;

typedef struct Owner {
        uid_t uid;
        Charge held;
        gid_t group;         /* what the user database said (net/owner-group.h); (gid_t)-1: none */
        uint64_t group_usec; /* when that was, monotonic; 0: it has not been asked */
        unsigned pins;       /* who else has a pointer to it */
        TAILQ_ENTRY(Owner) entry;
} Owner;

typedef TAILQ_HEAD(OwnerList, Owner) OwnerList;

typedef struct Owners {
        OwnerList list;
} Owners;

void owners_init(Owners *o);
void owners_done(Owners *o);

/* The entry of that uid, made when there is none. -ENOMEM. It stays until owners_prune() finds it holding nothing, and
 * without a pin. */
int owners_get(Owners *o, uid_t uid, Owner **ret);
void owners_prune(Owners *o);

/* Add charge to what the owner holds, all or nothing. ERROR_QUOTA_EXCEEDED names the resource, the limit and what is
 * held. limits NULL: charge without a check (root, and what is found running after a restart). */
int owner_charge(Owner *owner, const Charge *charge, const Limits *limits, Error *e);
void owner_release(Owner *owner, const Charge *charge);

/* The limits that bind this uid: NULL for root, who has none. */
static inline const Limits *limits_for(const Limits *limits, uid_t uid) {
        return uid == 0 ? NULL : limits;
}
