/* How it works: one guest, from start or adoption to its end
 *
 *        start()             built            last interface joined (MODEL, perhaps), unpaused
 *   NEW ----------> BUILDING -------> JOINING ---------------------------------> UP
 *    |                 |  ^              |                                       |  | reset(), or its reboot
 *    | adopt()         |  +--------------|---------------- OPENING <--+          |  v
 *    +--> ADOPTING --> | ----------------|------------> UP            +----- CLEARING
 *                      | failure         | failure                    |
 *                      v                 v                            v failure
 *                    FAILING <-----------+----------------------------+
 *                      | all removed: started(e), or ended() of a guest that booted anew, which then is UP, with
 * nothing there
 *
 *   any of them --stop()--> STOPPING --all removed--> GONE
 *
 * A guest with a boot loader is LOADING before each BUILDING: its domain is made and entered first, so that xl console
 * has the loader's menu, too; then the loader runs.
 *
 * There is no process to a Xen guest: it is a domain in the hypervisor, and lives without us. What makes it known for
 * ever is its uuid, which is recorded before the domain is made. So whatever step fails, and whoever dies, one and the
 * same worker removes what there is under that uuid (work_clear()), and a new daemon finds it by the same (present(),
 * adopt()).
 *
 * A reboot is the removal of the domain and the making of another one. A mark in the domain's directory says that it is
 * under way: a daemon that finds it goes on with it. The files are kept open from one boot to the next; after an
 * adoption they are opened again, as the caller.
 *
 * A guest that has devices for which there is no backend in the kernel has a process as well, its device model
 * (model.h), which is recorded before it runs; its end is the guest's, and what removes the guest removes it.
 *
 * That model may be in a domain of its own instead (stub.h): the two belong together, and whichever ends ends the
 * other.
 *
 * One worker runs at a time. Callbacks to the engine are the last thing that a function does, since they may free the
 * guest. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/xen/console.h"
#include "driver/xen/model-args.h"
#include "driver/xen/xen-internal.h"

#define REBOOT_MARK        "rebooting"
#define CLEAR_USEC         (60 * USEC_PER_SEC)
#define CLEAR_ATTEMPTS_MAX 3
#define CLEAR_AGAIN_USEC   USEC_PER_SEC /* after a removal for which there was no process or descriptor to be had */
#define LINGER_USEC        (300 * USEC_PER_MSEC)
#define ASK_USEC           (5 * USEC_PER_SEC)
#define ASK_AGAIN_USEC     (2 * USEC_PER_SEC)

static const char *const state_names[] = {
        [XEN_NEW] = "new",         [XEN_ADOPTING] = "adopting", [XEN_OPENING] = "opening",
        [XEN_LOADING] = "loading", [XEN_BUILDING] = "building", [XEN_JOINING] = "joining",
        [XEN_UP] = "up",           [XEN_MODEL] = "model",       [XEN_CLEARING] = "clearing",
        [XEN_FAILING] = "failing", [XEN_STOPPING] = "stopping", [XEN_GONE] = "gone",
};
static_assert(ARRAY_LEN(state_names) == XEN_STATE_COUNT, "name missing");

#define TO(state) (1u << (state))
static const uint16_t UNUSED
next_states[XEN_STATE_COUNT] = {
        [XEN_NEW] = TO(XEN_ADOPTING) | TO(XEN_LOADING) | TO(XEN_BUILDING) | TO(XEN_STOPPING),
        [XEN_ADOPTING] = TO(XEN_UP) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_LOADING] = TO(XEN_BUILDING) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_OPENING] = TO(XEN_LOADING) | TO(XEN_BUILDING) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_BUILDING] = TO(XEN_JOINING) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_JOINING] = TO(XEN_MODEL) | TO(XEN_UP) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_MODEL] = TO(XEN_UP) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_UP] = TO(XEN_CLEARING) | TO(XEN_STOPPING),
        [XEN_CLEARING] = TO(XEN_OPENING) | TO(XEN_LOADING) | TO(XEN_BUILDING) | TO(XEN_FAILING) | TO(XEN_STOPPING),
        [XEN_FAILING] = TO(XEN_UP) | TO(XEN_STOPPING) | TO(XEN_GONE),
        [XEN_STOPPING] = TO(XEN_GONE),
};

void xen_guest_set_state(XenGuest *x, XenState next) {
        assert(next_states[x->state] & TO(next));

        log_write(LOG_DEBUG, LOG_FIELDS(.domain = x->guest.domain->name), "Xen guest of %s: %s -> %s",
                  x->guest.domain->name, state_names[x->state], state_names[next]);
        x->state = next;
}

/* ---- what a guest holds ---- */

static void drop_loops(XenGuest *x) {
        while (x->n_loops > 0)
                fd_drop(&x->loops[--x->n_loops]);
}

static void drop_namespaces(XenGuest *x) {
        for (size_t i = 0; i < NICS_PER_DOMAIN_MAX; i++)
                for (size_t k = 0; k < ENTER_COUNT; k++)
                        fd_drop(&x->namespaces[i][k]);
}

static void stop_work(XenGuest *x) {
        x->again = sd_event_source_disable_unref(x->again);
        worker_stop(&x->worker);
        files_stop(&x->files_job);
        boot_loader_stop(&x->loader);
}

static void drop_stub(XenGuest *x) {
        stub_disconnect(&x->stub);
        fd_drop(&x->stub_kernel);
        fd_drop(&x->stub_initrd);
        x->linger = sd_event_source_disable_unref(x->linger);
        x->lingered = false;
}

static void release(XenGuest *x) {
        stop_work(x);
        fd_drop(&x->before);
        x->mirror = mirror_free(x->mirror);
        gates_close(&x->viewers);
        model_clear(&x->model);
        drop_stub(x);
        drop_loops(x);
        drop_namespaces(x);
        guest_files_clear(&x->guest.files);
        if (x->linked) {
                xen_link_remove(x);
                xen_link_put();
                x->linked = false;
        }
}

static int link_up(XenGuest *x, Error *e) {
        int r = xen_link_get(x->guest.host, e);

        if (r < 0)
                return r;
        xen_link_add(x);
        x->linked = true;
        return 0;
}

static void model_confirmed(Model *m, const Error *failure);
static void model_ended(Model *m, const char *text);

int xen_guest_new(Guest **ret) {
        XenGuest *x = calloc(1, sizeof *x);
        if (!x)
                return -ENOMEM;

        x->before = -1;
        for (size_t i = 0; i < NICS_PER_DOMAIN_MAX; i++)
                for (size_t k = 0; k < ENTER_COUNT; k++)
                        x->namespaces[i][k] = -1;
        worker_init(&x->worker);
        model_init(&x->model);
        stub_init(&x->stub);
        x->stub.guest = &x->guest;
        x->stub_kernel = x->stub_initrd = -1;
        x->model.guest = &x->guest;
        x->model.confirmed = model_confirmed;
        x->model.ended = model_ended;
        files_init(&x->files_job);
        boot_loader_init(&x->loader);
        guest_files_init(&x->guest.files);
        *ret = &x->guest;
        return 0;
}

static void answer_gone(XenGuest *x) {
        AUTO(error_clear) Error gone = ERROR_INIT;

        error_set(&gone, ERROR_INVALID_STATE, "The guest of domain %s has gone", x->guest.domain->name);
        while (xen_answer_one(x, &gone))
                ;
        GuestAnswer reset = TAKE(x->reset);
        if (reset)
                reset(x->reset_userdata, -1, &gone);
}

Guest *xen_guest_free(Guest *g) {
        if (!g)
                return NULL;

        XenGuest *x = xen_guest(g);
        answer_gone(x);
        model_leave(&x->model); /* where there still is one, it is the daemon that ends, not the guest */
        release(x);
        x->later = sd_event_source_disable_unref(x->later);
        error_clear(&x->error);
        string_drop(&x->end_words);
        free(x);
        return NULL;
}

/* ---- what the loop does next ---- */

static void give_started(XenGuest *x, const Error *e) {
        x->guest.events->started(&x->guest, e);
}

static void finish_stop(XenGuest *x);

static int on_later(UNUSED sd_event_source *s, void *userdata) {
        XenGuest *x = userdata;
        const GuestEvents *events = x->guest.events;

        if (x->state == XEN_STOPPING) {
                if (x->worker.pidfd < 0 && !x->again)
                        finish_stop(x);
                return 0;
        }
        if (x->later_ended || x->later_paused || x->answers) /* one thing each turn, as any may free the guest */
                xen_guest_do_later(x);
        if (xen_answer_one(x, NULL))
                return 0;
        if (x->later_paused) {
                x->later_paused = false;
                events->paused(&x->guest, x->paused);
        } else if (x->later_ended) {
                x->later_ended = false;
                events->ended(&x->guest, x->end_reason, x->end_text);
        }
        return 0;
}

static int make_later(XenGuest *x) {
        int r = sd_event_add_defer(x->guest.host->event, &x->later, on_later, x);

        return r < 0 ? r : sd_event_source_set_enabled(x->later, SD_EVENT_OFF);
}

void xen_guest_do_later(XenGuest *x) {
        if (x->later || make_later(x) >= 0)
                (void)sd_event_source_set_enabled(x->later, SD_EVENT_ONESHOT);
}

static void end_later(XenGuest *x, EndReason reason, const char *text) {
        x->ended = x->later_ended = true;
        x->end_reason = reason;
        x->end_text = text;
        xen_guest_do_later(x);
}

/* ---- workers ---- */

int xen_guest_work(XenGuest *x, const char *what, WorkerRun run,
                   void (*done)(Worker *w, WorkerReply *r, const Error *e), const int *keep, size_t n_keep,
                   uint64_t deadline_usec, Error *e) {
        x->worker.what = what;
        x->worker.run = run;
        x->worker.input = &x->work;
        x->worker.keep = keep;
        x->worker.n_keep = n_keep;
        x->worker.deadline_usec = deadline_usec;
        x->worker.done = done;
        x->worker.userdata = x;
        /* A place for its pidfd is had before it runs: there is no removal that could not wait for it. */
        AUTO(fd_drop) int place = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        if (place < 0)
                return error_set_errno(e, errno, "cannot start %s", what);
        int r = worker_start(&x->worker, x->guest.host->event, e);
        if (r < 0)
                return r;
        if (dup3(x->worker.pidfd, place, O_CLOEXEC) >= 0) {
                fd_drop(&x->before);
                x->before = fd_take(&place);
        }
        return 0;
}

/* ---- the end ---- */

static void cleared(Worker *w, WorkerReply *reply, const Error *failure);

static int begin_clear(XenGuest *x, Error *e) {
        int before = x->before; /* until there is another worker */
        int keep[2];
        size_t n = 0;

        stop_work(x);
        gates_close(&x->viewers);
        model_end(&x->model);
        drop_stub(x); /* its domain does not go while we share its memory */
        x->mirror = mirror_free(x->mirror);
        *x->mirror_name = '\0';
        if (x->guest.console)
                console_set_source(x->guest.console, -1, -1);
        drop_loops(x);
        x->id = 0;
        x->work.clear = (ClearWork){ .before = before,
                                     .model = model_pidfd(&x->model),
                                     .stub = xen_guest_has_stub(x),
                                     .deadline_usec = CLEAR_USEC };
        memcpy(x->work.clear.uuid, x->guest.domain->uuid, sizeof x->work.clear.uuid);
        if (before >= 0)
                keep[n++] = before;
        if (x->work.clear.model >= 0)
                keep[n++] = x->work.clear.model;
        return xen_guest_work(x, "removing a Xen guest", work_clear, cleared, keep, n, CLEAR_USEC, e);
}

static int on_clear_again(sd_event_source *s, uint64_t usec, void *userdata);

/* Now, or as soon as the host has what it takes. */
static int clear_soon(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (begin_clear(x, &e) >= 0)
                return 0;
        log_write(LOG_ERR, LOG_FIELDS(.domain = x->guest.domain->name),
                  "Failed to begin to remove domain %s from Xen: %s, trying again", x->guest.domain->name,
                  error_text(&e));
        return sd_event_add_time_relative(x->guest.host->event, &x->again, CLOCK_MONOTONIC, CLEAR_AGAIN_USEC, 0,
                                          on_clear_again, x);
}

static void finish_stop(XenGuest *x) {
        const GuestEvents *events = x->guest.events;

        release(x);
        answer_gone(x);
        xen_guest_set_state(x, XEN_GONE);
        events->stopped(&x->guest);
}

static void unmark_reboot(XenGuest *x) {
        if (unlinkat(x->guest.dir_fd, REBOOT_MARK, 0) < 0 && errno != ENOENT)
                log_write(LOG_WARNING, LOG_FIELDS(.domain = x->guest.domain->name),
                          "Failed to unmark the reboot of domain %s: %s, ignoring", x->guest.domain->name,
                          strerror(errno));
}

/* Nothing of it is left after a failure. */
static void finish_failure(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;

        error_move(&e, &x->error);
        if (!x->booting_again) {
                release(x);
                xen_guest_set_state(x, XEN_GONE);
                give_started(x, &e);
                return;
        }
        unmark_reboot(x);
        x->booting_again = false;
        xen_guest_set_state(x, XEN_UP);
        x->ended = true;
        log_write(LOG_WARNING, LOG_FIELDS(.domain = x->guest.domain->name), "Failed to boot domain %s again: %s",
                  x->guest.domain->name, error_text(&e));
        GuestAnswer reset = TAKE(x->reset);
        if (!reset) {
                x->guest.events->ended(&x->guest, END_CRASH, error_text(&e));
                return;
        }
        end_later(x, END_CRASH, "the guest could not be booted again"); /* whoever asked need not be the engine */
        reset(x->reset_userdata, -1, &e);
}

/* Takes *why. */
void xen_guest_fail(XenGuest *x, Error *why) {
        error_move(&x->error, why);
        xen_guest_set_state(x, XEN_FAILING);
        x->attempts = 0;
        if (clear_soon(x) < 0)
                finish_failure(x);
}

/* Nothing is left, or nothing more can be done about it. */
static void finish_clear(XenGuest *x, const Error *failure) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (failure)
                log_write(LOG_ERR, LOG_FIELDS(.domain = x->guest.domain->name),
                          "Failed to remove domain %s from Xen: %s", x->guest.domain->name, error_text(failure));
        model_clear(&x->model);
        if (x->state == XEN_STOPPING)
                finish_stop(x);
        else if (x->state == XEN_FAILING)
                finish_failure(x);
        else if (error_copy(&e, failure) < 0)
                xen_guest_fail(x, &e);
        else
                xen_boot_anew(x);
}

static void cleared(Worker *w, UNUSED WorkerReply *reply, const Error *failure) {
        XenGuest *x = w->userdata;

        if (!failure || ++x->attempts >= CLEAR_ATTEMPTS_MAX || clear_soon(x) < 0)
                finish_clear(x, failure);
}

static int on_clear_again(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        XenGuest *x = userdata;
        int r = clear_soon(x);

        if (r < 0) {
                AUTO(error_clear) Error e = ERROR_INIT;

                error_set_errno(&e, r, "cannot try again");
                finish_clear(x, &e);
        }
        return 0;
}

/* Where there is not even a timer to be had for another attempt, the guest is given up: its record goes, the error is
 * logged. */
void xen_guest_stop(Guest *g) {
        XenGuest *x = xen_guest(g);

        if (x->state == XEN_STOPPING || x->state == XEN_GONE)
                return;
        xen_guest_set_state(x, XEN_STOPPING);
        x->later_ended = x->later_paused = false;
        x->attempts = 0;
        if (clear_soon(x) < 0)
                xen_guest_do_later(x);
}

/* ---- the beginning ---- */

/* No more than a comfort: without it goes on what can. */
void xen_guest_set_mirror(XenGuest *x, MirrorTerminal *mirror) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (mirror->ours >= 0 && mirror_start(x->guest.host->event, x->guest.console, mirror, &x->mirror, &e) < 0)
                log_write(LOG_WARNING, LOG_FIELDS(.domain = x->guest.domain->name),
                          "xl console will not see domain %s: %s, ignoring", x->guest.domain->name, error_text(&e));
}

int xen_guest_set_console(XenGuest *x, int terminal, MirrorTerminal *mirror, Error *e) {
        int r = console_set_source(x->guest.console, terminal, terminal);

        if (r < 0) {
                mirror_terminal_drop(mirror);
                return error_set_errno(e, r, "Failed to read the guest's console");
        }
        xen_guest_set_mirror(x, mirror);
        return 0;
}

static MachineType wanted_type(const Domain *d) {
        return d->spec.type == MACHINE_DEFAULT ? MACHINE_PVH : d->spec.type;
}

int xen_guest_start(Guest *g, Error *e) {
        XenGuest *x = xen_guest(g);

        x->type = wanted_type(g->domain);
        int r = link_up(x, e);
        if (r >= 0)
                r = xen_boot(x, e);
        if (r < 0)
                release(x);
        return r;
}

static void look_at_stub(XenGuest *x);

/* Its stub domain may have ended meanwhile, when nobody was interested. */
void xen_guest_booted(XenGuest *x) {
        xen_guest_set_state(x, XEN_UP);
        if (!x->booting_again) {
                look_at_stub(x);
                give_started(x, NULL);
                return;
        }
        unmark_reboot(x);
        x->booting_again = x->ended = false;
        look_at_stub(x);
        GuestAnswer reset = TAKE(x->reset);
        if (reset)
                reset(x->reset_userdata, -1, NULL);
}

void xen_guest_boot_again(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(fd_drop)
        int mark = openat(x->guest.dir_fd, REBOOT_MARK, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        x->booting_again = true;
        x->attempts = 0;
        xen_guest_set_state(x, XEN_CLEARING);
        if (mark < 0)
                error_set_errno(&e, errno, "Failed to mark the reboot of domain %s", x->guest.domain->name);
        if (mark < 0 || begin_clear(x, &e) < 0)
                xen_guest_fail(x, &e);
}

static int on_linger(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        XenGuest *x = userdata;

        x->lingered = true;
        xen_guest_look(x);
        return 0;
}

/* What a guest has printed last may still be on its way through its stub domain: true when it is to be waited for. */
static bool lingers(XenGuest *x) {
        if (x->stub.id == 0 || x->lingered)
                return false;
        return x->linger || sd_event_add_time_relative(x->guest.host->event, &x->linger, CLOCK_MONOTONIC, LINGER_USEC,
                                                       0, on_linger, x) >= 0;
}

/* The guest cannot go on without it. */
static void look_at_stub(XenGuest *x) {
        XenEnd end = XEN_ALIVE;
        uint8_t uuid[DOMAIN_UUID_SIZE];

        if (x->stub.id == 0)
                return;
        stub_uuid(x->guest.domain->uuid, uuid);
        int r = xen_look(xen_link_xen(), x->stub.id, uuid, &end);
        if (r != -ESRCH && end == XEN_ALIVE)
                return;
        AUTO(string_drop) char *words = stub_last_words(&x->stub);
        string_drop(&x->end_words);
        x->end_words = string_printf("the device model's domain ended%s%s", words ? ": " : "", string_or(words, ""));
        end_later(x, END_CRASH, string_or(x->end_words, "the device model's domain ended"));
}

void xen_guest_look(XenGuest *x) {
        XenEnd end = XEN_ALIVE;

        if (x->state != XEN_UP || x->ended)
                return;
        int r = xen_look(xen_link_xen(), x->id, x->guest.domain->uuid, &end);
        if (r >= 0 && end == XEN_ALIVE) {
                look_at_stub(x);
                return;
        }
        if (lingers(x))
                return;
        if (r == -ESRCH || end == XEN_DYING)
                end_later(x, END_CRASH, "the domain was destroyed in Xen, by somebody else");
        else if (end == XEN_POWEROFF)
                end_later(x, END_POWEROFF, "the guest powered itself off");
        else if (end == XEN_CRASH)
                end_later(x, END_CRASH, "the guest crashed");
        else if (end == XEN_REBOOT && x->guest.domain->spec.on_reboot == END_RESTART) {
                if (x->guest.console)
                        console_note(x->guest.console, "rebooting");
                xen_guest_boot_again(x);
        } else if (end == XEN_REBOOT)
                end_later(x, END_REBOOT, "the guest rebooted");
}

/* ---- its device model ---- */

static bool has_model(const XenGuest *x) {
        return model_wanted(x->type, &x->guest.domain->spec);
}

static void adoption_done(XenGuest *x);

static void model_confirmed(Model *m, const Error *failure) {
        XenGuest *x = container_of(m, XenGuest, model);
        AUTO(error_clear) Error e = ERROR_INIT;

        if (x->state != XEN_ADOPTING)
                xen_boot_modelled(x, failure);
        else if (x->id == 0) /* adopted() will see */
                return;
        else if (error_copy(&e, failure) < 0)
                xen_guest_fail(x, &e);
        else
                adoption_done(x);
}

/* The guest cannot go on without it. */
static void model_ended(Model *m, const char *text) {
        XenGuest *x = container_of(m, XenGuest, model);

        if (x->state != XEN_UP || x->ended)
                return;
        x->ended = true;
        x->guest.events->ended(&x->guest, END_CRASH, text);
}

/* ---- adoption ---- */

static void ask_again_later(XenGuest *x, const Error *why);

/* What a guest that is taken over may be without. */
static void warn_of_console(const XenGuest *x, const char *what, const Error *why) {
        log_write(LOG_WARNING, LOG_FIELDS(.domain = x->guest.domain->name),
                  "%s of domain %s cannot be read: %s, ignoring", what, x->guest.domain->name, error_text(why));
}

/* xenconsoled may have been started anew since, or not be there. */
static int open_source(const XenGuest *x, const char *uuid, char **ret_name, Error *e) {
        AUTO(string_drop) char *name = NULL, *identity = NULL;
        int fd = -1;
        int r = mirror_find_source(xen_link_store(), x->id, uuid, &name, &identity);

        if (r < 0)
                return error_set_errno(e, r, "The store does not name it");
        r = xen_console_open(name, identity, &fd, e);
        if (r < 0)
                return r;
        *ret_name = TAKE(name);
        return fd;
}

static void adopt_console(XenGuest *x) {
        AUTO(string_drop) char *source = NULL;
        AUTO(error_clear) Error e = ERROR_INIT, late = ERROR_INIT;
        MirrorTerminal mirror = MIRROR_TERMINAL_NONE;
        char uuid[DOMAIN_UUID_TEXT_MAX];

        domain_uuid_format(x->guest.domain->uuid, uuid);
        int fd = open_source(x, uuid, &source, &e);
        if (fd < 0)
                warn_of_console(x, "The console", &e);
        error_clear(&e);
        if (mirror_make(xen_link_store(), x->id, uuid, source, fd, &mirror, &late) < 0)
                log_warning("xl console will not see domain %s: %s, ignoring", x->guest.domain->name,
                            error_text(&late));
        if (xen_guest_set_console(x, fd < 0 ? -1 : fd, &mirror, &e) < 0)
                warn_of_console(x, "The console", &e);
}

static int adopt_stub(XenGuest *x, uint32_t id, Error *e) {
        AUTO(string_drop) char *terminal = NULL;
        AUTO(error_clear) Error late = ERROR_INIT;
        char path[XEN_PATH_MAX + 16], directory[XEN_PATH_MAX];
        int fd = -1;

        snprintf(path, sizeof path, "%s/console/tty", entries_path(id, directory));
        int r = xenstore_read(xen_link_store(), path, &terminal);
        if (r < 0)
                error_set_errno(&late, r, "The store does not name it");
        else
                r = xen_console_open(terminal, NULL, &fd, &late);
        if (r < 0)
                warn_of_console(x, "The device model's log", &late);
        return stub_connect(&x->stub, id, fd, e);
}

/* The domain, and that of its device model if it has one. -ESRCH: one is not there any more. */
static int find_domains(XenGuest *x, uint32_t *ret_id, uint32_t *ret_stub, Error *e) {
        uint8_t uuid[DOMAIN_UUID_SIZE];
        XenEnd end;

        int r = xen_find(xen_link_xen(), x->guest.domain->uuid, ret_id, &end, &x->paused);
        const char *gone = "The domain ended in Xen while no daemon was running";
        if (r >= 0 && xen_guest_has_stub(x)) {
                stub_uuid(x->guest.domain->uuid, uuid);
                r = xen_find(xen_link_xen(), uuid, ret_stub, &end, NULL);
                gone = "The device model's domain ended while no daemon was running";
        }
        if (r == -ESRCH)
                error_set(e, ERROR_HYPERVISOR_FAILED, "%s", gone);
        else if (r < 0)
                error_set_errno(e, r, "Failed to look for the domain in Xen");
        return r;
}

/* A guest with a device model waits for it, unless it is to boot anew with another. */
static void adopted(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;
        bool stub = xen_guest_has_stub(x);
        uint32_t id = 0, stub_id = 0;
        int r = x->booting_again ? 0 : find_domains(x, &id, &stub_id, &e);

        if (r < 0 && r != -ESRCH) {
                ask_again_later(x, &e);
                return;
        }
        x->id = id;
        if (r >= 0 && !x->booting_again) {
                adopt_console(x);
                r = stub ? adopt_stub(x, stub_id, &e) : 0;
        }
        if (r >= 0 && !x->booting_again && has_model(x) && !stub && x->model.state != MODEL_UP) {
                if (x->model.state != MODEL_NONE && x->model.state != MODEL_ENDING)
                        return;
                r = error_set(&e, ERROR_HYPERVISOR_FAILED, "The device model ended while no daemon was running");
        }
        if (r < 0)
                xen_guest_fail(x, &e); /* something may be left in the store */
        else
                adoption_done(x);
}

/* It may have ended while nobody looked. Xen knows whether it is paused: a daemon that died may have paused or resumed
 * it without recording that. */
static void adoption_done(XenGuest *x) {
        x->again = sd_event_source_disable_unref(x->again);
        xen_guest_set_state(x, XEN_UP);
        if (x->paused != (x->guest.domain->state == DOMAIN_PAUSED)) {
                x->later_paused = true;
                xen_guest_do_later(x);
        }
        if (x->booting_again)
                xen_guest_boot_again(x);
        else
                xen_guest_look(x);
        give_started(x, NULL);
}

static void take_over(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;
        const Guest *g = &x->guest;

        if (!x->linked && link_up(x, &e) < 0) {
                ask_again_later(x, &e);
                return;
        }
        /* Paused: it was reset, which is not recorded yet. It boots to run. */
        x->booting_again = (g->domain->state == DOMAIN_RUNNING || g->domain->state == DOMAIN_PAUSED) &&
                           faccessat(g->dir_fd, REBOOT_MARK, F_OK, 0) == 0;
        adopted(x);
}

/* The daemon itself asks xenstored only when a worker has had an answer: it would wait for ever. */
static void asked(Worker *w, UNUSED WorkerReply *reply, const Error *failure) {
        XenGuest *x = w->userdata;

        if (failure)
                ask_again_later(x, failure);
        else
                take_over(x);
}

static int ask(XenGuest *x, Error *e) {
        return xen_guest_work(x, "looking for Xen's store", work_ask, asked, NULL, 0, ASK_USEC, e);
}

static int on_ask(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        XenGuest *x = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (ask(x, &e) < 0)
                ask_again_later(x, &e);
        return 0;
}

/* A domain that runs is not lost because nobody can be asked about it. */
static void ask_again_later(XenGuest *x, const Error *why) {
        if (!x->asked)
                log_write(LOG_WARNING, LOG_FIELDS(.domain = x->guest.domain->name),
                          "Domain %s cannot be taken over yet: %s; trying until it can", x->guest.domain->name,
                          error_text(why));
        x->asked = true;
        int r = sd_event_source_set_time_relative(x->again, ASK_AGAIN_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(x->again, SD_EVENT_ONESHOT);
        if (r < 0)
                log_write(LOG_ERR, LOG_FIELDS(.domain = x->guest.domain->name),
                          "Domain %s is not taken over before the daemon starts again: %s", x->guest.domain->name,
                          strerror(-r));
}

/* Had before it is needed, when there may be no descriptor for one. */
static int make_again(XenGuest *x, Error *e) {
        int r = sd_event_add_time_relative(x->guest.host->event, &x->again, CLOCK_MONOTONIC, ASK_AGAIN_USEC, 0, on_ask,
                                           x);

        if (r >= 0)
                r = sd_event_source_set_enabled(x->again, SD_EVENT_OFF);
        return r < 0 ? error_set_errno(e, r, "Failed to prepare to take over domain %s", x->guest.domain->name) : 0;
}

int xen_guest_adopt(Guest *g, Error *e) {
        XenGuest *x = xen_guest(g);
        AUTO(error_clear) Error late = ERROR_INIT;

        x->type = wanted_type(g->domain);
        int r = make_again(x, e);
        if (r < 0)
                return r;
        xen_guest_set_state(x, XEN_ADOPTING);
        if (ask(x, &late) < 0)
                ask_again_later(x, &late);
        error_clear(&late);
        /* At once, since it may be to be ended at once. */
        x->model.type = x->type;
        if (g->domain->process.pid && model_adopt(&x->model, &late) < 0 && error_is_set(&late))
                log_write(LOG_WARNING, LOG_FIELDS(.domain = g->domain->name), "%s", error_text(&late));
        return 0;
}
