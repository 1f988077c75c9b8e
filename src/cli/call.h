/* One question to the daemon and its answer. */
#pragma once

#include "cli/cli.h"

#define CALL_USEC      (60 * 1000000ULL)
#define CALL_LONG_USEC (300 * 1000000ULL) /* what starts things: the daemon has its own, shorter deadlines */
#define CALL_FOREVER   UINT64_MAX         /* what waits for somebody: the daemon knows how long that may be */

void message_drop(sd_bus_message **m); /* usable with AUTO() */

/* The daemon's refusal comes back as the Error it was made from: its id and its text. ret_reply may be NULL. */
int call_new(Cli *cli, const char *path, const char *interface, const char *member, sd_bus_message **ret, Error *e);
int call_send(Cli *cli, sd_bus_message *m, uint64_t timeout_usec, sd_bus_message **ret_reply, Error *e);
int call(Cli *cli, const char *path, const char *interface, const char *member, sd_bus_message **ret_reply, Error *e,
         const char *types, ...);

/* A call under way, beside which others can be made. */
typedef struct PendingCall {
        sd_bus_slot *slot;
        sd_bus_message *reply; /* NULL: not answered yet */
} PendingCall;
int pending_begin(Cli *cli, sd_bus_message *m, uint64_t timeout_usec, PendingCall *p, Error *e);
/* 1: it is answered; 0: not yet after so long. */
int pending_wait(Cli *cli, PendingCall *p, uint64_t usec, Error *e);
/* Of one that is answered: its reply, which stays the call's, or the refusal. */
int pending_reply(const PendingCall *p, sd_bus_message **ret_reply, Error *e);
void pending_drop(PendingCall *p); /* usable with AUTO(); forgets the answer */

/* A method without arguments that answers with one descriptor, which is the caller's from now on. */
int call_for_fd(Cli *cli, const char *path, const char *interface, const char *member, int *ret_fd, Error *e);

/* The next descriptor of a message, as the caller's own. */
int message_read_fd(sd_bus_message *m, int *ret_fd, Error *e);

/* What to say of an answer that is not as agreed. */
int call_misunderstood(int r, Error *e);
