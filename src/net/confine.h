/* What a process inside a network gives up. */
#pragma once

#include <linux/capability.h>
#include <stdint.h>

/* All that the keeper and the server need, in their own user namespace. */
#define NETWORK_CAPABILITIES (1ULL << CAP_NET_ADMIN | 1ULL << CAP_NET_RAW | 1ULL << CAP_NET_BIND_SERVICE)

/* In the server's process, last before exec: no file of the user's is to be had by whoever takes it over. Does nothing
 * on kernels without Landlock. 0 or negative errno. */
int confine_files(const char *program);

/* Behind it, and behind no_new_privs: nor anything of the user's that is no file, or not opened. Does nothing on
 * kernels without filters for system calls. 0 or negative errno. */
int confine_calls(void);
