/* Creating and destroying a network.
 *
 *   create:  check, charge, record --> keeper starts --> record its process --> released --> ready --> record, answer
 *                                      or a spare one                                              the next one's spare
 *                                            |                 |                    |          |
 *                                            +-- any failure: the keeper is dead by now; unrecord, release, answer
 *
 *   destroy: record --> kill the keeper, unrecord --> it is dead, and the kernel has taken all else --> release, answer
 *
 * What cannot be unrecorded (a full file system) stays in the list as "destroying", without a job and for all to see,
 * also if it never was up, and may be destroyed again. */
#include "engine/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define REMOVAL_USEC (2 * USEC_PER_SEC)

struct NetworkJob {
        Engine *engine;
        Network *network;
        EngineDone done;
        void *userdata;
        KeeperStart *start; /* of a creation */
        Error error;        /* why a creation is being undone */
        bool unrecorded;    /* while its keeper dies */
        sd_event_source *defer, *deadline;
};

static int job_new(Engine *e, Network *n, EngineDone done, void *userdata, Error *error) {
        struct NetworkJob *job = calloc(1, sizeof *job);
        if (!job)
                return error_set_errno(error, ENOMEM, "Failed to begin work on network %s", n->name);

        job->engine = e;
        job->network = n;
        job->done = done;
        job->userdata = userdata;
        n->job = job;
        e->n_jobs++;
        return 0;
}

/* Unhook and free. The answer is given by the caller, after this. */
static void job_free(struct NetworkJob *job) {
        job->start = keeper_start_free(job->start);
        sd_event_source_disable_unref(job->defer);
        sd_event_source_disable_unref(job->deadline);
        error_clear(&job->error);
        job->network->job = NULL;
        job->engine->n_jobs--;
        free(job);
}

/* State DESTROYING. */
static int unrecord(Engine *e, Network *n, Error *error) {
        int r = store_remove_network(e->store, n, error);
        if (r < 0) {
                registry_show_network(&e->registry, n);
                return r;
        }

        registry_remove_network(&e->registry, n);
        return 0;
}

/* The keeper is dead: take the record away and answer. The error of an undone creation, if there is one, wins. */
static void removal_finish(struct NetworkJob *job) {
        Engine *e = job->engine;
        Network *n = job->network;
        Owner *owner = n->owner;
        EngineDone done = job->done;
        void *userdata = job->userdata;
        AUTO(error_clear) Error error = ERROR_INIT;

        error_move(&error, &job->error);
        bool unrecorded = job->unrecorded;
        job_free(job);

        AUTO(error_clear) Error late = ERROR_INIT;
        if (unrecorded)
                registry_remove_network(&e->registry, n);
        else if (unrecord(e, n, &late) < 0) {
                log_write(LOG_ERR, LOG_FIELDS(.network = n->name), "Failed to unrecord network %s: %s", n->name,
                          error_text(&late));
                error_move(&error, &late);
        }
        spare_review(e, owner);
        engine_answer(done, userdata, NULL, NULL, error_is_set(&error) ? &error : NULL);
}

/* Its owner traces the keeper, or something that the keeper as the init of its namespace has to wait for: however long
 * she does, what is killed runs nothing any more. */
static int removal_overdue(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        struct NetworkJob *job = userdata;
        Network *n = job->network;

        log_write(LOG_WARNING, LOG_FIELDS(.network = n->name, .uid = &n->owner->uid),
                  "The keeper of network %s is killed but does not end: no longer waited for", n->name);
        process_drop(&n->process, job->engine->event);
        removal_finish(job);
        return 0;
}

/* network_keeper_ended() goes on, or else removal_overdue(). Nothing takes a SIGKILL back, so the record need not wait
 * for the end, nor need others be kept from knowing: it goes, and is announced to have gone, while the kernel takes the
 * namespaces apart. Where it does not, removal_finish() tries once more. */
static void removal_kill(struct NetworkJob *job) {
        process_kill_group(&job->network->process);
        job->unrecorded = store_remove_network(job->engine->store, job->network, NULL) >= 0;
        if (job->unrecorded)
                registry_withdraw_network(&job->engine->registry, job->network);
        int r = sd_event_add_time_relative(job->engine->event, &job->deadline, CLOCK_MONOTONIC, REMOVAL_USEC, 0,
                                           removal_overdue, job);
        if (r < 0)
                log_write(LOG_WARNING, LOG_FIELDS(.network = job->network->name),
                          "Failed to set a timer for the end of network %s: %s, ignoring", job->network->name,
                          strerror(-r));
}

static int removal_deferred(UNUSED sd_event_source *s, void *userdata) {
        removal_finish(userdata);
        return 0;
}

/* After a restart, and where taking it over has failed, the keeper may live without being watched. */
static int watch_keeper(Engine *e, Network *n, Error *error) {
        int pidfd;

        if (n->process.pidfd >= 0 || n->keeper.pid == 0)
                return 0;
        int r = process_open(&n->keeper, &pidfd);
        if (r >= 0)
                r = process_watch(&n->process, e->event, &n->keeper, pidfd, network_keeper_ended, e);
        if (r < 0 && r != -ESRCH)
                return error_set_errno(error, r, "Failed to find the keeper of network %s", n->name);
        return 0;
}

int network_begin_removal(Engine *e, Network *n, EngineDone done, void *userdata, Error *error) {
        int r = watch_keeper(e, n, error);
        if (r >= 0)
                r = job_new(e, n, done, userdata, error);
        if (r < 0)
                return r;

        if (n->process.pidfd < 0) {
                r = engine_defer(e, removal_deferred, n->job, &n->job->defer, error);
                if (r < 0)
                        job_free(n->job);
                return r;
        }
        removal_kill(n->job);
        return 0;
}

/* Undo a creation whose keeper may still live. */
static void creation_undo(struct NetworkJob *job, const Error *why) {
        Network *n = job->network;

        error_copy(&job->error, why);
        registry_set_network_state(&job->engine->registry, n, NETWORK_DESTROYING);
        if (n->process.pidfd >= 0)
                removal_kill(job);
        else
                removal_finish(job);
}

void network_keeper_ended(Process *p, const ChildExit *exit) {
        Network *n = container_of(p, Network, process);
        Engine *e = p->userdata;
        char how[CHILD_EXIT_TEXT_MAX];

        if (n->job) {
                removal_finish(n->job);
                return;
        }
        if (n->state != NETWORK_UP)
                return;

        free(n->reason);
        n->reason = string_printf("its keeper %s", child_exit_format(exit, how));
        streams_stop_network(e, n);
        registry_set_network_state(&e->registry, n, NETWORK_FAILED);
        log_write(LOG_WARNING, LOG_FIELDS(.network = n->name), "Network %s has failed: %s", n->name,
                  string_or(n->reason, "its keeper ended"));

        AUTO(error_clear) Error error = ERROR_INIT;
        if (store_update_network(e->store, n, &error) < 0)
                log_error("Failed to record that network %s has failed: %s, ignoring", n->name, error_text(&error));
}

/* ---- create ---- */

static int choose_subnet(Engine *e, const NetworkRequest *request, size_t n_hosts, Subnet *ret, Error *error) {
        if (!request->subnet || !*request->subnet)
                return registry_free_subnet(&e->registry, &e->limits.pool, subnet_prefix_for(n_hosts), ret, error);

        if (subnet_parse(request->subnet, ret) < 0) {
                AUTO(string_drop) char *shown = string_escape(request->subnet, 64);
                return error_set(error, ERROR_INVALID_INPUT,
                                 "\"%s\" is not a subnet such as 10.1.2.0/24 (no bits may be set behind the prefix)",
                                 string_or(shown, ""));
        }
        return subnet_check_asked(ret, n_hosts, error);
}

/* A random unique local prefix (RFC 4193): fd, 40 random bits, and here 16 more where others count subnets. */
static int choose_prefix6(struct in6_addr *ret) {
        struct in6_addr a = { 0 };

        a.s6_addr[0] = 0xfd;
        int r = random_bytes(a.s6_addr + 1, 7);
        if (r < 0)
                return r;

        *ret = a;
        return 0;
}

static int network_from_request(Engine *e, Owner *owner, const NetworkRequest *request, Network **ret, Error *error) {
        char name[OBJECT_NAME_MAX];
        Subnet subnet;
        Network *n = NULL;

        int r = choose_subnet(e, request, string_list_length(request->hosts), &subnet, error);
        if (r < 0)
                return r;

        registry_free_network_name(&e->registry, name);
        r = network_new(name, owner, &n);
        if (r < 0)
                return error_set_errno(error, r, "Failed to name the network");

        n->subnet = subnet;
        n->ipv6_mode = request->ipv6_mode;
        n->created_usec = now_realtime_usec();
        if (n->ipv6_mode != IPV6_NONE)
                r = choose_prefix6(&n->prefix6);
        if (r >= 0)
                r = network_set_hosts(n, request->hosts);
        if (r < 0) {
                network_free(n);
                return error_set_errno(error, r, "Failed to give the hosts their addresses");
        }
        *ret = n;
        return 0;
}

static int keeper_record(KeeperStart *k, Error *error) {
        struct NetworkJob *job = k->userdata;

        return store_update_network(job->engine->store, job->network, error);
}

static void keeper_done(KeeperStart *k, const Error *failure) {
        struct NetworkJob *job = k->userdata;
        Engine *e = job->engine;
        Network *n = job->network;
        AUTO(error_clear) Error error = ERROR_INIT;

        if (failure) {
                creation_undo(job, failure);
                return;
        }
        int r = keeper_watch(k, network_keeper_ended, e);
        if (r < 0) {
                error_set_errno(&error, r, "Failed to watch the keeper of network %s", n->name);
                creation_undo(job, &error);
                return;
        }

        /* Recorded as up before it is announced; the setter only moves the state on. */
        n->state = NETWORK_UP;
        r = store_update_network(e->store, n, &error);
        n->state = NETWORK_CREATING;
        if (r < 0) {
                creation_undo(job, &error);
                return;
        }
        registry_set_network_state(&e->registry, n, NETWORK_UP);
        log_write(LOG_INFO, LOG_FIELDS(.network = n->name, .uid = &n->owner->uid), "Network %s is up", n->name);

        EngineDone done = job->done;
        void *userdata = job->userdata;
        Owner *owner = n->owner;
        job_free(job);
        engine_answer(done, userdata, n, NULL, NULL);
        spare_want(e, owner);
}

static int creation_begin(struct NetworkJob *job, Error *error) {
        Engine *e = job->engine;
        Network *n = job->network;

        job->start = spare_take(e, n->owner);
        if (!job->start)
                job->start = keeper_start_new(&e->net_host, n->owner);
        if (!job->start)
                return error_set_errno(error, ENOMEM, "Failed to begin work on network %s", n->name);
        job->start->network = n;
        job->start->deadline_usec = e->limits.start_usec;
        job->start->record = keeper_record;
        job->start->done = keeper_done;
        job->start->userdata = job;
        return keeper_start(job->start, error);
}

/* A creation that failed before the request was taken: the call's own return value is the answer. */
static void creation_withdraw(Network *n) {
        Engine *e = n->job->engine;
        AUTO(error_clear) Error error = ERROR_INIT;

        job_free(n->job);
        registry_set_network_state(&e->registry, n, NETWORK_DESTROYING);
        if (unrecord(e, n, &error) < 0)
                log_error("Failed to unrecord network %s: %s, ignoring", n->name, error_text(&error));
}

int engine_create_network(Engine *e, const Caller *who, const NetworkRequest *request, EngineDone done, void *userdata,
                          Error *error) {
        const Charge charge = { .networks = 1 };
        Network *n = NULL;
        Owner *owner;

        int r = host_names_check(request->hosts, error);
        if (r < 0)
                return r;
        r = owners_get(&e->registry.owners, who->uid, &owner);
        if (r < 0)
                return error_set_errno(error, r, "Failed to look up what uid %u holds", (unsigned)who->uid);
        r = owner_charge(owner, &charge, limits_for(&e->limits, who->uid), error);
        if (r < 0)
                return r;

        r = network_from_request(e, owner, request, &n, error);
        if (r >= 0) {
                r = registry_add_network(&e->registry, n); /* the charge goes with it from here */
                if (r < 0) {
                        network_free(n);
                        error_set_errno(error, r, "Failed to keep the network");
                }
        }
        if (r < 0) {
                owner_release(owner, &charge);
                return r;
        }
        r = job_new(e, n, done, userdata, error);
        if (r >= 0)
                r = store_add_network(e->store, n, error);
        if (r < 0) {
                if (n->job)
                        job_free(n->job);
                registry_remove_network(&e->registry, n);
                return r;
        }
        r = creation_begin(n->job, error);
        if (r < 0)
                creation_withdraw(n);
        return r;
}

/* ---- destroy ---- */

/* The setter, later, only moves the state on. Destroying goes on without the record: a dead keeper tells the next
 * daemon as much. */
static void record_destroying(Engine *e, Network *n) {
        AUTO(error_clear) Error error = ERROR_INIT;
        NetworkState was = n->state;

        n->state = NETWORK_DESTROYING;
        if (store_update_network(e->store, n, &error) < 0)
                log_error("Failed to record that network %s is being destroyed: %s, ignoring", n->name,
                          error_text(&error));
        n->state = was;
}

int engine_destroy_network(Engine *e, const Caller *who, const char *name, EngineDone done, void *userdata,
                           Error *error) {
        Network *n;

        int r = engine_find_network(e, who, name, &n, error);
        if (r < 0)
                return r;
        if (n->job)
                return error_set(error, ERROR_BUSY, "Network %s is being %s", n->name,
                                 n->state == NETWORK_CREATING ? "created" : "destroyed");
        if (n->n_domains > 0) {
                AUTO(string_drop) char *domains = registry_domains_on(&e->registry, n);
                return error_set(error, ERROR_NETWORK_IN_USE, "Network %s is in use by %s %s: destroy that first",
                                 n->name, n->n_domains > 1 ? "domains" : "domain", string_or(domains, "?"));
        }

        streams_stop_network(e, n);
        if (n->state == NETWORK_DESTROYING)
                return network_begin_removal(e, n, done, userdata, error);

        record_destroying(e, n);
        r = network_begin_removal(e, n, done, userdata, error);
        registry_set_network_state(&e->registry, n, NETWORK_DESTROYING); /* announced if it can still be seen */
        return r;
}

void network_jobs_done(Engine *e) {
        Network *n;

        TAILQ_FOREACH (n, &e->registry.networks, entry) {
                if (n->job)
                        job_free(n->job);
        }
}
