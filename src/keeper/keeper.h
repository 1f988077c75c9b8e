/* debmarshal-keeper: small programs that live inside a network's namespaces, in one executable. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "net/plan.h"

/* Modes. Each returns an exit status. */
int hold_main(int argc, char **argv);
int capture_main(int argc, char **argv);

/* Lose every capability but those of the mask (bit N: capability N), for what is executed too, and for good. 0 or
 * negative errno. */
int capabilities_keep(uint64_t mask);

/* The one DHCP and DNS server of a network, kept running. */
typedef struct Server {
        const char *program;
        int config_fd;

        /* Private. */
        pid_t pid;
        int input_fd;         /* it waits for its configuration on the other end */
        int log_fd;           /* what it writes to standard error; -1: it has closed it */
        uint64_t restarts[5]; /* when the latest ones were, a ring */
        unsigned n_restarts;
} Server;
#define SERVER_INIT ((Server){ .config_fd = -1, .input_fd = -1, .log_fd = -1 })

/* Begin: it loads, and then waits for what server_start() gives it; so the network can be built meanwhile. */
int server_launch(Server *s);
#define SERVER_WORDS_MAX 512
/* Give a launched one its configuration and wait until it answers. On failure negative errno, and words holds what it
 * said last, or our own. */
int server_start(Server *s, char words[SERVER_WORDS_MAX]);
/* Reap whatever ends in this PID namespace, and start the server again when it was that. Returns when it has ended too
 * often. */
void server_supervise(Server *s);

/* In the server's process, last before exec: no file of the user's is to be had by whoever takes it over. Does nothing
 * on kernels without Landlock. 0 or negative errno. */
int confine_files(const char *program);
