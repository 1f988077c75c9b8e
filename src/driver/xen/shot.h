/* A picture of a screen that is shown by RFB (RFC 6143), as one takes it who looks once: for a device model whose
 * monitor is out of reach (stub.h). */
#pragma once

#include <systemd/sd-event.h>

#include "base/error.h"

#define SHOT_USEC (20 * 1000000ULL) /* for all of it: callers on D-Bus wait for 25 s */

typedef struct Shot Shot;
/* fd: a stream socket to who shows the screen and asks for no password; the Shot's from now on, also on failure. done()
 * comes once, from the loop: png_fd is a memfd, the callee's; e set: why there is none. It may free the Shot. */
int shot_new(sd_event *event, int fd, void (*done)(void *userdata, int png_fd, const Error *e), void *userdata,
             Shot **ret, Error *e);
Shot *shot_free(Shot *s); /* done() comes no more. NULL allowed; returns NULL */
