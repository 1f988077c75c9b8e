/* Which hypervisors work here: each driver is probed once at start, in the background, and again when asked, or when a
 * domain wants one that did not work. Until the first probe has ended a domain that depends on it waits; later ones
 * hold up nobody, as the former answer counts, but those that it would refuse. */
#include "engine/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/string-util.h"

/* userdata is the status; the engine is found from it since the statuses live in the engine's array. */
typedef struct Probe {
        Engine *engine;
        HypervisorStatus *status;
} Probe;

typedef struct ProbeWait {
        EngineDone done;
        void *userdata;
        struct ProbeWait *next;
} ProbeWait;

static bool is_probing(const Engine *e) {
        for (size_t i = 0; i < e->n_hypervisors; i++)
                if (e->hypervisors[i].probing)
                        return true;
        return false;
}

static void answer_waiting(Engine *e) {
        ProbeWait *w = TAKE(e->probe_waits);

        while (w) {
                ProbeWait *next = w->next;
                engine_answer(w->done, w->userdata, NULL, NULL, NULL);
                free(w);
                w = next;
        }
}

static void probe_answered(void *userdata, UNUSED int fd, const Error *failure) {
        Probe *p = userdata;
        Engine *e = p->engine;
        HypervisorStatus *status = p->status;

        free(p);
        e->n_jobs--;
        status->probing = false;
        status->known = true;
        status->usable = !failure;
        free(status->reason);
        status->reason = failure ? string_printf("%s", error_text(failure)) : NULL;
        log_debug("Hypervisor %s: %s", status->driver->name, failure ? error_text(failure) : "usable");

        domain_jobs_probed(e);
        if (!is_probing(e))
                answer_waiting(e);
}

static int probe_one(Engine *e, HypervisorStatus *status, Error *error) {
        Probe *p = malloc(sizeof *p);
        if (!p)
                return error_set_errno(error, ENOMEM, "Failed to probe hypervisor %s", status->driver->name);

        *p = (Probe){ e, status };
        status->probing = true;
        e->n_jobs++;
        int r = status->driver->probe(&e->driver_host, probe_answered, p, error);
        if (r < 0) { /* a probe that cannot even be begun is an answer too */
                free(p);
                e->n_jobs--;
                status->probing = false;
                status->known = true;
                status->usable = false;
                free(status->reason);
                status->reason = string_printf("%s", error_text(error));
        }
        return 0;
}

int hypervisors_start(Engine *e, Error *error) {
        for (size_t i = 0; i < HYPERVISORS_MAX && e->drivers[i]; i++) {
                AUTO(error_clear) Error late = ERROR_INIT;

                e->hypervisors[i] = (HypervisorStatus){ .driver = e->drivers[i] };
                e->n_hypervisors++;
                int r = probe_one(e, &e->hypervisors[i], &late);
                if (r < 0)
                        return error_set_errno(error, r, "%s", error_text(&late));
        }
        return 0;
}

int engine_probe(Engine *e, EngineDone done, void *userdata, Error *error) {
        ProbeWait *w = malloc(sizeof *w);
        if (!w)
                return error_set_errno(error, ENOMEM, "Failed to probe the hypervisors");

        *w = (ProbeWait){ done, userdata, e->probe_waits };
        e->probe_waits = w;
        for (size_t i = 0; i < e->n_hypervisors; i++) {
                AUTO(error_clear) Error late = ERROR_INIT;
                if (!e->hypervisors[i].probing)
                        probe_one(e, &e->hypervisors[i], &late);
        }
        if (is_probing(e))
                return 0;

        /* None could be begun: nobody will answer later. */
        e->probe_waits = w->next;
        free(w);
        return error_set(error, ERROR_INTERNAL, "No hypervisor could be probed");
}

void hypervisors_done(Engine *e) {
        for (ProbeWait *w = TAKE(e->probe_waits), *next; w; w = next) {
                next = w->next;
                free(w);
        }
        for (size_t i = 0; i < e->n_hypervisors; i++)
                free(TAKE(e->hypervisors[i].reason));
        e->n_hypervisors = 0;
}

static HypervisorStatus *find_status(Engine *e, const char *name) {
        for (size_t i = 0; i < e->n_hypervisors; i++)
                if (string_equal(e->hypervisors[i].driver->name, name))
                        return &e->hypervisors[i];
        return NULL;
}

const Driver *hypervisor_driver(Engine *e, const char *name) {
        const HypervisorStatus *s = find_status(e, name);
        return s ? s->driver : NULL;
}

const char *hypervisor_reason(Engine *e, const char *name) {
        const HypervisorStatus *s = find_status(e, name);
        return s && s->known && !s->usable ? s->reason : NULL;
}

void hypervisor_ask_again(Engine *e, const DomainSpec *spec) {
        HypervisorStatus *s = find_status(e, spec->hypervisor);
        AUTO(error_clear) Error ignored = ERROR_INIT; /* it becomes the reason */

        if (s && s->known && !s->usable && !s->probing)
                probe_one(e, s, &ignored);
}

static int choose_named(Engine *e, const DomainSpec *spec, const Driver **ret, Error *error) {
        const HypervisorStatus *s = find_status(e, spec->hypervisor);

        if (!s)
                return error_set(error, ERROR_NOT_SUPPORTED, "There is no hypervisor \"%s\"", spec->hypervisor);
        if (!s->known || (!s->usable && s->probing)) {
                *ret = NULL;
                return 0;
        }
        if (!s->usable)
                return error_set(error, ERROR_NOT_SUPPORTED, "Hypervisor %s does not work here: %s", s->driver->name,
                                 string_or(s->reason, "unknown reason"));
        *ret = s->driver;
        return s->driver->check(&e->driver_host, spec, error);
}

int hypervisor_choose(Engine *e, const DomainSpec *spec, const Driver **ret, Error *error) {
        AUTO(error_clear) Error last = ERROR_INIT;

        if (*spec->hypervisor)
                return choose_named(e, spec, ret, error);

        for (size_t i = 0; i < e->n_hypervisors; i++) {
                const HypervisorStatus *s = &e->hypervisors[i];

                if (!s->known) {
                        *ret = NULL;
                        return 0;
                }
                if (!s->usable)
                        continue;
                error_clear(&last); /* the last one's reason is the plainest: the best ones ask for more */
                if (s->driver->check(&e->driver_host, spec, &last) >= 0) {
                        *ret = s->driver;
                        return 0;
                }
        }
        if (error_is_set(&last))
                return error_move(error, &last);
        return error_set(error, ERROR_NOT_SUPPORTED, "No hypervisor works here: see \"debmarshal doctor\"");
}
