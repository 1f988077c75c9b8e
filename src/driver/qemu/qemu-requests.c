/* Requests to a live guest, and the events that it sends.
 *
 * Each request is one QemuRequest, which lives from the call until its one answer; the monitor's client answers every
 * command once, so none is lost when the guest goes. A reset takes several steps, the middle of which is an event:
 * while it is waited for, the request hangs on QemuGuest.reset, from where the end of the guest or of the connection
 * takes it.
 *
 * The emulator may be hostile, and telling the engine that it was paused or goes on costs a record and a signal to
 * every client. So a change is told at once when there has been none for QUIET_USEC; otherwise the last one when that
 * has passed, or before the answer to a request, which it precedes:
 *
 *   quiet --STOP, RESUME: told--> waiting --STOP, RESUME--> waiting, untold --timer, answer: told--> waiting
 *     ^                              |
 *     +------------ timer -----------+                                                                       */
#include <errno.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/qemu/qemu-internal.h"
#include "driver/screen.h"

#define SETTLE_USEC  (3 * USEC_PER_SEC)
#define SETTLED_USEC (200 * USEC_PER_MSEC)
#define QUIET_USEC   (100 * USEC_PER_MSEC)

struct QemuRequest {
        QemuGuest *guest;
        GuestAnswer answer;
        void *userdata;
        int fd; /* what the caller will get; -1: nothing */
        sd_event_source *deadline;
};

static int check_up(const QemuGuest *q, Error *e) {
        if (q->state != QEMU_UP || !q->qmp || q->process.pidfd < 0)
                return error_set(e, ERROR_INVALID_STATE, "Domain %s is not running", q->guest.domain->name);
        return 0;
}

static int request_new(QemuGuest *q, GuestAnswer answer, void *userdata, QemuRequest **ret, Error *e) {
        int checked = check_up(q, e);
        if (checked < 0)
                return checked;
        QemuRequest *r = calloc(1, sizeof *r);
        if (!r)
                return error_set_errno(e, ENOMEM, "Failed to ask domain %s", q->guest.domain->name);
        *r = (QemuRequest){ .guest = q, .answer = answer, .userdata = userdata, .fd = -1 };
        *ret = r;
        return 0;
}

static void request_free(QemuRequest *r) {
        sd_event_source_disable_unref(r->deadline);
        fd_drop(&r->fd);
        free(r);
}

/* The last thing that a function does. */
static void request_finish(QemuRequest *r, const Error *e) {
        GuestAnswer answer = r->answer;
        void *userdata = r->userdata;
        int fd = e ? -1 : fd_take(&r->fd);

        request_free(r);
        answer(userdata, fd, e);
}

static void tell_paused(QemuGuest *q);

static void on_answer(void *userdata, UNUSED json_t *result, const Error *e) {
        QemuRequest *r = userdata;

        if (!e)
                tell_paused(r->guest);
        request_finish(r, e);
}

/* One command, whose answer is the request's. */
static int ask(Guest *g, const char *command, GuestAnswer answer, void *userdata, Error *e) {
        QemuRequest *request = NULL;

        int r = request_new(qemu_guest(g), answer, userdata, &request, e);
        if (!request)
                return r;
        r = qmp_send(request->guest->qmp, command, NULL, -1, on_answer, request, e);
        if (r < 0)
                request_free(request);
        return r;
}

/* A guest that ended is there only to be reset or destroyed: going on would run a panicked kernel. */
static int refuse_ended(Guest *g, Error *e) {
        if (!qemu_guest(g)->ended)
                return 0;
        return error_set(e, ERROR_INVALID_STATE, "The guest of domain %s has ended", g->domain->name);
}

int qemu_pause(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        int r = refuse_ended(g, e);
        return r < 0 ? r : ask(g, "stop", answer, userdata, e);
}

int qemu_resume(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        int r = refuse_ended(g, e);
        return r < 0 ? r : ask(g, "cont", answer, userdata, e);
}

int qemu_shutdown(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        int r = refuse_ended(g, e);
        return r < 0 ? r : ask(g, "system_powerdown", answer, userdata, e);
}

/* ---- reset ---- */

json_t *qemu_reboot_action(const QemuGuest *q) {
        return json_pack("{s:s}", "reboot", q->guest.domain->spec.on_reboot == END_RESTART ? "reset" : "shutdown");
}

void qemu_reset_gone(QemuGuest *q) {
        QemuRequest *r = TAKE(q->reset);
        AUTO(error_clear) Error e = ERROR_INIT;

        q->settling = sd_event_source_disable_unref(q->settling);
        if (!r)
                return;
        error_set(&e, ERROR_INVALID_STATE, "The guest of domain %s went before it was reset", q->guest.domain->name);
        request_finish(r, &e);
}

static void reset_begun(void *userdata, UNUSED json_t *result, const Error *failure) {
        QemuGuest *q = userdata;
        QemuRequest *r = failure ? TAKE(q->reset) : NULL;

        if (r)
                request_finish(r, failure);
}

static int on_reset_deadline(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        QemuRequest *r = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        r->guest->reset = NULL;
        error_set(&e, ERROR_HYPERVISOR_FAILED, "The emulator did not reset the guest in time");
        request_finish(r, &e);
        return 0;
}

/* With on_reboot=destroy QEMU takes any reset, our own too, for the guest's end; so that is turned off around ours. */
static int on_settled(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        QemuGuest *q = userdata;

        q->settling = sd_event_source_disable_unref(q->settling);
        (void)qmp_send(q->qmp, "set-action", qemu_reboot_action(q), -1, NULL, NULL, NULL);
        return 0;
}

/* SeaBIOS resets the machine once or twice more by itself when it finds that it has run already: a reboot, to QEMU. It
 * does so some 20 ms after our reset, so what comes soon is taken for that. Other firmware does not. */
static void settle(QemuGuest *q, uint64_t usec) {
        q->settling = sd_event_source_disable_unref(q->settling);
        if (q->guest.domain->spec.on_reboot == END_RESTART)
                return;
        if (!q->machine->bios || machine_firmware(q->machine, &q->guest.domain->spec) == FIRMWARE_UEFI ||
            sd_event_add_time_relative(q->guest.host->event, &q->settling, CLOCK_MONOTONIC, usec, 0, on_settled, q) < 0)
                on_settled(NULL, 0, q);
}

/* The machine stands at its first instruction. */
static void was_reset(QemuGuest *q) {
        QemuRequest *r = TAKE(q->reset);
        AUTO(error_clear) Error e = ERROR_INIT;

        if (!r) {
                if (q->settling)
                        settle(q, SETTLED_USEC);
                return;
        }
        q->ended = false;
        r->deadline = sd_event_source_disable_unref(r->deadline); /* from here on the command has its own */
        settle(q, SETTLE_USEC);
        if (qmp_send(q->qmp, "cont", NULL, -1, on_answer, r, &e) < 0)
                request_finish(r, &e);
}

int qemu_reset(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        QemuGuest *q = qemu_guest(g);
        QemuRequest *request = NULL;

        if (q->reset)
                return error_set(e, ERROR_BUSY, "Domain %s is being reset", g->domain->name);
        int r = request_new(q, answer, userdata, &request, e);
        if (!request)
                return r;
        r = sd_event_add_time_relative(g->host->event, &request->deadline, CLOCK_MONOTONIC, QMP_DEADLINE_USEC, 0,
                                       on_reset_deadline, request);
        if (r < 0)
                error_set_errno(e, r, "Failed to reset domain %s", g->domain->name);
        if (r >= 0)
                r = qmp_send(q->qmp, "set-action", json_pack("{s:s}", "reboot", "reset"), -1, NULL, NULL, e);
        if (r >= 0)
                r = qmp_send(q->qmp, "system_reset", NULL, -1, reset_begun, q, e);
        if (r < 0) {
                request_free(request);
                return r;
        }
        q->reset = request;
        return 0;
}

/* ---- the screen ---- */

static int ask_screen(Guest *g, int (*what)(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e),
                      GuestAnswer answer, void *userdata, Error *e) {
        QemuGuest *q = qemu_guest(g);
        int r = check_up(q, e);

        return r < 0 ? r : what(q->qmp, ++q->n_requests, answer, userdata, e);
}

int qemu_screenshot(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        return ask_screen(g, screen_shoot, answer, userdata, e);
}

int qemu_open_vnc(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        return ask_screen(g, screen_open_vnc, answer, userdata, e);
}

/* ---- streams ---- */

/* Answered by the emulator's next word, so that no callback comes from inside this call. QEMU serves one client of this
 * port at a time; a second one waits in the socket's queue until the first has gone. */
int qemu_open_agent(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        QemuGuest *q = qemu_guest(g);
        QemuRequest *request = NULL;

        int r = request_new(q, answer, userdata, &request, e);
        if (!request)
                return r;
        r = unix_connect_plain(g->dir_fd, AGENT_SOCKET, &request->fd);
        if (r >= 0)
                r = fd_set_nonblock(request->fd, false);
        if (r < 0)
                error_set_errno(e, r, "Failed to connect to the agent's port of domain %s", g->domain->name);
        else
                r = qmp_send(q->qmp, "query-status", NULL, -1, on_answer, request, e);
        if (r < 0)
                request_free(request);
        return r;
}

/* ---- events ---- */

static void guest_shut_down(QemuGuest *q, json_t *data) {
        const char *reason = string_or(json_string_value(json_object_get(data, "reason")), "");

        if (string_equal(reason, "guest-shutdown"))
                qemu_ended_later(q, END_POWEROFF, "the guest powered itself off");
        else if (string_equal(reason, "guest-reset"))
                qemu_ended_later(q, END_REBOOT, "the guest rebooted");
        else if (string_equal(reason, "guest-panic"))
                qemu_ended_later(q, END_CRASH, "the guest's kernel panicked");
        else if (string_has_prefix(reason, "host-"))
                qemu_ended_later(q, END_CRASH, "the emulator was told to end");
}

static void guest_stopped(void *userdata, json_t *result, const Error *failure);

/* One question at a time: an answer that was on its way already may be older than the last pause. */
static void ask_why_paused(QemuGuest *q) {
        q->ask_again = q->asking_status;
        if (!q->asking_status)
                q->asking_status = qmp_send(q->qmp, "query-status", NULL, -1, guest_stopped, q, NULL) >= 0;
}

static void guest_stopped(void *userdata, json_t *result, const Error *failure) {
        QemuGuest *q = userdata;
        const char *status = failure ? NULL : json_string_value(json_object_get(result, "status"));

        q->asking_status = false;
        if (q->state != QEMU_UP)
                return;
        if (string_equal(status, "internal-error"))
                qemu_ended_later(q, END_CRASH, "the guest's processor failed");
        else if (q->ask_again && !failure)
                ask_why_paused(q);
}

static int on_quiet(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        QemuGuest *q = userdata;

        q->quiet = sd_event_source_disable_unref(q->quiet);
        tell_paused(q);
        return 0;
}

/* If there is anything to be told. */
static void tell_paused(QemuGuest *q) {
        if (!q->paused_untold || q->state != QEMU_UP || q->ended)
                return;
        q->paused_untold = false;
        q->quiet = sd_event_source_disable_unref(q->quiet);
        (void)sd_event_add_time_relative(q->guest.host->event, &q->quiet, CLOCK_MONOTONIC, QUIET_USEC, 0, on_quiet, q);
        if (q->paused)
                ask_why_paused(q);
        q->guest.events->paused(&q->guest, q->paused);
}

static void note_paused(QemuGuest *q, bool paused) {
        q->later_paused = false; /* what it said before is no longer so */
        q->paused = paused;
        q->paused_untold = true;
        if (!q->quiet)
                tell_paused(q);
}

void qemu_forget_paused(QemuGuest *q) {
        q->quiet = sd_event_source_disable_unref(q->quiet);
        q->paused_untold = false;
}

/* Before UP whatever happens shows in the answers to our own questions. */
void qemu_event(void *guest, const char *name, json_t *data) {
        QemuGuest *q = guest;

        if (q->state != QEMU_UP)
                return;
        if (string_equal(name, "SHUTDOWN"))
                guest_shut_down(q, data);
        else if (string_equal(name, "GUEST_PANICKED"))
                qemu_ended_later(q, END_CRASH, "the guest's kernel panicked");
        else if (string_equal(name, "RESET"))
                was_reset(q);
        else if (string_equal(name, "STOP") && !q->ended)
                note_paused(q, true);
        else if (string_equal(name, "RESUME") && !q->ended)
                note_paused(q, false);
}
