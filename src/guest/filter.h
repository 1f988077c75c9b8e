/* A filter for system calls, for programs that bring none of their own. It leaves alone what emulators do, and takes
 * what only somebody would do who has taken one over: make processes, look into others, mount, change namespaces, load
 * code into the kernel, and the large interfaces in which most of the kernel's holes have been. */
#pragma once

#include <stddef.h>

/* In a child with no_new_privs, before exec; for good. ioctls: requests that are refused, too, whatever they are made
 * on; at most FILTER_IOCTLS_MAX. Negative errno; -EOPNOTSUPP for a processor that it does not know. */
#define FILTER_IOCTLS_MAX 8
int filter_system_calls(const unsigned *ioctls, size_t n_ioctls);
