/* What is done for a guest in workers (core/worker.h): everything that waits, for Xen, for xenstored or for the kernel.
 * Each opens what it needs and leaves nothing open; what it began and could not finish, work_clear() removes, whoever
 * began it. */
#pragma once

#include "core/worker.h"
#include "driver/xen/entries.h"
#include "driver/xen/mirror.h"
#include "guest/files.h"
#include "net/enter.h"

/* From nothing to a guest that waits, paused, for its interfaces to join their networks. */
typedef struct StartWork {
        const Domain *domain;
        const GuestFiles *files;
        MachineType type;
        bool pv_devices;                   /* disks and interfaces for Xen's own drivers */
        int networks[NICS_PER_DOMAIN_MAX]; /* network namespaces, one per interface */
        uint64_t deadline_usec;            /* of each wait, shorter than the worker's: it knows what for */
        uint32_t id;                       /* not 0: work_enter() has made the domain */
        char mirror[MIRROR_NAME_MAX];      /* and this for its console; "": none is there yet */
} StartWork;
typedef struct StartWorkReply {
        uint32_t id;
} StartWorkReply;
enum { START_TERMINAL, START_MIRROR_OURS, START_MIRROR_THEIRS, START_LOOPS };
/* Descriptors of the reply: xenconsoled's terminal, ours and theirs of its mirror (mirror.h; not when there is one
 * already), then the loop devices of the disks. */
int work_start(void *start_work, WorkerReply *reply, Error *e);

/* The first part of it for a guest with a boot loader: a domain that Xen's tools know, with nothing in it, whose
 * console is a mirror's terminal. */
typedef struct EnterWorkReply {
        uint32_t id;
        char mirror[MIRROR_NAME_MAX];
} EnterWorkReply;
enum { ENTER_MIRROR_OURS, ENTER_MIRROR_THEIRS, ENTER_MIRRORS };
int work_enter(void *start_work, WorkerReply *reply, Error *e);

/* The domain of a guest's device model (stub.h), from nothing to a device model that says that it runs. The guest is
 * known to xenstored, and paused. */
typedef struct StubWork {
        const Domain *domain;
        const GuestFiles *files;         /* of the guest */
        uint32_t target;                 /* Xen's number of it */
        uint64_t memory;                 /* its, in bytes, without the screen's */
        int kernel, initrd;              /* of the stub domain */
        int disks[DISKS_PER_DOMAIN_MAX]; /* block devices, one per disk */
        int networks[NICS_PER_DOMAIN_MAX];
        uint64_t deadline_usec; /* of all of it, shorter than the worker's: it knows what the device model said */
} StubWork;
/* The reply is a StartWorkReply with xenconsoled's terminal. */
int work_stub(void *stub_work, WorkerReply *reply, Error *e);

/* As nobody but the network's owner: make an interface that is in its network already a port of the bridge there, and a
 * tap for the emulated one; the reply has its descriptor. */
typedef struct JoinWork {
        bool link, tap; /* which of them */
        uint32_t id;
        size_t nic;
        int namespaces[ENTER_COUNT];
        bool privileged;
        uid_t owner;
} JoinWork;
int work_join(void *join_work, WorkerReply *reply, Error *e);

/* Do Xen and xenstored answer? */
int work_ask(void *nothing, WorkerReply *reply, Error *e);

/* Remove whatever there is of a domain, and return when it is gone: in Xen, in the store, in the kernel.
 * Where xenstored does not answer, the domain goes all the same. */
typedef struct ClearWork {
        uint8_t uuid[DOMAIN_UUID_SIZE];
        int before; /* pidfd of the worker that was stopped for this one, whose last hypercall must be over first; -1 */
        int model;  /* pidfd of the device model, which has been killed; -1 */
        bool stub;  /* or it is in a domain, which goes, too */
        uint64_t deadline_usec;
} ClearWork;
int work_clear(void *clear_work, WorkerReply *reply, Error *e);
