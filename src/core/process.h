/* Processes that outlive the daemon, told apart from a later one of the same number by their start time, and watched
 * through a pidfd whether or not they are our children. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "core/owner.h"

typedef struct ProcessId {
        pid_t pid;           /* 0: none */
        uint64_t start_time; /* field 22 of /proc/PID/stat, clock ticks since boot */
} ProcessId;

/* How a child ended; the wait status is decoded in one place only. */
typedef struct ChildExit {
        enum { CHILD_UNKNOWN, CHILD_EXITED, CHILD_SIGNALED } how; /* unknown: it was not our child (adopted) */
        int value;                                                /* exit code or signal number */
} ChildExit;
#define CHILD_EXIT_TEXT_MAX 64
/* "exited with status 1", "was killed by signal 9 (Killed)", "ended"; returns buffer. */
const char *child_exit_format(const ChildExit *exit, char buffer[CHILD_EXIT_TEXT_MAX]);

/* What /proc says of a live pid. -ESRCH: there is none, or it has ended and waits to be reaped. */
int process_identify(pid_t pid, ProcessId *ret);
/* The same for a child of ours, which has its number until we reap it, also when it has ended. */
int process_identify_child(pid_t pid, ProcessId *ret);

/* A pidfd that is certain to be that process. -ESRCH when it has ended, whoever has its number now. */
int process_open(const ProcessId *id, int *ret_pidfd);

/* Reap without waiting. 1: it is gone, *ret says how (unknown when it is not our child); 0: it still lives; or negative
 * errno. */
int process_reap(int pidfd, ChildExit *ret);

/* Who pays for a killed process that stays, as one does that its user traces, and that is in the way of nobody but the
 * host: what it is charged with, whatever the limits, from when nobody waits for its end any longer until it is gone.
 * Where the loop ends first that is never released. */
typedef struct Lingering {
        Owner *owner;         /* NULL: nobody */
        const Charge *charge; /* static */
} Lingering;

/* SIGKILL it, and reap it whenever it goes: takes the pidfd. Even a killed process may stay for long where the kernel
 * waits for what a user controls (FUSE), so the loop must not wait for it. Nothing of it runs after this call.
 * lingering may be NULL, and is copied. */
void process_abandon(sd_event *event, int pidfd, const Lingering *lingering);

typedef struct Process Process;
typedef void (*ProcessEnded)(Process *p, const ChildExit *exit);

/* A watched process. Idle: pidfd is -1 (PROCESS_INIT). Active after process_watch(); ended() fires once, from the event
 * loop, and finds it Idle, but with its id still there to read. */
struct Process {
        ProcessId id;
        int pidfd;
        sd_event_source *source;
        ProcessEnded ended;
        void *userdata;
        Lingering lingering; /* for who watches it to set, after process_watch() */
};
#define PROCESS_INIT ((Process){ .pidfd = -1 })

/* Watch; takes the pidfd, also on failure, when it has killed the process: one that nobody watches must not live.
 * Idle -> Active. */
int process_watch(Process *p, sd_event *event, const ProcessId *id, int pidfd, ProcessEnded ended, void *userdata);
/* SIGKILL through the pidfd; ended() still comes. Harmless when Idle. */
void process_kill(Process *p);
/* The same for the leader of a process group and all of its group at once, where the kernel can: for the init of a PID
 * namespace, which has to wait for the others' end anyway, but would begin to after having given back its own memory.
 */
void process_kill_group(Process *p);
/* Kill it, and wait for its end no longer: ended() does not come. Any state -> Idle, the id stays. */
void process_drop(Process *p, sd_event *event);
/* Stop watching and forget it, without killing. Any state -> Idle. */
void process_done(Process *p);
