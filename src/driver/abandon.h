#pragma once

#include "core/process.h"
#include "core/spawn.h"

/* spawn_stop(), but watch what there is of the child to its end, as *p: until then it holds disks and taps. *p stays
 * Idle when there is nothing to wait for. */
void spawn_abandon(Spawn *s, sd_event *event, Process *p, ProcessEnded ended, void *userdata);

/* Close taps that may be nobody else's any more; negative ones are skipped, all are -1 after. With the last descriptor
 * goes the interface, for which close() takes ten or twenty milliseconds, and the loop is not to wait. */
void taps_abandon(sd_event *event, int taps[], size_t n_taps);
