/* Copy between a socket and a pair of descriptors, such as standard input and output. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define RELAY_INPUT_MAX 4096

typedef struct Relay {
        /* In: set by the caller; a descriptor that is not there is -1. */
        int in, out;     /* in: -1 for none */
        int socket;      /* made non-blocking */
        bool half_close; /* at the end of in, tell the other side that no more comes */
        /* The end of the socket ends only what comes from it: the rest of in is sent all the same, unless it is a
         * terminal, and input that the other side does not take is an error. Otherwise the end of the socket is the
         * end. */
        bool whole_input;
        int signal_fd;        /* -1: none; signalled() is called when it is readable */
        uint64_t linger_usec; /* once in has ended, stop after this long; 0: only at the end of the socket */
        void *user;

        /* input may change what was read from in: *length bytes, growing to RELAY_INPUT_MAX + 1 at the most. NULL:
         * nothing to do. These three end the relay by returning true. */
        bool (*input)(void *user, char *data, size_t *length);
        bool (*output)(void *user, const char *data, size_t length, bool in_ended);
        bool (*signalled)(void *user);

        /* Out: why it ended, unless it failed. */
        enum { RELAY_CLOSED, RELAY_OUT_CLOSED, RELAY_STOPPED, RELAY_LINGERED } end;
} Relay;

/* Runs until the socket ends, the output is closed, or a hook says so. The descriptors stay the caller's. */
int relay_run(Relay *r, Error *e);

/* Copy from one descriptor to another until the end of file. */
int copy_all(int from, int to, const char *what, Error *e);
