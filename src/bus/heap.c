/* What a network or a domain occupied lies between things that stay: the C library keeps the holes, and gives back only
 * what is free at the very end of the heap. So when many objects have gone, and a moment has passed in which more may
 * go, the pages of all holes are given back. */
#include "bus/internal.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "base/time-util.h"

#define MANY_GONE 16 /* what fewer leave behind is not worth the look through the heap */
#define LULL_USEC (1 * USEC_PER_SEC)

static int on_lull(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        Bus *b = userdata;

        b->n_gone = 0;
        b->lull = sd_event_source_disable_unref(b->lull);
        malloc_trim(0);
        return 0;
}

void heap_object_gone(Bus *b) {
        if (++b->n_gone < MANY_GONE || b->lull)
                return;
        int r = sd_event_add_time_relative(b->event, &b->lull, CLOCK_MONOTONIC, LULL_USEC, LULL_USEC, on_lull, b);
        if (r < 0)
                log_debug("Failed to set a timer to give memory back: %s, ignoring", strerror(-r));
}

void heap_done(Bus *b) {
        b->lull = sd_event_source_disable_unref(b->lull);
}
