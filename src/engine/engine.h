/* The broker itself: each request of a caller, from validation to the recorded result, and the recovery of what a
 * former daemon left.
 *
 * A request flows one way: validate, authorise, charge, record, act (net, guest, driver), record, answer. The intent is
 * in the store before the host is touched. What fails half way is undone, and the answer comes after the undoing. The
 * engine knows nothing of D-Bus. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "core/registry.h"
#include "core/store.h"
#include "driver/driver.h"
#include "net/keeper.h"

typedef enum Scope { SCOPE_SYSTEM, SCOPE_SESSION } Scope;

typedef struct HypervisorStatus {
        const Driver *driver;
        bool known, usable; /* what the latest probe that has ended said */
        bool probing;
        char *reason; /* why not; NULL when usable or not known yet */
} HypervisorStatus;
#define HYPERVISORS_MAX 8

typedef struct Engine {
        /* In, before engine_start(). */
        sd_event *event;
        Scope scope;
        Limits limits;
        DriverSettings driver_settings;
        int runtime_fd;
        NetHost net_host;
        const Driver *const *drivers; /* NULL-terminated, best first */

        /* Out: to be read by the bus. */
        Registry registry;
        HypervisorStatus hypervisors[HYPERVISORS_MAX];
        size_t n_hypervisors;

        /* Private. */
        DriverHost driver_host;
        Store *store;
        int ended_fd; /* the directory of ended domains' logs */
        sd_event_source *expiry_source, *tidy_source;
        uint64_t tidy_usec; /* how long until the next attempt; 0: none is due */
        unsigned n_jobs;
        KeeperStart *spares[SPARES_MAX];
        size_t n_spares;
        sd_event_source *spare_source;
        struct Stream *streams;
        struct Wait *waits;
        struct ProbeWait *probe_waits;
        bool stopping; /* in engine_done(): who asked is gone, and no answer does anything any more */
} Engine;

/* Open the store, and adopt, finish or undo what it tells of; probes the drivers in the background. Returns when every
 * recorded thing has been looked at; what needs waiting (a guest's QMP) goes on in the loop. */
int engine_start(Engine *e, Error *error);
/* Let go of everything; networks and domains go on running. */
void engine_done(Engine *e);

/* Nothing exists and nothing is under way: a session daemon may end. */
bool engine_is_empty(const Engine *e);

/* The answer to a request, once, from the loop or (for requests refused at once) from inside the call's return value
 * alone: a call that returns negative has set its Error and never answers. object is the Network or Domain, or NULL;
 * fds what the request gives, the callee takes. */
typedef struct EngineAnswer {
        Network *network;
        Domain *domain;
        int fds[2];       /* -1: none */
        EndReason reason; /* domain_wait */
        const char *text; /* domain_wait: the end in words, may be NULL */
} EngineAnswer;
typedef void (*EngineDone)(void *userdata, EngineAnswer *answer, const Error *error);

typedef struct NetworkRequest {
        char *const *hosts; /* NULL-terminated, may be empty */
        const char *subnet; /* NULL or "": from the pool */
        Ipv6Mode ipv6_mode;
} NetworkRequest;

int engine_create_network(Engine *e, const Caller *who, const NetworkRequest *request, EngineDone done, void *userdata,
                          Error *error);
int engine_destroy_network(Engine *e, const Caller *who, const char *name, EngineDone done, void *userdata,
                           Error *error);
/* Takes the content of *spec, also on failure. */
int engine_create_domain(Engine *e, const Caller *who, DomainSpec *spec, EngineDone done, void *userdata, Error *error);
/* hypervisor NULL or "": any; one that is not the domain's: ERROR_DOMAIN_NOT_FOUND. */
int engine_destroy_domain(Engine *e, const Caller *who, const char *name, const char *hypervisor, EngineDone done,
                          void *userdata, Error *error);

/* Streams and handles, each charged as a stream while it is open where the daemon can know that. */
int engine_network_connect(Engine *e, const Caller *who, const char *network, const char *host, uint16_t port,
                           EngineDone done, void *userdata, Error *error);
int engine_network_listen(Engine *e, const Caller *who, const char *network, uint16_t port, EngineDone done,
                          void *userdata, Error *error);
int engine_network_namespaces(Engine *e, const Caller *who, const char *network, int *ret_user_fd, int *ret_net_fd,
                              Error *error);
int engine_network_capture(Engine *e, const Caller *who, const char *network, const char *device, EngineDone done,
                           void *userdata, Error *error);

int engine_domain_console(Engine *e, const Caller *who, const char *domain, int *ret_fd, Error *error);
int engine_domain_log(Engine *e, const Caller *who, const char *domain, int *ret_fd, Error *error);
typedef enum DomainAct { ACT_PAUSE, ACT_RESUME, ACT_RESET, ACT_SHUTDOWN, ACT_SCREENSHOT, ACT_VNC, ACT_AGENT } DomainAct;
int engine_domain_act(Engine *e, const Caller *who, const char *domain, DomainAct act, EngineDone done, void *userdata,
                      Error *error);
/* Answers when the domain is gone (reason, text), or with ERROR_TIMEOUT; timeout_usec 0: none. engine_forget_wait() for
 * a client that left. */
int engine_domain_wait(Engine *e, const Caller *who, const char *domain, uint64_t timeout_usec, EngineDone done,
                       void *userdata, Error *error);
void engine_forget_wait(Engine *e, void *userdata);
/* The newest ended domain of that name that who may see (its owner, or root), with its log. */
int engine_ended_domain(Engine *e, const Caller *who, const char *name, const EndedDomain **ret, int *ret_log_fd,
                        Error *error);

/* Probe the hypervisors anew; answers when all probes have ended. */
int engine_probe(Engine *e, EngineDone done, void *userdata, Error *error);

/* May who act on what belongs to owner? ERROR_ACCESS_DENIED naming what. Root may. */
int engine_authorise(const Caller *who, const Owner *owner, const char *what, Error *error);
