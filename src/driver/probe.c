#include "driver/probe.h"

#include <errno.h>
#include <stdlib.h>

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
