/* A console log as it is at one moment, given through a socket as its reader takes it: nothing is copied but what lies
 * in the socket, and a log of any size holds nobody up. It ends with end-of-file; the copy goes on until the reader has
 * closed its end, so that whoever holds one can be charged for it. Should the log be cut meanwhile, its reader is told
 * how much of it is lost. */
#pragma once

#include <systemd/sd-event.h>

#include "base/error.h"
#include "guest/bounded-log.h"

typedef struct LogCopy LogCopy;

/* ret_fd: the reader's end. */
int log_copy_new(sd_event *event, LogFile *file, LogCopy **ret, int *ret_fd, Error *e);
/* NULL allowed; returns NULL. The reader gets end-of-file, wherever it is. */
LogCopy *log_copy_free(LogCopy *c);

/* Have ended() called, from the loop and once, when the reader has closed its end. It may free the copy. */
void log_copy_on_end(LogCopy *c, void (*ended)(void *userdata), void *userdata);
