/* Asks a viewer for the password before it sees the screen, where the device model cannot: Debian builds Xen's QEMU
 * without any cipher. The model, which asks nothing, is on a socket that nobody else can reach; the gate speaks RFB
 * (RFC 6143) to both as far as the password goes, and then hands on whatever comes. It ends with either side. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "base/error.h"

#define GATES_MAX           8                 /* viewers of one guest at a time */
#define GATE_HANDSHAKE_USEC (30 * 1000000ULL) /* a person has typed the password before */

typedef struct Gate Gate;
typedef LIST_HEAD(GateList, Gate) GateList;

/* A new one in the list: model_fd, which is taken, also on failure, is the model's socket; *ret_fd is the viewer's.
 * ERROR_QUOTA_EXCEEDED past GATES_MAX. */
int gate_open(GateList *list, sd_event *event, int model_fd, const char *password, int *ret_fd, Error *e);
/* Close all of them. */
void gates_close(GateList *list);

/* What a viewer has to answer to the challenge. */
#define GATE_CHALLENGE_SIZE 16
void gate_response(const char *password, const uint8_t challenge[GATE_CHALLENGE_SIZE],
                   uint8_t response[GATE_CHALLENGE_SIZE]);
