/* What the files of this driver share: one guest, and who may move it from state to state. */
#pragma once

#include "core/process.h"
#include "core/spawn.h"
#include "driver/driver.h"
#include "driver/qemu/args.h"
#include "driver/qmp.h"
#include "driver/words.h"
#include "guest/boot-loader.h"
#include "guest/jail.h"

#define QMP_SOCKET   "qmp.sock"
#define AGENT_SOCKET "agent.sock"
#define CONSOLE_IN   "console.in"
#define CONSOLE_OUT  "console.out"
#define STDERR_FIFO  "stderr"

typedef enum QemuState {
        QEMU_NEW,
        QEMU_LOADING,  /* its boot loader runs */
        QEMU_SPAWNING, /* forked, on its way to exec */
        QEMU_GREETING, /* waiting for its monitor */
        QEMU_SETTING,  /* it answers: being set up, or asked how it is */
        QEMU_UP,
        QEMU_FAILING,  /* the start failed: waiting for its end, then started(e) */
        QEMU_STOPPING, /* killed: waiting for its end, then stopped() */
        QEMU_GONE,
        QEMU_STATE_COUNT
} QemuState;

typedef struct QemuRequest QemuRequest;

typedef struct QemuGuest {
        Guest guest; /* first */
        QemuState state;
        bool kvm, adopting;
        bool ended;  /* ended() has been called since the last boot */
        bool killed; /* by us, as its monitor was lost */
        Error error; /* why it is FAILING */

        /* The start. */
        BootLoaderJob loader;
        const Machine *machine;
        char *program;
        char *console_in_path, *console_out_path;
        char **argv;
        EmulatorFds fds;
        Jail jail;
        Spawn spawn;
        int listen_qmp, listen_agent, firmware_code, firmware_vars, stderr_fd;

        /* The process. */
        Process process;
        Words words;
        Qmp *qmp;
        sd_event_source
                *timer; /* the deadline of the start; later the time that a lost monitor has to explain itself */

        /* What the loop does next: callbacks that may not come from inside a call. */
        sd_event_source *later;
        bool later_paused, later_ended;
        EndReason end_reason;
        const char *end_text; /* static */

        /* Whether it is paused, as its events say: told at most once in a while, however fast they come. */
        bool paused, paused_untold;
        bool asking_status, ask_again; /* why it paused */
        sd_event_source *quiet;        /* until it passes nothing is told */

        QemuRequest *reset;        /* waits for the RESET event */
        sd_event_source *settling; /* a reset is over when this passes */
        unsigned n_requests;       /* ever, for names and numbers that must differ */
} QemuGuest;

static inline QemuGuest *qemu_guest(Guest *g) {
        return container_of(g, QemuGuest, guest);
}

void qemu_set_state(QemuGuest *q, QemuState next);

/* qemu-files.c: the things in the domain's directory. */

/* Make sockets and FIFOs and open the firmware, for a start; the console gets its source. */
int qemu_files_make(QemuGuest *q, Error *e);
/* Open the FIFOs of a running guest. */
int qemu_files_adopt(QemuGuest *q, Error *e);
/* Close the descriptors that the program has got. */
void qemu_files_passed(QemuGuest *q);
/* Close and unlink all of it; the console has no source any more. */
void qemu_files_remove(QemuGuest *q);

/* qemu-start.c */
int qemu_start(Guest *g, Error *e);
int qemu_adopt(Guest *g, Error *e);
void qemu_stop(Guest *g);
/* Forget everything without ending the guest, unless it is still on its way to exec. */
void qemu_release(QemuGuest *q);
/* Tell of the guest's end from the loop. text is static. */
void qemu_ended_later(QemuGuest *q, EndReason reason, const char *text);

/* qemu-requests.c */
void qemu_event(void *guest, const char *name, json_t *data);
void qemu_reset_gone(QemuGuest *q);
/* Nothing more is told of its being paused. */
void qemu_forget_paused(QemuGuest *q);
int qemu_pause(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int qemu_resume(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int qemu_shutdown(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int qemu_reset(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int qemu_screenshot(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int qemu_open_vnc(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int qemu_open_agent(Guest *g, GuestAnswer answer, void *userdata, Error *e);

/* {"reboot": what this domain wants}: for set-action. NULL without memory. */
json_t *qemu_reboot_action(const QemuGuest *q);
