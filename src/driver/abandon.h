#pragma once

#include "core/process.h"
#include "core/spawn.h"

/* spawn_stop(), but watch what there is of the child to its end, as *p: until then it holds disks and taps. *p stays
 * Idle when there is nothing to wait for. */
void spawn_abandon(Spawn *s, sd_event *event, Process *p, ProcessEnded ended, void *userdata);
