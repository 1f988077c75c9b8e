#pragma once

#include "core/worker.h"
#include "driver/driver.h"

/* The answer to Driver.probe() of a driver that knows it at once: given in the next turn of the loop, never from inside
 * the call. *verdict is taken; one that is not set means that the driver works here. */
int probe_answer_later(const DriverHost *host, Error *verdict, GuestAnswer answer, void *userdata, Error *e);

/* A look that may wait for what it looks at, so that a worker has to take it. */
typedef struct ProbeLook {
        const char *what;       /* for messages: "probing KVM" */
        WorkerRun run;          /* its input is the DriverHost, read only; what it fails of is the verdict */
        uint64_t deadline_usec; /* relative */
        const char *too_late;   /* the verdict when it exceeds that */
        /* Before each answer, what run() has found: NULL when the driver does not work here. NULL: nobody asks. */
        void (*found)(const WorkerReply *reply);
} ProbeLook;

/* Driver.probe() by a worker. *look is static. On failure e is set and no answer comes. */
int probe_in_worker(const DriverHost *host, const ProbeLook *look, GuestAnswer answer, void *userdata, Error *e);
