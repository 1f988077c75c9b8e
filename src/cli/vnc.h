#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* "127.0.0.1:5901", "[::1]:5901", "5901" (on 127.0.0.1); the port may be 0. -EINVAL: no address; -EPERM: not one of the
 * loopback. */
int loopback_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_length);
