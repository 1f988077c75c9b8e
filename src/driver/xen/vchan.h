/* A byte stream to another domain, through memory that both share (libxenvchan), as one side of a socket pair: whoever
 * has the other side need not know what is behind it. The other domain is the server; it names the stream in its own
 * part of the store. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/* libxenvchan has room for no longer names of streams. */
#define VCHAN_PATH_MAX 48

typedef enum VchanKind {
        VCHAN_ONCE,   /* the socket's end is the stream's, and the other way round: ends when the other side ends */
        VCHAN_FOREVER /* connects again to whatever the other side serves next; ends with the socket */
} VchanKind;

typedef struct Vchan Vchan;
/* Begin to connect to the stream at path of domain id: it may be served only in a while. A VCHAN_ONCE that is not
 * within VCHAN_PATIENCE_USEC ends. socket_fd: a stream socket, the Vchan's from now on, also on failure. ended() tells,
 * once and from the loop, that the socket is closed; it may free the Vchan; NULL: nobody needs to know. */
#define VCHAN_PATIENCE_USEC (10 * 1000000ULL)
int vchan_new(sd_event *event, uint32_t id, const char *path, VchanKind kind, int socket_fd,
              void (*ended)(void *userdata), void *userdata, Vchan **ret);
/* What the other side has sent already is passed on as far as the socket takes it. NULL allowed. A domain does not go
 * before the last Vchan to it. */
Vchan *vchan_free(Vchan *v);
