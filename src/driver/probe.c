#include "driver/probe.h"

#include <errno.h>
#include <stdlib.h>

/* ---- at once ---- */

typedef struct Probe {
        GuestAnswer answer;
        void *userdata;
        Error verdict;
} Probe;

static int on_turn(UNUSED sd_event_source *s, void *userdata) {
        Probe *p = userdata;

        p->answer(p->userdata, -1, error_is_set(&p->verdict) ? &p->verdict : NULL);
        return 0;
}

static void probe_free(void *userdata) {
        Probe *p = userdata;

        error_clear(&p->verdict);
        free(p);
}

int probe_answer_later(const DriverHost *host, Error *verdict, GuestAnswer answer, void *userdata, Error *e) {
        sd_event_source *source = NULL;
        Probe *p = calloc(1, sizeof *p);
        int r = p ? sd_event_add_defer(host->event, &source, on_turn, p) : -ENOMEM;

        if (r < 0) {
                free(p);
                error_clear(verdict);
                return error_set_errno(e, r, "Failed to answer for a hypervisor");
        }
        *p = (Probe){ .answer = answer, .userdata = userdata };
        error_move(&p->verdict, verdict);
        sd_event_source_set_destroy_callback(source, probe_free);
        (void)sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
        return 0;
}

/* ---- by a worker ---- */

typedef struct Looking {
        Worker worker;
        const ProbeLook *look;
        GuestAnswer answer;
        void *userdata;
} Looking;

static void looked(Worker *w, WorkerReply *reply, const Error *failure) {
        Looking *l = w->userdata;
        const ProbeLook *look = l->look;
        GuestAnswer answer = l->answer;
        void *userdata = l->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        free(l);
        if (failure)
                error_set(&e, ERROR_NOT_SUPPORTED, "%s",
                          failure->id == ERROR_TIMEOUT ? look->too_late : error_text(failure));
        if (look->found)
                look->found(failure ? NULL : reply);
        answer(userdata, -1, failure ? &e : NULL);
}

int probe_in_worker(const DriverHost *host, const ProbeLook *look, GuestAnswer answer, void *userdata, Error *e) {
        Looking *l = calloc(1, sizeof *l);

        if (!l)
                return error_set_errno(e, ENOMEM, "Failed to begin %s", look->what);
        *l = (Looking){ .look = look, .answer = answer, .userdata = userdata };
        worker_init(&l->worker);
        l->worker.what = look->what;
        l->worker.run = look->run;
        l->worker.input = (void *)(uintptr_t)host;
        l->worker.deadline_usec = look->deadline_usec;
        l->worker.done = looked;
        l->worker.userdata = l;
        int r = worker_start(&l->worker, host->event, e);
        if (r < 0)
                free(l);
        return r;
}
