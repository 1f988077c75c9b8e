/* Requests to a guest that is up. Pausing and resuming are one hypercall each, shutting down is one word in the store,
 * which the guest reads and may ignore, or the press of a button; their answers come from the loop. */
#include <errno.h>
#include <stdlib.h>

#include <xenctrl.h>
#include <xenstore.h>

#include <xen/hvm/params.h>

#include "base/fd.h"
#include "driver/screen.h"
#include "driver/xen/model-args.h"
#include "driver/xen/picture.h"
#include "driver/xen/xen-internal.h"

struct XenAnswer {
        GuestAnswer answer;
        void *userdata;
        int fd; /* that the answer gives; -1 */
        XenAnswer *next;
};

bool xen_answer_one(XenGuest *x, const Error *e) {
        XenAnswer *first = x->answers;

        if (!first)
                return false;
        XenAnswer copy = *first;
        x->answers = first->next;
        free(first);
        if (e)
                fd_drop(&copy.fd);
        copy.answer(copy.userdata, copy.fd, e);
        return true;
}

/* Takes fd, also on failure. */
static int add_answer(XenGuest *x, GuestAnswer answer, void *userdata, int fd, Error *e) {
        XenAnswer *a = malloc(sizeof *a);
        if (!a) {
                fd_drop(&fd);
                return error_set_errno(e, ENOMEM, "Failed to ask domain %s", x->guest.domain->name);
        }

        *a = (XenAnswer){ answer, userdata, fd, x->answers };
        x->answers = a;
        xen_guest_do_later(x);
        return 0;
}

static int check_up(XenGuest *x, Error *e) {
        if (x->state == XEN_ADOPTING)
                return error_set(e, ERROR_INVALID_STATE, "Domain %s is not taken over yet: does xenstored answer?",
                                 x->guest.domain->name);
        if (x->state != XEN_UP)
                return error_set(e, ERROR_INVALID_STATE, "Domain %s is not running", x->guest.domain->name);
        if (x->ended)
                return error_set(e, ERROR_INVALID_STATE, "The guest of domain %s has ended", x->guest.domain->name);
        return 0;
}

/* Xen counts pauses: never more than one of ours. */
static int set_paused(Guest *g, bool paused, GuestAnswer answer, void *userdata, Error *e) {
        XenGuest *x = xen_guest(g);
        xc_interface *xc = xen_link_xen()->xc;
        int r = check_up(x, e);

        if (r < 0)
                return r;
        if (x->paused != paused) {
                if ((paused ? xc_domain_pause(xc, x->id) : xc_domain_unpause(xc, x->id)) != 0)
                        return xen_fail(xen_link_xen(), e,
                                        paused ? "Failed to pause the guest" : "Failed to resume the guest");
                x->paused = paused;
                x->later_paused = true;
        }
        return add_answer(x, answer, userdata, -1, e);
}

int xen_guest_pause(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        return set_paused(g, true, answer, userdata, e);
}

int xen_guest_resume(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        return set_paused(g, false, answer, userdata, e);
}

/* ---- the screen ---- */

static int ask_screen(Guest *g, int (*what)(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e),
                      GuestAnswer answer, void *userdata, Error *e) {
        XenGuest *x = xen_guest(g);
        int r = check_up(x, e);

        if (r < 0)
                return r;
        if (!model_has_screen(x->type, &g->domain->spec))
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "A Xen guest of type %s has a screen only when it is created with a vnc_password",
                                 machine_type_name(x->type));
        if (!model_qmp(&x->model))
                return error_set(e, ERROR_INVALID_STATE, "The device model of domain %s is ending", g->domain->name);
        return what(model_qmp(&x->model), ++x->n_requests, answer, userdata, e);
}

/* Takes model_fd, on which the screen is shown to whoever comes; gives the viewer's. */
static int guard(XenGuest *x, int model_fd, int *ret_fd, Error *e) {
        const char *password = x->guest.domain->spec.vnc_password;

        if (password)
                return gate_open(&x->viewers, x->guest.host->event, model_fd, password, ret_fd, e);
        *ret_fd = model_fd;
        return 0;
}

static int open_stub_vnc(XenGuest *x, GuestAnswer answer, void *userdata, Error *e) {
        AUTO(fd_drop) int fd = -1;
        int r = check_up(x, e), model_fd;

        if (r >= 0)
                r = stub_open_vnc(&x->stub, &model_fd, e);
        if (r >= 0)
                r = guard(x, model_fd, &fd, e);
        return r < 0 ? r : add_answer(x, answer, userdata, fd_take(&fd), e);
}

/* One who waits for something of the screen. */
typedef struct Viewing {
        XenGuest *guest;
        GuestAnswer answer;
        void *userdata;
} Viewing;

static void screen_opened(void *userdata, int fd, const Error *failure) {
        Viewing v = *(Viewing *)userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        int viewer = -1;

        free(userdata);
        if (!failure && guard(v.guest, fd, &viewer, &e) < 0)
                failure = &e;
        v.answer(v.userdata, viewer, failure);
}

static void screen_shot(void *userdata, int fd, const Error *failure) {
        Viewing v = *(Viewing *)userdata;
        AUTO(fd_drop) int ppm = fd;
        AUTO(error_clear) Error e = ERROR_INIT;
        int png = -1;

        free(userdata);
        if (!failure && picture_convert(ppm, &png, &e) < 0)
                failure = &e;
        v.answer(v.userdata, png, failure);
}

static int view(Guest *g, int (*what)(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e),
                GuestAnswer then, GuestAnswer answer, void *userdata, Error *e) {
        Viewing *v = malloc(sizeof *v);

        if (!v)
                return error_set_errno(e, ENOMEM, "Failed to ask for the screen");
        *v = (Viewing){ xen_guest(g), answer, userdata };
        int r = ask_screen(g, what, then, v, e);
        if (r < 0)
                free(v);
        return r;
}

int xen_guest_screenshot(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        XenGuest *x = xen_guest(g);

        if (xen_guest_has_stub(x)) {
                int r = check_up(x, e);
                return r < 0 ? r : stub_shoot(&x->stub, answer, userdata, e);
        }
        return view(g, screen_shoot_ppm, screen_shot, answer, userdata, e);
}

int xen_guest_open_vnc(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        if (xen_guest_has_stub(xen_guest(g)))
                return open_stub_vnc(xen_guest(g), answer, userdata, e);
        return view(g, screen_open_vnc, screen_opened, answer, userdata, e);
}

/* ---- ends ---- */

static void fill_shutdown(XenStoreChange *c, const void *userdata) {
        change_write(c, userdata, "control/shutdown", "poweroff");
}

/* Does its kernel look into the store? Only one that has told Xen how to be interrupted. */
static bool reads_store(const XenGuest *x) {
        uint64_t interrupt = 0;

        if (x->type != MACHINE_HVM)
                return true;
        return model_offers_pv(&x->guest.domain->spec) &&
               xc_hvm_param_get(xen_link_xen()->xc, x->id, HVM_PARAM_CALLBACK_IRQ, &interrupt) == 0 && interrupt != 0;
}

/* Else it has a power button. */
int xen_guest_shutdown(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        XenGuest *x = xen_guest(g);
        char path[XEN_PATH_MAX];
        int r = check_up(x, e);

        if (r < 0)
                return r;
        if (reads_store(x))
                r = xenstore_change(xen_link_store(), fill_shutdown, entries_path(x->id, path), e);
        else if (xc_domain_send_trigger(xen_link_xen()->xc, x->id, XEN_DOMCTL_SENDTRIGGER_POWER, 0) != 0)
                r = xen_fail(xen_link_xen(), e, "Failed to press the guest's power button");
        return r < 0 ? r : add_answer(x, answer, userdata, -1, e);
}

/* Whether it has ended or not: it boots anew. */
int xen_guest_reset(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        XenGuest *x = xen_guest(g);

        if (x->booting_again)
                return error_set(e, ERROR_BUSY, "Domain %s is being reset", g->domain->name);
        if (x->state != XEN_UP)
                return error_set(e, ERROR_INVALID_STATE, "Domain %s is not running", g->domain->name);
        if (x->paused) {
                x->paused = false;
                x->later_paused = true;
                xen_guest_do_later(x);
        }
        x->later_ended = false;
        x->reset = answer;
        x->reset_userdata = userdata;
        xen_guest_boot_again(x);
        return 0;
}
