/* One domain as the broker knows it.
 *
 *   CREATING --> RUNNING <--> PAUSED
 *      |            |            |
 *      +------------+------------+--> DESTROYING --> (removed; its log and end are kept for a while) */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/owner.h"
#include "core/process.h"
#include "core/spec.h"

typedef enum DomainState {
        DOMAIN_CREATING,
        DOMAIN_RUNNING,
        DOMAIN_PAUSED,
        DOMAIN_DESTROYING,
        DOMAIN_STATE_COUNT
} DomainState;
const char *domain_state_name(DomainState s);
DomainState domain_state_from_name(const char *name);

/* Why a domain is no more. */
typedef enum EndReason {
        END_NONE,
        END_DESTROYED, /* somebody asked for it */
        END_POWEROFF,  /* the guest powered itself off */
        END_REBOOT,    /* the guest rebooted, and on_reboot is destroy */
        END_CRASH,     /* the guest panicked or the emulator died */
        END_FAILED,    /* it never started */
        END_LOST,      /* it was gone when the daemon came back */
        END_REASON_COUNT,
} EndReason;
const char *end_reason_name(EndReason r); /* "destroyed", "poweroff", "reboot", "crash", "failed", "lost" */
EndReason end_reason_from_name(const char *name);

#define DOMAIN_UUID_SIZE     16
#define DOMAIN_UUID_TEXT_MAX 37

typedef struct Domain {
        char *name;
        uint64_t id; /* unique for the life of the state directory; names are used again, ids are not */
        Owner *owner;
        DomainState state;
        DomainSpec spec;
        EndReason end_reason; /* set when it goes to DESTROYING */
        char *end_message;    /* for people; may be NULL */
        uint64_t created_usec;
        ProcessId process;              /* the emulator; pid 0 until it is recorded */
        uint32_t jail_uid;              /* system scope; 0: none */
        uint8_t uuid[DOMAIN_UUID_SIZE]; /* random; known before anything runs, and to Xen: its guests are found by it */

        /* Not stored. */
        struct Guest *guest;   /* the driver's part; NULL before start and after stop */
        struct DomainJob *job; /* the engine's operation under way */
        bool announced;        /* the registry's: its listener knows of it */
        bool left_alone;       /* this daemon could not take it over, and it may run: nothing may be done about it */
        TAILQ_ENTRY(Domain) entry;
        LIST_ENTRY(Domain) same_bucket;
} Domain;

typedef TAILQ_HEAD(DomainList, Domain) DomainList;

/* Takes the content of *spec. */
int domain_new(const char *name, uint64_t id, Owner *owner, DomainSpec *spec, Domain **ret);
Domain *domain_free(Domain *d);

/* As people and Xen's tools write it; returns buffer. */
const char *domain_uuid_format(const uint8_t uuid[DOMAIN_UUID_SIZE], char buffer[DOMAIN_UUID_TEXT_MAX]);

/* What it is charged with: its stub domain's memory, too. */
Charge domain_charge(const Domain *d);
/* A process that worked for it and stays behind is charged to its owner as a domain. */
Lingering domain_lingering(const Domain *d);

/* An ended domain that its owner may still ask about. The log is the file ended/ID.log in the state directory. */
typedef struct EndedDomain {
        uint64_t id;
        char *name;
        uid_t uid;
        EndReason reason;
        char *message;
        uint64_t ended_usec; /* realtime */
        TAILQ_ENTRY(EndedDomain) entry;
} EndedDomain;
typedef TAILQ_HEAD(EndedList, EndedDomain) EndedList;
EndedDomain *ended_domain_free(EndedDomain *d);
