/* One line of QMP, taken apart. Pure; the emulator is hostile input here, since a guest may have taken it over. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define QMP_LINE_MAX  65536 /* bytes */
#define QMP_DEPTH_MAX 32

typedef enum QmpMessageKind {
        QMP_MESSAGE_GREETING,
        QMP_MESSAGE_RETURN,
        QMP_MESSAGE_ERROR,
        QMP_MESSAGE_EVENT,
        QMP_MESSAGE_KIND_COUNT
} QmpMessageKind;

typedef struct QmpMessage {
        QmpMessageKind kind;
        json_t *root;     /* owned */
        uint64_t id;      /* of a return or an error; 0: it has none that is ours */
        const char *name; /* of an event; borrowed from root, like all below */
        const char *text; /* of an error: its description */
        json_t *data;     /* the returned value, or the event's data; may be NULL for an event */
} QmpMessage;

/* -EBADMSG: no message of QMP, too long or too deep. -ENOMEM. */
int qmp_message_parse(const char *line, size_t length, QmpMessage *ret);
void qmp_message_done(QmpMessage *m); /* usable with AUTO() */
