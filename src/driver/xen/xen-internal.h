/* What the files of this driver share: one guest, and who may move it from state to state. */
#pragma once

#include <sys/queue.h>

#include "driver/driver.h"
#include "driver/xen/gate.h"
#include "driver/xen/hypervisor.h"
#include "driver/xen/mirror.h"
#include "driver/xen/model.h"
#include "driver/xen/stub.h"
#include "driver/xen/work.h"
#include "guest/boot-loader.h"

typedef enum XenState {
        XEN_NEW,
        XEN_ADOPTING, /* found: started() comes from the loop */
        XEN_OPENING,  /* a boot anew: its files are being opened */
        XEN_LOADING,  /* of a guest with a boot loader: its domain is made, then the loader runs */
        XEN_BUILDING,
        XEN_JOINING, /* its interfaces are being connected, one after the other */
        XEN_MODEL,   /* its device model is being started */
        XEN_UP,
        XEN_CLEARING, /* a boot anew: the former one is being removed */
        XEN_FAILING,  /* what there is of it is being removed; then started(e), or ended() when it was up before */
        XEN_STOPPING, /* being removed; then stopped() */
        XEN_GONE,
        XEN_STATE_COUNT
} XenState;

typedef struct XenAnswer XenAnswer;

typedef struct XenGuest {
        Guest guest; /* first */
        XenState state;
        bool linked;
        bool booting_again; /* between the end of one boot and the next */
        bool ended;         /* ended() has been called, or will be from the loop */
        bool paused;
        MachineType type;
        uint32_t id; /* 0: none */
        Error error; /* why it is FAILING */

        /* What a boot needs. */
        int namespaces[NICS_PER_DOMAIN_MAX][ENTER_COUNT];
        FilesJob files_job;
        BootLoaderJob loader;
        char mirror_name[MIRROR_NAME_MAX]; /* "": the one who builds the guest makes one */
        Worker worker;
        int before; /* pidfd of the last worker; -1 */
        unsigned attempts;
        union {
                StartWork start;
                StubWork stub;
                JoinWork join;
                ClearWork clear;
        } work;
        size_t joined;
        int loops[DISKS_PER_DOMAIN_MAX]; /* until the backend has surely opened them: for good */
        size_t n_loops;
        Mirror *mirror;
        Model model; /* where there is one: model_wanted(), unless: */
        Stub stub;
        int stub_kernel, stub_initrd; /* while it is being made */
        sd_event_source *linger;
        bool lingered;

        /* What the loop does next: callbacks that may not come from inside a call. */
        sd_event_source *later;
        sd_event_source *again; /* when xenstored is asked again, before an adoption, or a removal begun again */
        bool asked;             /* in vain, and that is logged */
        bool later_ended, later_paused;
        EndReason end_reason;
        const char *end_text; /* static, or: */
        char *end_words;
        GateList viewers; /* those who are asked for a password */
        XenAnswer *answers;
        unsigned n_requests; /* of the model, ever */
        GuestAnswer reset;   /* who asked for the boot anew; NULL: the guest itself */
        void *reset_userdata;

        LIST_ENTRY(XenGuest) entry;
} XenGuest;

static inline XenGuest *xen_guest(Guest *g) {
        return container_of(g, XenGuest, guest);
}

/* Its device model runs in a domain of its own. */
static inline bool xen_guest_has_stub(const XenGuest *x) {
        return x->guest.domain->spec.stub_domain;
}

/* guest.c */
int xen_guest_new(Guest **ret);
Guest *xen_guest_free(Guest *g);
int xen_guest_start(Guest *g, Error *e);
int xen_guest_adopt(Guest *g, Error *e);
void xen_guest_stop(Guest *g);
/* Its domain may have ended: look. From the loop. */
void xen_guest_look(XenGuest *x);
void xen_guest_boot_again(XenGuest *x);
void xen_guest_do_later(XenGuest *x);
void xen_guest_set_state(XenGuest *x, XenState next);
/* Start the guest's one worker on x->work. */
int xen_guest_work(XenGuest *x, const char *what, WorkerRun run,
                   void (*done)(Worker *w, WorkerReply *reply, const Error *e), const int *keep, size_t n_keep,
                   uint64_t deadline_usec, Error *e);
/* Takes the descriptors: xl console sees the console from now on. */
void xen_guest_set_mirror(XenGuest *x, MirrorTerminal *mirror);
/* Takes the descriptors. */
int xen_guest_set_console(XenGuest *x, int terminal, MirrorTerminal *mirror, Error *e);
/* A boot is over, well or not: both tell whoever waits. fail() takes *why. */
void xen_guest_booted(XenGuest *x);
void xen_guest_fail(XenGuest *x, Error *why);

/* boot.c */
/* Build it, from the files that are open, to xen_guest_booted() or xen_guest_fail(); sets the state. */
int xen_boot(XenGuest *x, Error *e);
/* Its device model is there, or not: on with the boot. */
void xen_boot_modelled(XenGuest *x, const Error *failure);
void xen_boot_anew(XenGuest *x); /* the same after the former boot's domain has gone; opens the files if need be */

/* requests.c */
int xen_guest_pause(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int xen_guest_resume(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int xen_guest_shutdown(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int xen_guest_reset(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int xen_guest_screenshot(Guest *g, GuestAnswer answer, void *userdata, Error *e);
int xen_guest_open_vnc(Guest *g, GuestAnswer answer, void *userdata, Error *e);
/* Answer one of those that wait; false: none does. */
bool xen_answer_one(XenGuest *x, const Error *e);

/* link.c: the daemon's own connections, one for all guests. The first user opens them, the last one closes them. */
int xen_link_get(const DriverHost *host, Error *e);
void xen_link_put(void);
Xen *xen_link_xen(void);
XenStore *xen_link_store(void);
/* Told of ends from now on. */
void xen_link_add(XenGuest *x);
void xen_link_remove(XenGuest *x);
