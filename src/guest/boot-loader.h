/* A boot loader's run: a program that looks into a domain's first disk, lets a person choose in a menu on the domain's
 * console, and answers with a kernel, perhaps an initial RAM disk, and the kernel's arguments.
 *
 * Both the disk and what the loader makes of it are its owner's, so it has the owner's rights and no more: it runs as
 * the owner, in a jail (jail.h) that shows it itself, its interpreter, the libraries and the disk, and in which it can
 * write to a tmpfs of bounded size alone.
 *
 *   Idle --boot_loader_start()--> Active --answer, failure, deadline--> (done, Idle)
 *
 * Nothing of it outlives the job, or the daemon: no process, no file, no terminal. */
#pragma once

#include "core/worker.h"
#include "guest/boot-loaders.h"
#include "guest/console.h"

#define BOOT_OUTPUT_MAX (1ULL << 30)

/* Descriptors of files without a name, which nobody else can write to. */
typedef struct BootChoice {
        int kernel_fd, initrd_fd; /* -1: none, which a kernel never is */
        uint64_t kernel_size, initrd_size;
        char *cmdline; /* never NULL, may be empty */
} BootChoice;

typedef struct BootLoaderJob BootLoaderJob;
struct BootLoaderJob {
        /* In */
        const BootLoaders *known;
        const char *name;
        const char *disk;    /* for messages: its path as the caller gave it */
        int disk_fd;         /* raw, open for reading */
        const char *cmdline; /* what the user gives to the loader for the kernel; NULL: nothing */
        bool privileged;     /* become the owner first; else the daemon's own identity is the owner's */
        uid_t owner;
        uid_t jail_uid;         /* who it runs as when the owner is root */
        uint64_t output_max;    /* bytes that its output may take, in memory */
        Console *console;       /* the job sets its source; it has none afterwards */
        uint64_t deadline_usec; /* a person's time at the menu included; relative */
        Lingering lingering;    /* of the jail, when its owner traces what is in it */
        /* The callee takes the content of *choice; e names the loader, the disk, the cause and its last words. May free
         * the job. */
        void (*done)(BootLoaderJob *j, BootChoice *choice, const Error *e);
        void *userdata;

        /* Private. */
        char *path;
        int terminal;      /* the loader's side; -1 */
        uint64_t position; /* of the console, when it began */
        Worker worker;
};
void boot_loader_init(BootLoaderJob *j); /* Undefined -> Idle */
/* Idle -> Active. On failure stays Idle, e is set and no callback comes. */
int boot_loader_start(BootLoaderJob *j, sd_event *event, Error *e);
void boot_loader_stop(BootLoaderJob *j); /* any state -> Idle; kills; no callback comes */
