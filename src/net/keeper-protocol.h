/* Between the daemon and the programs of debmarshal-keeper: descriptors by number, and one message. */
#pragma once

/* Descriptors of the keeper, in the order of Spawn.fds. */
enum {
        KEEPER_FD_PLAN = 3,
        KEEPER_FD_CONFIG,
        KEEPER_FD_STATUS,
        KEEPER_FD_PROGRAM,
        KEEPER_FD_INPUT,
        KEEPER_FD_LOG,
        KEEPER_FD_END
};

/* And of a capture: its packet socket, and a pidfd of the network's keeper. It writes to standard output. */
enum { CAPTURE_FD_PACKETS = 3, CAPTURE_FD_KEEPER, CAPTURE_FD_PROGRAM, CAPTURE_FD_END };

/* Both are executed through a descriptor: they run as the owner, to whom the way to the file may be closed (a build
 * tree in somebody's home directory). */
#define KEEPER_PROGRAM_PATH  "/proc/self/fd/6"
#define CAPTURE_PROGRAM_PATH "/proc/self/fd/5"

/* The one message on the status pipe, in one write; any other is the reason of a failure. */
#define KEEPER_READY "ready"
/* The daemon reads no more than this. */
#define KEEPER_MESSAGE_MAX 1024
