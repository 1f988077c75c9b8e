/* What the tests of drivers share: a guest of some driver in a directory of its own, and a loop that waits, with a
 * deadline, for what its callbacks say. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "driver/driver.h"

typedef struct Harness {
        sd_event *event;
        Limits limits;
        DriverSettings settings;
        DriverHost host;
        char directory[64];
        bool keep_directory;
} Harness;

typedef struct Run {
        Harness *harness;
        Domain domain;
        Owner owner;
        Guest *guest;
        int log_fd;
        bool fail_record;
        /* What has been said. */
        unsigned recorded, started, stopped, ended, paused_calls, answers, asked;
        bool start_failed, paused, answer_failed;
        ErrorId error_id;
        EndReason reason;
        char text[2048]; /* of the last error or end */
        int fd;          /* of the last answer */
} Run;

void harness_begin(Harness *h);
void harness_end(Harness *h);

/* A domain of that driver, not started. spec's content is taken. */
void run_begin(Run *r, Harness *h, const Driver *driver, const char *name, DomainSpec *spec);
/* A second daemon: the same domain and directory, a new guest. */
void run_renew(Run *r, const Driver *driver);
/* Let go of the guest as a daemon does that ends. */
void run_forget(Run *r);
void run_end(Run *r);

/* Turn the loop until *counter has reached wanted, for at most that many seconds; false when it has not. */
bool run_until(Run *r, const unsigned *counter, unsigned wanted, unsigned seconds);
/* Turn the loop for so long. */
void run_for(Run *r, unsigned milliseconds);

/* start() and started(NULL), else a failed test. */
void run_start(Run *r);
/* stop() and stopped(), after which neither a process nor a socket is left. */
void run_stop(Run *r);
/* Call a request's slot and wait for its answer. */
typedef int (*Request)(Guest *g, GuestAnswer answer, void *userdata, Error *e);
void run_request(Run *r, Request request);
void run_answer(void *run, int fd, const Error *e);

bool run_alive(const Run *r);
/* Does the console log hold this text, within that time? */
bool run_console_has(Run *r, const char *text, unsigned seconds);
/* No file but the log is left in its directory. */
void run_check_clean(Run *r);
