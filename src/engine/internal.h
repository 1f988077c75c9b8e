/* What the files of the engine share, and nobody else includes. */
#pragma once

#include "engine/engine.h"
#include "guest/files.h"
#include "net/inside.h"

/* ---- engine.c ---- */

/* Run handler once, from the loop. */
int engine_defer(Engine *e, sd_event_handler_t handler, void *userdata, sd_event_source **ret, Error *error);
/* Call done (which may be NULL) with the given object, if there is one, and the error. */
void engine_answer(EngineDone done, void *userdata, Network *n, Domain *d, const Error *error);
/* The network or domain of that name, if who may act on it. */
int engine_find_network(Engine *e, const Caller *who, const char *name, Network **ret, Error *error);
int engine_find_domain(Engine *e, const Caller *who, const char *name, Domain **ret, Error *error);

/* ---- network-jobs.c ---- */

/* A network whose keeper is to die and whose record is to go, as on destroyNetwork; done may be NULL. State DESTROYING,
 * no job. */
int network_begin_removal(Engine *e, Network *n, EngineDone done, void *userdata, Error *error);
/* ProcessEnded of every watched keeper; userdata is the Engine. */
void network_keeper_ended(Process *p, const ChildExit *exit);
void network_jobs_done(Engine *e);

/* ---- spares.c ---- */

/* Have one made, if the owner has none and may use one; whether that works does not matter. */
void spare_want(Engine *e, Owner *owner);
/* Not yet STARTING, perhaps not even PREPARING, and the callee's; NULL: there is none. */
KeeperStart *spare_take(Engine *e, const Owner *owner);
/* After a network of hers has gone: without one she has no spare, either. */
void spare_review(Engine *e, const Owner *owner);
void spares_done(Engine *e);

/* ---- domain-jobs.c ---- */

/* Make the driver's part of a domain, with the domain's directory and console. keep_log: the log that is there goes on.
 */
int domain_make_guest(Engine *e, Domain *d, const Driver *driver, bool keep_log, Error *error);
void domain_drop_guest(Domain *d);
/* End a domain for the reason given: its guest is stopped, its record replaced by what is kept of an ended one. state
 * != CREATING. */
void domain_end(Engine *e, Domain *d, EndReason reason, const char *message);
/* The same for one that is not there any more as the daemon comes back; why goes into the log, too. */
void domain_lose(Engine *e, Domain *d, const char *why);
/* The same for what a former daemon left half made: nothing of it is kept. */
void domain_undo(Engine *e, Domain *d);
/* Refuse what is asked of a domain that is left_alone, and say why it is. */
int domain_check_taken_over(Engine *e, const Domain *d, Error *error);
/* Probing has got further: go on with the creations that wait for it. */
void domain_jobs_probed(Engine *e);
void domain_jobs_done(Engine *e);
extern const GuestEvents engine_guest_events;

/* ---- ended.c ---- */

int ended_from_domain(const Domain *d, EndedDomain **ret);
/* Remember it, and drop those that are too old, or too many of its owner's by now: perhaps itself. */
void ended_add(Engine *e, EndedDomain *d);
/* Drop what a former daemon remembered and this one would not. */
void ended_start(Engine *e);
void ended_log_name(uint64_t id, char buffer[32]);
void waits_domain_gone(Engine *e, const Domain *d);
void waits_done(Engine *e);

/* ---- hypervisors.c ---- */

int hypervisors_start(Engine *e, Error *error);
void hypervisors_done(Engine *e);
/* Before the choice: probe the hypervisor that the spec names once more, if it did not work. What was missing may be
 * there now (/dev/kvm, xenstored). */
void hypervisor_ask_again(Engine *e, const DomainSpec *spec);
/* The driver for spec->hypervisor, or the best usable one when that is empty. 0 with *ret NULL: it depends on a probe
 * that is still under way. */
int hypervisor_choose(Engine *e, const DomainSpec *spec, const Driver **ret, Error *error);
const Driver *hypervisor_driver(Engine *e, const char *name);
/* Why it does not work here, as the last probe says; NULL: it does, or nothing is known. */
const char *hypervisor_reason(Engine *e, const char *name);

/* ---- reconcile.c ---- */

int reconcile(Engine *e, Error *error);

/* ---- tidy.c ---- */

/* Remove what nothing records from the runtime directory; what cannot be removed is tried again later. */
void tidy(Engine *e);
/* Something could not be removed: tidy() by and by. */
void tidy_later(Engine *e);
void tidy_done(Engine *e);

/* ---- streams.c ---- */

/* Captures on a network that is about to go. */
void streams_stop_network(Engine *e, const Network *n);
/* The log of an ended domain, by its file's name, as engine_domain_log(). A symbolic link is not followed. */
int stream_old_log(Engine *e, const Caller *who, const char *name, int *ret_fd, Error *error);
void streams_done(Engine *e);
