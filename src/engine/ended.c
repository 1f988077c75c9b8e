/* What outlives a domain: the record of its end and its console log, for as long as the configuration says, and the
 * answers to those who wait for it. */
#include "engine/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"

void ended_log_name(uint64_t id, char buffer[32]) {
        snprintf(buffer, 32, "%" PRIu64 ".log", id);
}

int ended_from_domain(const Domain *d, EndedDomain **ret) {
        EndedDomain *ended = calloc(1, sizeof *ended);
        if (!ended)
                return -ENOMEM;

        ended->id = d->id;
        ended->name = strdup(d->name);
        ended->uid = d->owner->uid;
        ended->reason = d->end_reason;
        ended->message = strdup(string_or(d->end_message, ""));
        ended->ended_usec = now_realtime_usec();
        if (!ended->name || !ended->message) {
                ended_domain_free(ended);
                return -ENOMEM;
        }
        *ret = ended;
        return 0;
}

static void ended_drop(Engine *e, EndedDomain *d) {
        AUTO(error_clear) Error error = ERROR_INIT;
        char log_name[32];

        ended_log_name(d->id, log_name);
        if (unlinkat(e->ended_fd, log_name, 0) < 0 && errno != ENOENT) {
                log_warning("Failed to remove the log of the ended domain %s: %s, will try again", d->name,
                            strerror(errno));
                tidy_later(e);
        }
        if (store_remove_ended(e->store, d->id, &error) < 0)
                log_warning("Failed to forget the ended domain %s: %s, ignoring", d->name, error_text(&error));
        registry_remove_ended(&e->registry, d);
}

static void expire(Engine *e, uid_t uid);

static int on_expiry(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        expire(userdata, (uid_t)-1);
        return 0;
}

static void set_timer(Engine *e, uint64_t in_usec) {
        int r = e->expiry_source ? sd_event_source_set_time_relative(e->expiry_source, in_usec)
                                 : sd_event_add_time_relative(e->event, &e->expiry_source, CLOCK_BOOTTIME, in_usec,
                                                              USEC_PER_SEC, on_expiry, e);
        if (r >= 0)
                r = sd_event_source_set_enabled(e->expiry_source, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning("Failed to set the timer for ended domains: %s, ignoring", strerror(-r));
}

/* A clock that was set back makes it young again, not as old as the hills. */
static uint64_t age_usec(const EndedDomain *d, uint64_t now) {
        return now > d->ended_usec ? now - d->ended_usec : 0;
}

/* Drop those that are too old and, of this uid ((uid_t)-1: of nobody), too many, and set the timer for the next. A
 * clock that was set back has them out of order. */
static void expire(Engine *e, uid_t uid) {
        uint64_t now = now_realtime_usec();
        EndedDomain *d, *older;
        size_t count = 0;

        for (d = TAILQ_LAST(&e->registry.ended, EndedList); d; d = older) {
                older = TAILQ_PREV(d, EndedList, entry);
                count += d->uid == uid;
                if (age_usec(d, now) >= e->limits.ended_usec || (d->uid == uid && count > e->limits.ended_per_owner))
                        ended_drop(e, d);
        }
        d = TAILQ_FIRST(&e->registry.ended);
        if (d)
                set_timer(e, e->limits.ended_usec - age_usec(d, now));
}

void ended_add(Engine *e, EndedDomain *d) {
        registry_add_ended(&e->registry, d);
        expire(e, d->uid);
}

typedef struct Ranked {
        EndedDomain *domain;
        uid_t uid;
        size_t newer; /* of anybody */
} Ranked;

static int compare_ranked(const void *a, const void *b) {
        const Ranked *x = a, *y = b;

        return x->uid != y->uid ? (x->uid > y->uid) - (x->uid < y->uid) : (x->newer > y->newer) - (x->newer < y->newer);
}

static void limit_everybody(Engine *e) {
        Ranked *all = NULL;
        size_t n = 0, count = 0, i = 0;
        EndedDomain *d;

        TAILQ_FOREACH (d, &e->registry.ended, entry)
                n++;
        all = calloc(n + 1, sizeof *all);
        if (!all) {
                log_warning("No memory to see whether too many ended domains are remembered, ignoring");
                return;
        }
        TAILQ_FOREACH_REVERSE(d, &e->registry.ended, EndedList, entry) {
                all[i] = (Ranked){ d, d->uid, i };
                i++;
        }
        qsort(all, n, sizeof *all, compare_ranked);
        for (i = 0; i < n; i++) {
                count = i > 0 && all[i].uid == all[i - 1].uid ? count + 1 : 1;
                if (count > e->limits.ended_per_owner)
                        ended_drop(e, all[i].domain);
        }
        free(all);
}

void ended_start(Engine *e) {
        limit_everybody(e); /* a former daemon may have been allowed more */
        expire(e, (uid_t)-1);
}

static EndedDomain *find_ended(Engine *e, const Caller *who, const char *name) {
        return registry_ended(&e->registry, name, who->uid == 0 ? (uid_t)-1 : who->uid);
}

int engine_ended_domain(Engine *e, const Caller *who, const char *name, const EndedDomain **ret, int *ret_log_fd,
                        Error *error) {
        char log_name[32];
        EndedDomain *d = find_ended(e, who, name);

        if (!d) {
                AUTO(string_drop) char *shown = string_escape(name, 64);
                return error_set(error, ERROR_DOMAIN_NOT_FOUND, "No ended domain %s of yours is remembered",
                                 string_or(shown, "?"));
        }
        ended_log_name(d->id, log_name);
        int r = stream_old_log(e, who, log_name, ret_log_fd, error);
        if (r < 0)
                return r;
        *ret = d;
        return 0;
}

/* ---- waiting ---- */

typedef struct Wait {
        Engine *engine;
        uint64_t domain_id;
        EngineDone done;
        void *userdata;
        sd_event_source *source; /* the deadline, or the answer that is already known */
        EndReason reason;
        char *text;
        struct Wait *next;
} Wait;

static void wait_free(Wait *w) {
        for (Wait **at = &w->engine->waits; *at; at = &(*at)->next) {
                if (*at == w) {
                        *at = w->next;
                        break;
                }
        }
        sd_event_source_disable_unref(w->source);
        w->engine->n_jobs--;
        free(w->text);
        free(w);
}

static void wait_answer(Wait *w, EndReason reason, const char *text, const Error *error) {
        EngineAnswer answer = { .fds = { -1, -1 }, .reason = reason, .text = text };
        EngineDone done = w->done;
        void *userdata = w->userdata;

        w->source = sd_event_source_disable_unref(w->source);
        w->done = NULL;
        done(userdata, &answer, error);
        wait_free(w);
}

static int wait_timed_out(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        AUTO(error_clear) Error error = ERROR_INIT;

        error_set(&error, ERROR_TIMEOUT, "The domain has not ended within the time given");
        wait_answer(userdata, END_NONE, NULL, &error);
        return 0;
}

static int wait_known(UNUSED sd_event_source *s, void *userdata) {
        Wait *w = userdata;

        wait_answer(w, w->reason, w->text, NULL);
        return 0;
}

/* NULL without memory, and then error is set. */
static Wait *wait_new(Engine *e, uint64_t id, EngineDone done, void *userdata, Error *error) {
        Wait *w = calloc(1, sizeof *w);
        if (!w) {
                error_set_errno(error, ENOMEM, "Failed to wait for the domain");
                return NULL;
        }

        *w = (Wait){ .engine = e, .domain_id = id, .done = done, .userdata = userdata, .next = e->waits };
        e->waits = w;
        e->n_jobs++;
        return w;
}

/* It ended before the question came: the answer is known, and given from the loop. */
static int wait_for_ended(Engine *e, const EndedDomain *ended, EngineDone done, void *userdata, Error *error) {
        Wait *w = wait_new(e, ended->id, done, userdata, error);
        if (!w)
                return -ENOMEM;

        w->reason = ended->reason;
        w->text = strdup(string_or(ended->message, ""));
        int r = engine_defer(e, wait_known, w, &w->source, error);
        if (r < 0)
                wait_free(w);
        return r;
}

int engine_domain_wait(Engine *e, const Caller *who, const char *domain, uint64_t timeout_usec, EngineDone done,
                       void *userdata, Error *error) {
        AUTO(error_clear) Error refused = ERROR_INIT;
        Domain *d;

        int r = engine_find_domain(e, who, domain, &d, &refused);
        if (r < 0) { /* it has ended, and its name may be somebody else's by now */
                const EndedDomain *ended = find_ended(e, who, domain);
                return ended ? wait_for_ended(e, ended, done, userdata, error) : error_move(error, &refused);
        }
        Wait *w = wait_new(e, d->id, done, userdata, error);
        if (!w)
                return -ENOMEM;
        if (timeout_usec == 0)
                return 0;

        r = sd_event_add_time_relative(e->event, &w->source, CLOCK_BOOTTIME, timeout_usec, 1, wait_timed_out, w);
        if (r < 0 && r != -EOVERFLOW) { /* later than any clock goes */
                wait_free(w);
                return error_set_errno(error, r, "Failed to set the timeout");
        }
        return 0;
}

void engine_forget_wait(Engine *e, void *userdata) {
        for (Wait *w = e->waits; w; w = w->next) {
                if (w->userdata == userdata && w->done) {
                        wait_free(w);
                        return;
                }
        }
}

void waits_domain_gone(Engine *e, const Domain *d) {
        /* An answer may free any other wait: begin anew after each. */
        for (Wait *w = e->waits; w;) {
                if (w->domain_id == d->id && w->done && !w->text) {
                        wait_answer(w, d->end_reason, d->end_message, NULL);
                        w = e->waits;
                } else
                        w = w->next;
        }
}

void waits_done(Engine *e) {
        while (e->waits)
                wait_free(e->waits);
}
