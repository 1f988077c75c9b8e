/* A device model, or what serves as one to a guest that is not of type hvm: one process beside the hypervisor's domain,
 * for as long as that one lives. It begins when the domain is built and known to xenstored, and is never started again.
 * See model-args.h for what it is.
 *
 *                 exec           its monitor is ready     set up, harmless
 *   NONE ------> SPAWNING -----> GREETING -------------> SETTING -----------> UP
 *    |  start()      |             ^  |                     |                  |
 *    |  adopt() -----|-------------+  |                     |                  |
 *    |               | failure, deadline, its end: confirmed(e)                | its end: ended()
 *    |               v                v                     v                  v
 *    |             ENDING <-----------+---------------------+------------------+   model_end()
 *    +<-- model_clear()
 *
 * ENDING is over for the owner at once: what there is of the process is killed, and model_pidfd() tells when it has
 * gone. */
#pragma once

#include "core/process.h"
#include "core/spawn.h"
#include "driver/driver.h"
#include "driver/emulator.h"
#include "driver/qmp.h"
#include "driver/words.h"
#include "guest/jail.h"

typedef enum ModelState {
        MODEL_NONE,
        MODEL_SPAWNING,
        MODEL_GREETING,
        MODEL_SETTING,
        MODEL_UP,
        MODEL_ENDING,
        MODEL_STATE_COUNT
} ModelState;

typedef struct Model Model;
struct Model {
        /* In. */
        Guest *guest;
        MachineType type;
        uint32_t id;                                 /* the domain's in Xen */
        uint64_t memory;                             /* the guest's in bytes, without the screen's */
        int taps[NICS_PER_DOMAIN_MAX];               /* one per interface; the model's */
        void (*confirmed)(Model *m, const Error *e); /* once after start() and adopt(); e: it is being ended */
        void (*ended)(Model *m, const char *text);   /* by itself, from UP */

        /* Private. */
        ModelState state;
        bool killed;
        char *program, *console_in_path, *console_out_path;
        char **argv;
        EmulatorFds fds;
        Jail jail;
        Spawn spawn;
        int listen_qmp, stderr_fd;
        Process process;
        Words words;
        Qmp *qmp;
        sd_event_source *timer;
};

void model_init(Model *m);

/* The program that a start would execute, the caller's; ERROR_NOT_SUPPORTED names the package that has it. */
int model_find_program(const DriverHost *host, char **ret, Error *e);

/* NONE -> SPAWNING. Its process goes into the domain's record by guest->events->record(). On failure nothing has
 * happened. */
int model_start(Model *m, Error *e);
/* NONE -> GREETING, with the process of the domain's record. -ESRCH without e when it is not there any more. */
int model_adopt(Model *m, Error *e);
/* Any state -> ENDING, or NONE when there is nothing. No callback comes any more. */
void model_end(Model *m);
/* Readable once its process has gone; -1: there is none. Borrowed. */
int model_pidfd(const Model *m);
/* Any state -> NONE: nothing of it is left in the domain's directory, and a process that is still there is waited for
 * no longer. */
void model_clear(Model *m);

/* Any state -> NONE, as the daemon ends: it goes on without us, and whoever comes takes it over by model_adopt(). */
void model_leave(Model *m);

/* Its monitor while it is UP; NULL. */
Qmp *model_qmp(const Model *m);
