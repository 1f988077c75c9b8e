/* What the files of the bus share, and nobody else includes. */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include "base/log.h"
#include "bus/bus.h"

#define ROOT_PATH         "/com/googlecode/debmarshal"
#define PRIVOPS_PATH      ROOT_PATH "/Privops"
#define NETWORK_PREFIX    ROOT_PATH "/network"
#define DOMAIN_PREFIX     ROOT_PATH "/domain"
#define PRIVOPS_INTERFACE BUS_NAME ".Privops"
#define MANAGER_INTERFACE BUS_NAME ".Manager"
#define NETWORK_INTERFACE BUS_NAME ".Network"
#define DOMAIN_INTERFACE  BUS_NAME ".Domain"
#define ERROR_PREFIX      BUS_NAME ".Error."

/* What one uid may have under way at once. A wait for a domain is under way until it ends. */
#define REQUESTS_PER_UID_MAX 1024

typedef struct Face Face;
typedef struct Request Request;
typedef struct Sender Sender;
typedef TAILQ_HEAD(FaceList, Face) FaceList;
typedef TAILQ_HEAD(RequestList, Request) RequestList;
typedef TAILQ_HEAD(SenderList, Sender) SenderList;

struct Bus {
        sd_event *event;
        Engine *engine;
        FaceList faces;
        RequestList requests;
        size_t n_peers;
        uint64_t n_peers_ever;
        struct rlimit descriptors; /* what it is when no_descriptors, see descriptors_forbid() */
        bool no_descriptors;

        /* system-bus.c */
        Face *system;
        sd_event_source *retry;
        bool system_trouble_told;
        BusSettled settled; /* NULL: told already */
        void *settled_data;

        /* heap.c */
        unsigned n_gone; /* objects since the heap was looked through */
        sd_event_source *lull;
};

/* One connection. */
struct Face {
        Bus *bus;
        sd_bus *connection;
        bool is_system; /* callers are who the bus says; else all are uid */
        uid_t uid;
        Owner *owner; /* charged with the connection; NULL for the system bus */
        sd_event_source *io, *timer;
        uint64_t auth_deadline;           /* monotonic */
        size_t mapped_before, unfinished; /* see peer_step() */
        bool is_measured, has_message;    /* of this step */
        bool at_beginning;                /* of a message, for all that is known */
        uint64_t n_messages;
        bool doomed; /* to be dropped in the next turn of the loop */

        /* senders.c: of the system bus */
        SenderList senders;
        size_t n_senders, n_waits;
        sd_bus_slot *gone_match;
        TAILQ_ENTRY(Face) entry;
};

/* ---- bus.c ---- */

int face_new(Bus *b, Face **ret);
/* Requests of it go on without an answer, except for waits, which are forgotten. */
void face_free(Face *f);
/* Is it one that signals and answers may be sent to? */
bool face_is_ready(const Face *f);
/* To be called after something was sent: a peer that does not read is given up. */
void face_check_queue(Face *f);
/* The connection on which the handler that runs now was called. */
Face *face_current(sd_bus *connection);
/* Everything that can be called. */
int face_add_objects(Face *f);

/* ---- peer-bus.c ---- */

/* The few calls by which a client that takes every address for a message bus begins. */
int peer_bus_add(Face *f);

/* ---- request.c ---- */

/* Fills in the results of a reply. The answer is the engine's or the handler's own. */
typedef int (*RequestAppend)(Request *q, sd_bus_message *reply, const EngineAnswer *answer);

/* A method call being worked on: it knows who asked and how to answer, and leaves the audit entry. */
struct Request {
        Bus *bus;
        Face *face;           /* NULL: the client's connection has gone, nobody waits for the answer */
        sd_bus_message *call; /* to be answered: not the message that came, see request.c; NULL without face */
        Caller caller;
        const char *operation;
        RequestAppend append;   /* NULL: no results */
        char *network, *domain; /* for the audit, escaped; NULL: none */
        bool quiet;             /* changes nothing and gives nothing away: no audit entry */
        bool is_large;          /* memory is to be given back after it */
        bool is_wait;
        bool is_watched; /* see sender_watch() */
        sd_bus_slot *owner_question;
        uint64_t started_usec;
        const EndedDomain *ended; /* Manager.GetEndedDomain: only between the call and its answer */
        Error error;              /* for the handler to use */
        TAILQ_ENTRY(Request) entry;
};

/* Begin. NULL: refused and answered, or failed; the handler returns *ret_result then. operation is static. */
Request *request_new(sd_bus_message *m, const char *operation, RequestAppend append, int *ret_result);
void request_set_network(Request *q, const char *name);
void request_set_domain(Request *q, const char *name);
/* The end of a handler. Negative r: answer with q->error, now. Else request_answered() has been or will be called.
 * Returns what the handler is to return. */
int request_go(Request *q, int r);
/* The end of a handler that has its result already: r as above, else the answer is sent. Descriptors are closed. */
int request_finish(Request *q, int r, EngineAnswer *answer);
/* EngineDone: userdata is the Request, which is freed. */
void request_answered(void *userdata, EngineAnswer *answer, const Error *error);
/* The client of a wait has gone: forget it. */
void request_forget(Request *q);
/* No answer will come: free without a word. */
void request_free(Request *q);

/* Results that several methods have: one or two descriptors. */
int append_fd(Request *q, sd_bus_message *reply, const EngineAnswer *answer);
int append_two_fds(Request *q, sd_bus_message *reply, const EngineAnswer *answer);

/* ---- reply.c ---- */

/* Who sent it, by the kernel or by the bus. ERROR_ACCESS_DENIED when that is not known. */
int caller_of(Face *f, sd_bus_message *m, Caller *ret, Error *e);
int reply_error(sd_bus_message *m, const Error *error);
/* What was being read when r came: a body may lie about its signature, since the bus checks neither. */
int error_set_message(Error *e, int r, const char *what);

/* Read an "as" into an array of pointers into the message, ended by NULL: the caller frees the array alone. At most max
 * strings, more are ERROR_INVALID_INPUT naming what they are. */
int read_strings(sd_bus_message *m, const char *what, size_t max, char ***ret, Error *e);
void strings_drop(char ***strings); /* usable with AUTO() */
/* The variant that comes next. The strings of *ret point into the message; free the array ret->strings by
 * extra_value_drop(). */
int read_extra(sd_bus_message *m, ExtraValue *ret, Error *e);
void extra_value_drop(ExtraValue *v); /* usable with AUTO() */
/* Read an "a{sv}", giving each key to set(). At most EXTRA_KEYS_MAX, more are ERROR_INVALID_INPUT naming what they are.
 */
typedef int (*SetExtra)(void *target, const char *key, const ExtraValue *value, Error *e);
int read_extras(sd_bus_message *m, const char *what, SetExtra set, void *target, Error *e);
/* Text of ours or of others as D-Bus allows it: what is not UTF-8 is escaped. The result may be text itself; *ret_copy
 * is to be freed. */
const char *valid_text(const char *text, char **ret_copy);

/* ---- the objects ---- */

/* The flag of every method: who may do what is judged by the engine, not by sd-bus, which asks for capabilities. */
#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED

extern const sd_bus_vtable privops_vtable[];
extern const sd_bus_vtable manager_vtable[];
extern const sd_bus_vtable network_vtable[];
extern const sd_bus_vtable domain_vtable[];

/* objects.c: find and list what the registry has announced. userdata of the slots is the Face. */
int network_find(sd_bus *c, const char *path, const char *interface, void *userdata, void **ret, sd_bus_error *e);
int network_list(sd_bus *c, const char *prefix, void *userdata, char ***ret, sd_bus_error *e);
int domain_find(sd_bus *c, const char *path, const char *interface, void *userdata, void **ret, sd_bus_error *e);
int domain_list(sd_bus *c, const char *prefix, void *userdata, char ***ret, sd_bus_error *e);
/* The path of an object by its name; NULL without memory. */
char *network_path(const char *name);
char *domain_path(const char *name);

/* privops.c: shared with Manager.CreateNetwork. */
int hosts_read(Request *q, sd_bus_message *m, char ***ret);

/* ---- listener.c ---- */

extern const RegistryListener bus_listener;

/* ---- senders.c ---- */

/* From here on every call that comes is of a sender whose uid is known. */
int senders_watch(Face *f);
/* -ENXIO: not known. */
int sender_uid(Face *f, const char *name, uid_t *ret);
void senders_done(Face *f);
/* Forget this wait when its client has gone. */
int sender_watch(Request *q);
void sender_unwatch(Request *q);

/* ---- heap.c ---- */

/* To be called once for each object that goes: when many have, memory is given back. */
void heap_object_gone(Bus *b);
void heap_done(Bus *b);

/* ---- system-bus.c ---- */

void system_bus_done(Bus *b);
