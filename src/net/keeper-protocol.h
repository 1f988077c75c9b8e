/* Between the daemon and a keeper that it starts: descriptors by number, and one message. */
#pragma once

/* Descriptors of the program, in the order of Spawn.fds. */
enum { KEEPER_FD_PLAN = 3, KEEPER_FD_CONFIG, KEEPER_FD_STATUS };

/* The one message on the status socket (SOCK_SEQPACKET); any other is the reason of a failure. */
#define KEEPER_READY "ready"
/* The daemon reads no more than this. */
#define KEEPER_MESSAGE_MAX 1024
