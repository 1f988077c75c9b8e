/* What a hypervisor must be able to do. One const table per hypervisor, in a folder of its own; capability means that
 * the slot is not NULL.
 *
 * A Guest is the driver's part of one Domain, between start (or adoption) and its end:
 *
 *   NEW --start()/adopt()--> STARTING --started(NULL)--> UP --stop()--> STOPPING --stopped()--> (guest_free)
 *                               |  started(e)             | ended(): no longer executing; the engine then calls
 *                               v                         v reset() (restart) or stop() (destroy)
 *                             (guest_free)               UP
 *
 * All callbacks come from the event loop, never from inside the call that they answer, and may free the Guest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "core/domain.h"
#include "guest/boot-loaders.h"
#include "guest/console.h"
#include "guest/files.h"

typedef struct Driver Driver;
typedef struct Guest Guest;

/* What the administrator may decide about drivers: part of the daemon's configuration. A driver takes what is its own.
 */
typedef struct DriverSettings {
        BootLoaders boot_loaders;   /* beside pygrub, which is always known */
        uint64_t boot_loader_usec;  /* how long one may take, a person's choice from its menu included */
        char xen_device_model[256]; /* absolute path of the program; "": where Xen's QEMU is usually installed */
        char xen_stub_domain[256];  /* absolute path of the directory with its image; "": where it is usually installed
                                     */
} DriverSettings;
#define DRIVER_SETTINGS_DEFAULT ((DriverSettings){ .boot_loader_usec = 60 * 1000000ULL })

/* What the daemon gives to every driver. */
typedef struct DriverHost {
        sd_event *event;
        bool privileged; /* system scope */
        int domains_fd;  /* the directory that holds one directory per domain, 0700, the daemon's */
        const Limits *limits;
        const DriverSettings *settings;
} DriverHost;

typedef struct GuestEvents {
        /* The guest's process exists and waits, guest->domain->process is set: record it. Failure makes the start fail
         * with e. */
        int (*record)(Guest *g, Error *e);
        /* The answer to start() and adopt(): up and confirmed, or failed and all of it gone. */
        void (*started)(Guest *g, const Error *e);
        /* Once, from start() or between it and started(): there is something on the console that waits for a person,
         * the menu of its boot loader. The domain is shown from now on, may be attached to, and may be destroyed. */
        void (*asking)(Guest *g);
        /* The guest was paused or resumed, by us or by itself. */
        void (*paused)(Guest *g, bool paused);
        /* The guest ended: END_POWEROFF, END_REBOOT (only with on_reboot=destroy) or END_CRASH. text is for people. The
         * process may still be there. Once. */
        void (*ended)(Guest *g, EndReason reason, const char *text);
        /* The answer to stop(): nothing of it is left. */
        void (*stopped)(Guest *g);
        /* The namespaces, user and network, of the network of its nic-th interface, for a driver that attaches_nics. */
        int (*namespaces)(Guest *g, size_t nic, int *ret_user_fd, int *ret_net_fd, Error *e);
} GuestEvents;

/* The answer to a request to a live guest. fd is -1 where the request gives none; else the callee's. Once per request,
 * also when the guest goes. */
typedef void (*GuestAnswer)(void *userdata, int fd, const Error *e);

/* Embedded first in each driver's own struct. */
struct Guest {
        const Driver *driver;
        const DriverHost *host;
        Domain *domain;
        const GuestEvents *events;
        void *userdata;
        int dir_fd;       /* the domain's own directory; the engine's */
        Console *console; /* the engine's; the driver sets its source */
        GuestFiles files; /* opened as the caller; the driver closes them once they are passed on; empty when adopted */
        int taps[NICS_PER_DOMAIN_MAX]; /* one per spec.nics, -1 when closed or passed on */
        size_t n_taps;
};

/* Something that a probe has found, for people. */
typedef struct DriverFact {
        const char *name; /* "memory" */
        const char *text; /* "1.2 GiB free of 4 GiB" */
        const char *cure; /* how to mend it; "": nothing is wrong */
} DriverFact;

struct Driver {
        const char *name;   /* "qemu" */
        bool attaches_nics; /* by itself, through events->namespaces(): no taps are made for its guests */

        /* Does it work here? Answers once through answer() (fd -1): e NULL, or ERROR_NOT_SUPPORTED with the reason and,
         * where known, the cure. Asynchronous, with its own deadline; asked once at daemon start and on demand. Ends in
         * at most ten seconds. */
        int (*probe)(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e);
        /* What the last probe has found: by index, 0, or -ENOENT past the last. The texts are good until the next probe
         * ends. NULL: nothing but whether it works. */
        int (*describe)(size_t index, DriverFact *ret);

        /* The emulators of its guests, for people who ask what is there: by index, 1 with the architecture and the path
         * (the caller's), 0 when that one is not installed, -ENOENT past the last. NULL: its guests have none, or
         * another driver's. */
        int (*emulator)(size_t index, const char **ret_arch, char **ret_path);

        /* Can this domain run here? Synchronous, no side effect: emulator for spec->arch installed, firmware found,
         * keys that it does not know. */
        int (*check)(const DriverHost *host, const DomainSpec *spec, Error *e);

        /* Make the struct with an embedded Guest, zeroed; free it in any state but STARTING and STOPPING, and in any
         * when the daemon ends: what runs goes on. Free closes files and taps, does not touch console. */
        int (*new)(Guest **ret);
        Guest *(*free)(Guest *g);

        /* Start; NEW -> STARTING. On failure of the call nothing has happened and no callback comes. */
        int (*start)(Guest *g, Error *e);
        /* May there be something of a domain that has no process recorded? NULL: a guest is its process. Only for a
         * former daemon's domains; then adopt() is called, also when it was being created or destroyed, and stop(). */
        bool (*present)(const DriverHost *host, const Domain *d);
        /* Take over a running guest of a former daemon from domain->process and the domain's directory. started()
         * tells. An ended() may follow at once. NULL: the driver is not really there, and its domains are left as they
         * are; so they are when the call fails, of a driver that has present(): else the process is killed. */
        int (*adopt)(Guest *g, Error *e);
        /* End it now, STARTING or UP -> STOPPING; stopped() tells; started() comes no more. Twice is harmless. */
        void (*stop)(Guest *g);
        /* A guest that ended with its process still there: boot it again. UP -> UP. */
        int (*reset)(Guest *g, GuestAnswer answer, void *userdata, Error *e);

        int (*pause)(Guest *g, GuestAnswer answer, void *userdata, Error *e);
        int (*resume)(Guest *g, GuestAnswer answer, void *userdata, Error *e);
        int (*shutdown)(Guest *g, GuestAnswer answer, void *userdata, Error *e);   /* asks the guest politely (ACPI) */
        int (*screenshot)(Guest *g, GuestAnswer answer, void *userdata, Error *e); /* a file that is a PNG */
        int (*open_vnc)(Guest *g, GuestAnswer answer, void *userdata, Error *e);   /* a stream socket that speaks RFB */
        int (*open_agent)(Guest *g, GuestAnswer answer, void *userdata,
                          Error *e); /* a stream socket to the guest agent's port */
};

/* Every driver that is built in, best first, ended by NULL: kvm, qemu (null only with --driver-null, for tests). */
extern const Driver kvm_driver, qemu_driver, null_driver;
