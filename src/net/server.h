/* dnsmasq as a process: how it comes to life, for the keeper and for the daemon's child that is to become one. */
#pragma once

#include <sys/types.h>

/* Start it as a child in the caller's namespaces, with the network's capabilities and no file of the user's. It reads
 * its configuration from input_fd, once it has loaded, which takes most of the time of a start; what it says it writes
 * to log_fd, and so it is said there too why it could not be executed. All other descriptors of the caller must be
 * close-on-exec. The pid, or negative errno. */
pid_t server_fork(const char *program, int input_fd, int log_fd);
