/* debmarshal-keeper: small programs that live inside a network's namespaces, in one executable. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "net/plan.h"

/* Modes. Each returns an exit status. */
int hold_main(int argc, char **argv);
int capture_main(int argc, char **argv);

/* The one DHCP and DNS server of a network, kept running. */
typedef struct Server {
        const char *program;
        int config_fd;
        /* It is started together with the keeper, so that it loads meanwhile, and waits for its configuration. */
        pid_t pid;
        int input_fd; /* it waits on the other end */
        int log_fd;   /* what it says; -1: it has closed it */

        /* Private. */
        uint64_t restarts[5]; /* when the latest ones were, a ring */
        unsigned n_restarts;
} Server;
#define SERVER_WORDS_MAX 512
/* Give it its configuration and wait until it answers. On failure negative errno, and words holds what it said last, or
 * our own. */
int server_start(Server *s, char words[SERVER_WORDS_MAX]);
/* Reap whatever ends in this PID namespace, and start the server again when it was that. Returns when it has ended too
 * often. */
void server_supervise(Server *s);
