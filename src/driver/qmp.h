/* A client of QEMU's machine protocol on one connected socket. Everything is bounded: the length and depth of a line,
 * the commands under way, the time that one may take. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"

#define QMP_COMMANDS_MAX  64
#define QMP_DEADLINE_USEC (10 * 1000000ULL)

typedef struct Qmp Qmp;

/* The answer to one command: result (borrowed, may be NULL), or e. Once, also when the connection goes. */
typedef void (*QmpReply)(void *userdata, json_t *result, const Error *e);

typedef struct QmpEvents {
        /* Capabilities are agreed: commands may be sent. */
        void (*ready)(void *userdata);
        /* data may be NULL. */
        void (*event)(void *userdata, const char *name, json_t *data);
        /* The connection is gone, or broken beyond use; every command has been answered. Once. */
        void (*closed)(void *userdata, const Error *e);
} QmpEvents;

/* Takes fd, also on failure. */
int qmp_new(sd_event *event, int fd, const QmpEvents *events, void *userdata, Qmp **ret);
/* The socket on which it listens for q and for those to come (-1: not known): taken, kept until it greets (or fails
 * to), and closed then. QEMU lets only one wait there, but each daemon that is killed leaves a connection behind, which
 * an emulator that is kept from running does not take. So the queue is made longer again: a daemon that comes back must
 * find room.
 */
void qmp_take_listener(Qmp *q, int fd);
/* Answers what is under way with ERROR_INVALID_STATE; closed() does not come. NULL allowed; returns NULL. Allowed
 * in every callback. */
Qmp *qmp_free(Qmp *q);
/* The same without freeing: nothing is sent or received any more. */
void qmp_close(Qmp *q);

/* False from the moment on when answers come that only mean that the connection is gone. */
bool qmp_is_open(const Qmp *q);

/* Send a command when the capabilities are agreed. Takes arguments (NULL: none), also on failure. fd (-1: none) goes
 * with it and stays the caller's. reply NULL: the answer does not matter. On failure no reply comes: ERROR_BUSY when
 * QMP_COMMANDS_MAX have not been answered, ERROR_HYPERVISOR_FAILED when the connection is gone. */
int qmp_send(Qmp *q, const char *command, json_t *arguments, int fd, QmpReply reply, void *userdata, Error *e);

/* For commands sent from now on, the agreement on capabilities too: instead of QMP_DEADLINE_USEC. */
void qmp_set_deadline(Qmp *q, uint64_t usec);
