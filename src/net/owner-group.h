/* The own group of a network's owner, which is group 0 in the network's user namespace. It is the user database's to
 * say, since nobody vouches for a group on a bus. A worker asks it, which may take long, and the answer is kept with
 * the owner for a while. A user or a group that the database does not know, or does not tell in time, is left out: the
 * network works without. */
#pragma once

#include "core/owner.h"
#include "core/worker.h"

typedef struct OwnerGroup OwnerGroup;
struct OwnerGroup {
        /* In */
        Owner *owner; /* its group is filled in; it must live as long */
        uint64_t deadline_usec;
        /* From the loop, once; may free the OwnerGroup. */
        void (*done)(OwnerGroup *g);

        /* Private. */
        Worker worker;
};

/* Has it been asked for not long ago? */
bool owner_group_is_known(const Owner *owner);

void owner_group_init(OwnerGroup *g); /* Undefined -> Idle */
/* Idle -> Active. On failure stays Idle, and no callback comes. */
int owner_group_ask(OwnerGroup *g, sd_event *event, Error *e);
void owner_group_stop(OwnerGroup *g); /* any state -> Idle; no callback comes */
