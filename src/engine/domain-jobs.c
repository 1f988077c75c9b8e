/* Creating, ending and destroying a domain.
 *
 *   create: check, charge, record --> (probes known) --> files opened as the caller --> a tap on each network
 *               --> driver starts --> record its process --> released --> confirmed --> record, answer
 *           a failure at any step: what is there is stopped, the directory removed, the record and the charge taken
 *           back, then the error answered
 *   end:    asked for (destroyDomain), or the guest's own (poweroff, reboot, crash) when its action is destroy:
 *           record --> driver stops --> log kept --> record replaced by the ended domain's --> answer, also to
 *           whoever waits
 *
 * The callbacks stand in the order in which they happen. */
#include "engine/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define CONSOLE_LOG "console.log"

struct DomainJob {
        Engine *engine;
        Domain *domain;
        bool creating;
        EngineDone done; /* NULL: nobody asked */
        void *userdata;
        EngineDone destroyed; /* who asked that a creation be given up; NULL: nobody */
        void *destroyed_userdata;
        bool waits_for_probe;
        FilesJob files;
        InsideJob inside;
        Error error; /* why a creation is being undone */
        sd_event_source *defer;
};

#define log_domain(level, d, ...)                                                                                      \
        log_write(level, LOG_FIELDS(.domain = (d)->name, .uid = &(d)->owner->uid), __VA_ARGS__)

static int job_new(Engine *e, Domain *d, bool creating, EngineDone done, void *userdata, Error *error) {
        struct DomainJob *job = calloc(1, sizeof *job);
        if (!job)
                return error_set_errno(error, ENOMEM, "Failed to begin work on domain %s", d->name);

        job->engine = e;
        job->domain = d;
        job->creating = creating;
        job->done = done;
        job->userdata = userdata;
        files_init(&job->files);
        inside_init(&job->inside);
        d->job = job;
        e->n_jobs++;
        return 0;
}

static void job_free(struct DomainJob *job) {
        files_stop(&job->files);
        inside_stop(&job->inside);
        sd_event_source_disable_unref(job->defer);
        error_clear(&job->error);
        job->domain->job = NULL;
        job->engine->n_jobs--;
        free(job);
}

/* ---- the guest and its directory ---- */

static int open_directory(Engine *e, const Domain *d, bool keep_log, int *ret_fd, Error *error) {
        int domains = e->driver_host.domains_fd;
        int r = 0;

        if (!keep_log)
                r = remove_tree(domains, d->name);
        if (r >= 0 && mkdirat(domains, d->name, 0700) < 0 && errno != EEXIST)
                r = -errno;
        if (r < 0)
                return error_set_errno(error, r, "Failed to make the directory of domain %s", d->name);

        int fd = openat(domains, d->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_set_errno(error, errno, "Failed to open the directory of domain %s", d->name);
        *ret_fd = fd;
        return 0;
}

static int open_console(Engine *e, const Domain *d, int dir_fd, Console **ret, Error *error) {
        int fd = openat(dir_fd, CONSOLE_LOG, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_set_errno(error, errno, "Failed to create the console log of domain %s", d->name);

        int r = console_new(e->event, fd, e->limits.log_bytes, ret);
        if (r < 0)
                return error_set_errno(error, r, "Failed to make the console of domain %s", d->name);
        return 0;
}

int domain_make_guest(Engine *e, Domain *d, const Driver *driver, bool keep_log, Error *error) {
        AUTO(fd_drop) int dir_fd = -1;
        Console *console;
        Guest *g;

        int r = open_directory(e, d, keep_log, &dir_fd, error);
        if (r < 0)
                return r;
        r = open_console(e, d, dir_fd, &console, error);
        if (r < 0)
                return r;
        r = driver->new (&g);
        if (r < 0) {
                console_free(console);
                return error_set_errno(error, r, "Failed to prepare domain %s", d->name);
        }
        g->driver = driver;
        g->host = &e->driver_host;
        g->domain = d;
        g->events = &engine_guest_events;
        g->userdata = e;
        g->dir_fd = fd_take(&dir_fd);
        g->console = console;
        guest_files_init(&g->files);
        g->n_taps = 0;
        d->guest = g;
        return 0;
}

void domain_drop_guest(Domain *d) {
        Guest *g = TAKE(d->guest);
        if (!g)
                return;

        Console *console = g->console;
        int dir_fd = g->dir_fd;
        g->driver->free(g);
        console_free(console);
        fd_drop(&dir_fd);
}

/* ---- the end of a domain, and of a creation that failed ---- */

/* A second name for the log, so that whenever the daemon dies one of the two is recorded; where there is no room for
 * one, its only name. */
static void keep_log(Engine *e, const Domain *d) {
        int domains = e->driver_host.domains_fd;
        char path[OBJECT_NAME_MAX + sizeof "/" CONSOLE_LOG], log_name[32];

        snprintf(path, sizeof path, "%s/" CONSOLE_LOG, d->name);
        ended_log_name(d->id, log_name);
        /* EEXIST: the record could not be replaced the last time. */
        if (linkat(domains, path, e->ended_fd, log_name, 0) >= 0 || errno == EEXIST || errno == ENOENT)
                return;
        if (renameat(domains, path, e->ended_fd, log_name) < 0)
                log_domain(LOG_WARNING, d, "Failed to keep the console log of domain %s: %s, ignoring", d->name,
                           strerror(errno));
}

/* The record goes, replaced by what is kept of an ended domain (or by nothing when ended is NULL); then the rest. On
 * failure the domain, whose state is DESTROYING, stays without a job: it is shown, and may be destroyed again. */
static int unrecord(Engine *e, Domain *d, EndedDomain *ended, Error *error) {
        if (ended)
                keep_log(e, d);
        int r = store_remove_domain(e->store, d, ended, error);
        if (r < 0) {
                registry_show_domain(&e->registry, d);
                return r;
        }

        r = remove_tree(e->driver_host.domains_fd, d->name);
        if (r < 0) {
                log_domain(LOG_ERR, d, "Failed to remove the directory of domain %s: %s, will try again", d->name,
                           strerror(-r));
                tidy_later(e);
        }
        if (ended)
                ended_add(e, ended);
        waits_domain_gone(e, d);
        registry_remove_domain(&e->registry, d);
        return 0;
}

/* Nothing of the guest is left: finish, and answer. */
static void job_finish_gone(struct DomainJob *job) {
        Engine *e = job->engine;
        Domain *d = job->domain;
        EngineDone done = job->done;
        void *userdata = job->userdata;
        EngineDone destroyed = job->destroyed;
        void *destroyed_userdata = job->destroyed_userdata;
        bool keep = !job->creating;
        AUTO(error_clear) Error error = ERROR_INIT;
        AUTO(error_clear) Error late = ERROR_INIT;
        EndedDomain *ended = NULL;

        error_move(&error, &job->error);
        job_free(job);
        domain_drop_guest(d);

        if (keep && ended_from_domain(d, &ended) < 0)
                log_domain(LOG_ERR, d, "No memory to keep the end of domain %s, ignoring", d->name);
        if (unrecord(e, d, ended, &late) < 0) {
                log_domain(LOG_ERR, d, "Failed to unrecord domain %s: %s", d->name, error_text(&late));
                ended_domain_free(ended);
                error_set(&error, late.id, "%s", error_text(&late));
        }
        engine_answer(destroyed, destroyed_userdata, NULL, NULL, error_is_set(&late) ? &late : NULL);
        engine_answer(done, userdata, NULL, NULL, error_is_set(&error) ? &error : NULL);
}

static int finish_deferred(UNUSED sd_event_source *s, void *userdata) {
        job_finish_gone(userdata);
        return 0;
}

static void guest_stopped(Guest *g) {
        struct DomainJob *job = g->domain->job;

        if (job)
                job_finish_gone(job);
}

/* Undo a creation. guest_lives: the driver has something to stop. */
static void creation_undo(struct DomainJob *job, const Error *why, bool guest_lives) {
        Domain *d = job->domain;

        error_copy(&job->error, why);
        d->end_reason = END_FAILED; /* for those who wait, if it had been shown */
        (void)string_replace(&d->end_message, error_text(why));
        registry_set_domain_state(&job->engine->registry, d, DOMAIN_DESTROYING);
        if (guest_lives)
                d->guest->driver->stop(d->guest); /* guest_stopped() goes on */
        else
                job_finish_gone(job);
}

static void record_ending(Engine *e, Domain *d, EndReason reason, const char *message) {
        AUTO(error_clear) Error error = ERROR_INIT;

        if (d->state == DOMAIN_DESTROYING)
                return;
        d->end_reason = reason;
        if (string_replace(&d->end_message, message) < 0)
                log_domain(LOG_WARNING, d, "No memory to keep the last words of domain %s, ignoring", d->name);
        registry_set_domain_state(&e->registry, d, DOMAIN_DESTROYING);
        if (store_update_domain(e->store, d, &error) < 0)
                log_domain(LOG_ERR, d, "Failed to record that domain %s is ending: %s, ignoring", d->name,
                           error_text(&error));
}

static int begin_end(Engine *e, Domain *d, EndReason reason, const char *message, EngineDone done, void *userdata,
                     Error *error) {
        int r = job_new(e, d, false, done, userdata, error);
        if (r < 0)
                return r;

        if (!d->guest) {
                r = engine_defer(e, finish_deferred, d->job, &d->job->defer, error);
                if (r < 0) {
                        job_free(d->job);
                        return r;
                }
        }
        record_ending(e, d, reason, message);
        if (d->guest)
                d->guest->driver->stop(d->guest);
        return 0;
}

void domain_end(Engine *e, Domain *d, EndReason reason, const char *message) {
        AUTO(error_clear) Error error = ERROR_INIT;

        if (d->job)
                return;
        if (begin_end(e, d, reason, message, NULL, NULL, &error) < 0)
                log_domain(LOG_ERR, d, "Failed to end domain %s: %s", d->name, error_text(&error));
}

void domain_lose(Engine *e, Domain *d, const char *why) {
        log_domain(LOG_WARNING, d, "Domain %s is lost: %s", d->name, why);
        domain_end(e, d, END_LOST, why);
}

void domain_undo(Engine *e, Domain *d) {
        AUTO(error_clear) Error error = ERROR_INIT;

        if (d->state != DOMAIN_DESTROYING)
                registry_set_domain_state(&e->registry, d, DOMAIN_DESTROYING);
        if (begin_end(e, d, END_FAILED, NULL, NULL, NULL, &error) < 0)
                log_domain(LOG_ERR, d, "Failed to undo domain %s: %s", d->name, error_text(&error));
        else
                d->job->creating = true; /* nothing of it is kept */
}

int domain_check_taken_over(Engine *e, const Domain *d, Error *error) {
        if (!d->left_alone)
                return 0;
        const char *reason = hypervisor_reason(e, d->spec.hypervisor);
        return error_set(error, ERROR_NOT_SUPPORTED,
                         "Domain %s is left as it is, since the daemon could not take it over when it started (%s): "
                         "mend hypervisor %s, then start the daemon again",
                         d->name, string_or(reason, "its log says why"), d->spec.hypervisor);
}

/* ---- create ---- */

static int check_nics(Engine *e, const Caller *who, const DomainSpec *spec, Error *error) {
        for (size_t i = 0; i < spec->n_nics; i++) {
                const NicSpec *nic = &spec->nics[i];
                char mac[MAC_TEXT_MAX];
                Network *n = registry_network(&e->registry, nic->network);

                if (!n || n->state == NETWORK_CREATING)
                        return error_set(error, ERROR_NETWORK_NOT_FOUND, "There is no network %s", nic->network);
                if (n->owner->uid != who->uid) /* root is no exception */
                        return error_set(error, ERROR_ACCESS_DENIED,
                                         "Network %s belongs to uid %u: a domain can only be on a network of its owner",
                                         n->name, (unsigned)n->owner->uid);
                if (n->state == NETWORK_DESTROYING)
                        return error_set(error, ERROR_BUSY, "Network %s is being destroyed", n->name);
                if (n->state == NETWORK_FAILED)
                        return error_set(error, ERROR_NETWORK_FAILED,
                                         "Network %s has failed (%s): destroy it and create another", n->name,
                                         string_or(n->reason, "unknown reason"));
                if (registry_mac_in_use(&e->registry, nic->network, &nic->mac))
                        return error_set(error, ERROR_INVALID_INPUT, "MAC %s is in use by a domain on network %s",
                                         mac_format(&nic->mac, mac), n->name);
        }
        return 0;
}

/* A domain of the spec, charged and in the registry, not yet recorded. */
static int domain_from_spec(Engine *e, const Caller *who, DomainSpec *spec, Domain **ret, Error *error) {
        char name[OBJECT_NAME_MAX];
        Owner *owner;
        Domain *d = NULL;
        uint32_t jail_uid = 0;

        int r = owners_get(&e->registry.owners, who->uid, &owner);
        if (r < 0)
                return error_set_errno(error, r, "Failed to look up what uid %u holds", (unsigned)who->uid);
        if (e->scope == SCOPE_SYSTEM) {
                r = registry_free_jail_uid(&e->registry, &e->limits, &jail_uid, error);
                if (r < 0)
                        return r;
        }
        registry_free_domain_name(&e->registry, name);
        r = domain_new(name, e->registry.next_domain_id, owner, spec, &d);
        if (r < 0)
                return error_set_errno(error, r, "Failed to name the domain");

        Charge charge = domain_charge(d);
        r = owner_charge(owner, &charge, limits_for(&e->limits, who->uid), error);
        if (r < 0) {
                domain_free(d);
                return r;
        }
        d->jail_uid = jail_uid;
        d->created_usec = now_realtime_usec();
        e->registry.next_domain_id++;
        registry_add_domain(&e->registry, d); /* the charge goes with it from here */
        *ret = d;
        return 0;
}

/* The driver is known: open what the caller named, as the caller. */
static void files_done(FilesJob *j, GuestFiles *files, const Error *error);

static int creation_begin(struct DomainJob *job, const Driver *driver, Error *error) {
        Engine *e = job->engine;
        Domain *d = job->domain;

        int r = string_replace(&d->spec.hypervisor, driver->name);
        if (r < 0)
                return error_set_errno(error, r, "Failed to choose the hypervisor of domain %s", d->name);
        /* Where there is no process to be recorded, the driver must be known by which to look for what there is. */
        r = driver->present ? store_update_domain(e->store, d, error) : 0;
        if (r < 0)
                return r;
        r = domain_make_guest(e, d, driver, false, error);
        if (r < 0)
                return r;

        job->files.spec = &d->spec;
        job->files.uid = d->owner->uid;
        job->files.privileged = e->scope == SCOPE_SYSTEM;
        job->files.deadline_usec = e->limits.start_usec;
        job->files.lingering = domain_lingering(d);
        job->files.done = files_done;
        job->files.userdata = job;
        return files_start(&job->files, e->event, error);
}

void domain_jobs_probed(Engine *e) {
        Domain *d, *next;

        for (d = TAILQ_FIRST(&e->registry.domains); d; d = next) {
                AUTO(error_clear) Error error = ERROR_INIT;
                const Driver *driver;

                next = TAILQ_NEXT(d, entry);
                if (!d->job || !d->job->waits_for_probe)
                        continue;
                int r = hypervisor_choose(e, &d->spec, &driver, &error);
                if (r >= 0 && !driver)
                        continue;
                d->job->waits_for_probe = false;
                if (r >= 0)
                        r = creation_begin(d->job, driver, &error);
                if (r < 0)
                        creation_undo(d->job, &error, false);
        }
}

static void taps_done(InsideJob *j, FdSet *fds, const Error *error);

/* One tap for the next interface; when all have one, start. */
static int next_tap_or_start(struct DomainJob *job, Error *error) {
        Engine *e = job->engine;
        Domain *d = job->domain;
        Guest *g = d->guest;

        if (g->driver->attaches_nics || g->n_taps == d->spec.n_nics)
                return g->driver->start(g, error);

        Network *n = registry_network(&e->registry, d->spec.nics[g->n_taps].network);
        if (!n || n->state != NETWORK_UP) /* it failed meanwhile; destroying it is refused while we are on it */
                return error_set(error, ERROR_NETWORK_FAILED, "Network %s has failed", d->spec.nics[g->n_taps].network);

        inside_stop(&job->inside);
        job->inside.host = &e->net_host;
        job->inside.act = INSIDE_TAPS;
        job->inside.n_taps = 1;
        job->inside.deadline_usec = e->limits.start_usec;
        job->inside.done = taps_done;
        job->inside.userdata = job;
        return inside_start(&job->inside, n, error);
}

static void files_done(FilesJob *j, GuestFiles *files, const Error *failure) {
        struct DomainJob *job = j->userdata;
        AUTO(error_clear) Error error = ERROR_INIT;

        if (failure) {
                creation_undo(job, failure, false);
                return;
        }
        job->domain->guest->files = *files;
        guest_files_init(files); /* taken */
        if (next_tap_or_start(job, &error) < 0)
                creation_undo(job, &error, false);
}

static void taps_done(InsideJob *j, FdSet *fds, const Error *failure) {
        struct DomainJob *job = j->userdata;
        Guest *g = job->domain->guest;
        AUTO(error_clear) Error error = ERROR_INIT;

        if (failure) {
                creation_undo(job, failure, false);
                return;
        }
        for (size_t i = 0; i < fds->count && g->n_taps < job->domain->spec.n_nics; i++)
                g->taps[g->n_taps++] = fd_take(&fds->fds[i]);
        if (next_tap_or_start(job, &error) < 0)
                creation_undo(job, &error, false);
}

static int guest_record(Guest *g, Error *error) {
        Engine *e = g->userdata;

        return store_update_domain(e->store, g->domain, error);
}

static int guest_namespaces(Guest *g, size_t nic, int *ret_user_fd, int *ret_net_fd, Error *error) {
        Engine *e = g->userdata;
        const char *name = g->domain->spec.nics[nic].network;
        Network *n = registry_network(&e->registry, name);

        if (!n || n->state != NETWORK_UP)
                return error_set(error, ERROR_NETWORK_FAILED, "Network %s has failed", name);
        return network_open_namespaces(n, ret_user_fd, ret_net_fd, error);
}

static void creation_confirmed(struct DomainJob *job) {
        Engine *e = job->engine;
        Domain *d = job->domain;
        DomainState state = d->spec.paused ? DOMAIN_PAUSED : DOMAIN_RUNNING;
        AUTO(error_clear) Error error = ERROR_INIT;

        /* Recorded as running before it is announced; the setter only moves the state on. */
        d->state = state;
        int r = store_update_domain(e->store, d, &error);
        d->state = DOMAIN_CREATING;
        if (r < 0) {
                creation_undo(job, &error, true);
                return;
        }
        registry_set_domain_state(&e->registry, d, state);
        log_domain(LOG_INFO, d, "Domain %s is %s", d->name, domain_state_name(state));

        EngineDone done = job->done;
        void *userdata = job->userdata;
        job_free(job);
        engine_answer(done, userdata, NULL, d, NULL);
}

static void guest_asking(Guest *g) {
        Engine *e = g->userdata;

        registry_show_domain(&e->registry, g->domain);
}

static void guest_started(Guest *g, const Error *failure) {
        Engine *e = g->userdata;
        Domain *d = g->domain;

        if (d->job) {
                if (failure)
                        creation_undo(d->job, failure, false);
                else
                        creation_confirmed(d->job);
                return;
        }
        /* The answer to adopt(). */
        if (failure) {
                domain_drop_guest(d);
                domain_lose(e, d, error_text(failure));
        } else
                log_domain(LOG_INFO, d, "Domain %s is taken over", d->name);
}

/* A creation that failed before the request was taken: the call's own return value is the answer. */
static void creation_withdraw(Domain *d) {
        Engine *e = d->job->engine;
        AUTO(error_clear) Error error = ERROR_INIT;

        job_free(d->job);
        domain_drop_guest(d);
        d->end_reason = END_FAILED;
        registry_set_domain_state(&e->registry, d, DOMAIN_DESTROYING);
        if (unrecord(e, d, NULL, &error) < 0)
                log_domain(LOG_ERR, d, "Failed to unrecord domain %s: %s, ignoring", d->name, error_text(&error));
}

int engine_create_domain(Engine *e, const Caller *who, DomainSpec *spec, EngineDone done, void *userdata,
                         Error *error) {
        AUTO(domain_spec_clear) DomainSpec mine = *spec;
        const Driver *driver = NULL;
        Domain *d = NULL;

        *spec = DOMAIN_SPEC_INIT;
        int r = domain_spec_check(&mine, &e->limits, error);
        if (r >= 0)
                r = check_nics(e, who, &mine, error);
        if (r >= 0) {
                hypervisor_ask_again(e, &mine);
                r = hypervisor_choose(e, &mine, &driver, error);
        }
        if (r >= 0)
                r = domain_from_spec(e, who, &mine, &d, error);
        if (r < 0)
                return r;

        r = job_new(e, d, true, done, userdata, error);
        if (r >= 0)
                r = store_add_domain(e->store, d, error);
        if (r < 0) {
                if (d->job)
                        job_free(d->job);
                registry_remove_domain(&e->registry, d);
                return r;
        }
        if (!driver) {
                d->job->waits_for_probe = true;
                return 0;
        }
        r = creation_begin(d->job, driver, error);
        if (r < 0)
                creation_withdraw(d);
        return r;
}

/* ---- the guest's life ---- */

static void guest_paused(Guest *g, bool paused) {
        Engine *e = g->userdata;
        Domain *d = g->domain;
        DomainState next = paused ? DOMAIN_PAUSED : DOMAIN_RUNNING;
        AUTO(error_clear) Error error = ERROR_INIT;

        if ((d->state != DOMAIN_RUNNING && d->state != DOMAIN_PAUSED) || d->state == next)
                return;
        registry_set_domain_state(&e->registry, d, next);
        if (store_update_domain(e->store, d, &error) < 0)
                log_domain(LOG_ERR, d, "Failed to record that domain %s is %s: %s, ignoring", d->name,
                           domain_state_name(next), error_text(&error));
}

/* userdata is the Domain's Guest, which the driver answers for as long as it lives. */
static void restart_answered(void *userdata, UNUSED int fd, const Error *failure) {
        Guest *g = userdata;
        const Engine *e = g->userdata;

        /* One that the daemon leaves running answers too. */
        if (failure && g->domain->state != DOMAIN_DESTROYING && !e->stopping)
                domain_end(g->userdata, g->domain, END_CRASH, error_text(failure));
}

static void guest_ended(Guest *g, EndReason reason, const char *text) {
        Engine *e = g->userdata;
        Domain *d = g->domain;
        AUTO(error_clear) Error error = ERROR_INIT;

        log_domain(LOG_INFO, d, "Domain %s has ended (%s): %s", d->name, end_reason_name(reason), string_or(text, "-"));
        if (d->job)
                return;

        if (reason == END_POWEROFF && d->spec.on_poweroff == END_RESTART) {
                console_note(g->console, "powered off, starting again");
                if (g->driver->reset && g->driver->reset(g, restart_answered, g, &error) >= 0)
                        return;
        }
        domain_end(e, d, reason, error_is_set(&error) ? error_text(&error) : text);
}

const GuestEvents engine_guest_events = {
        .record = guest_record,
        .namespaces = guest_namespaces,
        .asking = guest_asking,
        .started = guest_started,
        .paused = guest_paused,
        .ended = guest_ended,
        .stopped = guest_stopped,
};

/* ---- destroy ---- */

/* One that has been shown already, for its boot loader's sake, can be given up; others are about to be there. */
static int destroy_half_made(Domain *d, EngineDone done, void *userdata, Error *error) {
        AUTO(error_clear) Error why = ERROR_INIT;
        struct DomainJob *job = d->job;

        if (!d->announced || d->state != DOMAIN_CREATING)
                return error_set(error, ERROR_BUSY, "Domain %s is being %s", d->name,
                                 d->state == DOMAIN_CREATING ? "created" : "destroyed");
        job->destroyed = done;
        job->destroyed_userdata = userdata;
        error_set(&why, ERROR_INVALID_STATE, "Domain %s was destroyed before it had started", d->name);
        creation_undo(job, &why, true);
        return 0;
}

int engine_destroy_domain(Engine *e, const Caller *who, const char *name, const char *hypervisor, EngineDone done,
                          void *userdata, Error *error) {
        AUTO(string_drop) char *shown = NULL;
        Domain *d;

        int r = engine_find_domain(e, who, name, &d, error);
        if (r < 0)
                return r;
        if (hypervisor && *hypervisor && !string_equal(hypervisor, d->spec.hypervisor)) {
                shown = string_escape(hypervisor, 64);
                return error_set(error, ERROR_DOMAIN_NOT_FOUND, "There is no domain %s on hypervisor %s (it is on %s)",
                                 d->name, string_or(shown, "?"), d->spec.hypervisor);
        }
        r = domain_check_taken_over(e, d, error);
        if (r < 0)
                return r;
        if (!d->job)
                return begin_end(e, d, END_DESTROYED, "destroyed by request", done, userdata, error);
        if (d->job->creating)
                return destroy_half_made(d, done, userdata, error);
        if (d->job->done)
                return error_set(error, ERROR_BUSY, "Domain %s is being destroyed", d->name);

        /* It is ending by itself: whoever wants it gone is told when it is. */
        d->job->done = done;
        d->job->userdata = userdata;
        return 0;
}

void domain_jobs_done(Engine *e) {
        Domain *d;

        TAILQ_FOREACH (d, &e->registry.domains, entry) {
                if (d->job)
                        job_free(d->job);
                domain_drop_guest(d);
        }
}
