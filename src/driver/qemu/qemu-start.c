/* How it works: from start or adoption to the end of the process
 *
 *         start()             exec              monitor ready          set up, confirmed
 *   NEW ----------> SPAWNING ------> GREETING ---------------> SETTING -------------------> UP
 *    | |               ^ |
 *    | +--> LOADING ---+ |   start() of one with a boot loader, which chooses a kernel first
 *    |                 |                ^  |                      |                          |
 *    |                 |  adopt()       |  |                      |                          |
 *    +-----------------+----------------+  |                      |                          |
 *                      | failure,          | failure, deadline,   | same                     |
 *                      | nothing to kill   | its end              |                          |
 *                      |                   v                      v                          |
 *                      |                 FAILING <----------------+                          |
 *                      v                   | its end                                         |
 *                     GONE <---------------+                                                 |
 *                      ^ its end                          stop()                             |
 *                      +---------- STOPPING <--------- any of them ---------------------------+
 *
 * The emulator starts with -S on descriptors that exist before it, the monitor's listening socket among them: so
 * the connection is made at once, and the greeting comes when the emulator is there to give it. Nothing is polled. The
 * greeting alone proves little (QEMU gives it before it has made its devices); the answer to the first command does.
 *
 * An emulator that dies closes its monitor first, then prints nothing more, then is reaped, so a lost monitor is
 * not the end yet: the process has GRACE_USEC to end by itself, so that its status and last words can be told, and is
 * killed after. With -action shutdown=pause the guest's own end leaves the process there, paused: ended() tells, and
 * the engine calls reset() or stop().
 *
 * Callbacks to the engine are the last thing that a function does, since they may free the guest; what becomes due
 * inside a call (stop() of a process that is gone) is left to the event source `later`. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/abandon.h"
#include "driver/boot.h"
#include "driver/qemu/qemu-internal.h"
#include "driver/screen.h"

#define GRACE_USEC (2 * USEC_PER_SEC)
#define END_USEC   (10 * USEC_PER_SEC) /* freeing the memory of a large guest takes seconds, too */
#define KVM_DEVICE "/dev/kvm"

static const char *const state_names[] = {
        [QEMU_NEW] = "new",           [QEMU_LOADING] = "loading",   [QEMU_SPAWNING] = "spawning",
        [QEMU_GREETING] = "greeting", [QEMU_SETTING] = "setting",   [QEMU_UP] = "up",
        [QEMU_FAILING] = "failing",   [QEMU_STOPPING] = "stopping", [QEMU_GONE] = "gone",
};
static_assert(ARRAY_LEN(state_names) == QEMU_STATE_COUNT, "name missing");

#define TO(state) (1u << (state))
/* UNUSED: with assertions compiled out, nobody reads it. */
UNUSED
static const uint16_t next_states[QEMU_STATE_COUNT] = {
        [QEMU_NEW] = TO(QEMU_LOADING) | TO(QEMU_SPAWNING) | TO(QEMU_GREETING) | TO(QEMU_STOPPING),
        [QEMU_LOADING] = TO(QEMU_SPAWNING) | TO(QEMU_FAILING) | TO(QEMU_STOPPING),
        [QEMU_SPAWNING] = TO(QEMU_GREETING) | TO(QEMU_FAILING) | TO(QEMU_STOPPING) | TO(QEMU_GONE),
        [QEMU_GREETING] = TO(QEMU_SETTING) | TO(QEMU_FAILING) | TO(QEMU_STOPPING),
        [QEMU_SETTING] = TO(QEMU_UP) | TO(QEMU_FAILING) | TO(QEMU_STOPPING),
        [QEMU_UP] = TO(QEMU_STOPPING),
        [QEMU_FAILING] = TO(QEMU_STOPPING) | TO(QEMU_GONE),
        [QEMU_STOPPING] = TO(QEMU_GONE),
};

void qemu_set_state(QemuGuest *q, QemuState next) {
        assert(next_states[q->state] & TO(next));

        log_write(LOG_DEBUG, LOG_FIELDS(.domain = q->guest.domain->name), "Emulator of %s: %s -> %s",
                  q->guest.domain->name, state_names[q->state], state_names[next]);
        q->state = next;
}

/* ---- what the loop does next ---- */

static void finish(QemuGuest *q);
static void process_ended(Process *p, const ChildExit *exit);

static int on_later(UNUSED sd_event_source *s, void *userdata) {
        QemuGuest *q = userdata;

        if (q->state == QEMU_FAILING || q->state == QEMU_STOPPING) {
                if (q->process.pidfd < 0) /* else its end comes */
                        finish(q);
        } else if (q->later_ended) {
                q->later_ended = q->later_paused = false;
                q->guest.events->ended(&q->guest, q->end_reason, q->end_text);
        } else if (q->later_paused) {
                q->later_paused = false;
                q->guest.events->paused(&q->guest, q->paused);
        }
        return 0;
}

/* Made with the start or the adoption, so that it cannot fail when it is needed. */
static int make_later(QemuGuest *q) {
        int r = sd_event_add_defer(q->guest.host->event, &q->later, on_later, q);
        return r < 0 ? r : sd_event_source_set_enabled(q->later, SD_EVENT_OFF);
}

static void do_later(QemuGuest *q) {
        if (q->later || make_later(q) >= 0)
                (void)sd_event_source_set_enabled(q->later, SD_EVENT_ONESHOT);
}

void qemu_ended_later(QemuGuest *q, EndReason reason, const char *text) {
        if (q->ended)
                return;
        q->ended = q->later_ended = true;
        q->end_reason = reason;
        q->end_text = text;
        do_later(q);
}

/* ---- the end ---- */

/* The process is gone: remove what is left and answer. */
static void finish(QemuGuest *q) {
        const GuestEvents *events = q->guest.events;
        bool failed = q->state == QEMU_FAILING;
        AUTO(error_clear) Error e = ERROR_INIT;

        error_move(&e, &q->error);
        q->timer = sd_event_source_disable_unref(q->timer);
        if (q->qmp)
                qmp_close(q->qmp); /* answers what is under way */
        qemu_reset_gone(q);
        qemu_forget_paused(q);
        qemu_files_remove(q);
        qemu_set_state(q, QEMU_GONE);
        if (failed)
                events->started(&q->guest, &e);
        else
                events->stopped(&q->guest);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static int set_timer(QemuGuest *q, uint64_t usec) {
        q->timer = sd_event_source_disable_unref(q->timer);
        return sd_event_add_time_relative(q->guest.host->event, &q->timer, CLOCK_MONOTONIC, usec, 0, on_timer, q);
}

/* Kill it and await its end, but not for ever: a disk on a file system that answers no more holds it up in the kernel.
 */
static void await_end(QemuGuest *q) {
        q->timer = sd_event_source_disable_unref(q->timer);
        if (q->process.pidfd < 0) {
                do_later(q);
                return;
        }
        process_kill(&q->process);
        int r = set_timer(q, END_USEC);
        if (r < 0)
                log_write(LOG_WARNING, LOG_FIELDS(.domain = q->guest.domain->name),
                          "Failed to set a timer for the end of domain %s: %s, ignoring", q->guest.domain->name,
                          strerror(-r));
}

/* Takes *why. From now on only the end of the process is awaited. */
static void fail(QemuGuest *q, Error *why) {
        error_move(&q->error, why);
        if (q->state == QEMU_SPAWNING)
                spawn_abandon(&q->spawn, q->guest.host->event, &q->process, process_ended, q);
        qemu_set_state(q, QEMU_FAILING);
        await_end(q);
}

/* "qemu-system-x86_64 exited with status 1: its last words". A disk has a number there, which its owner cannot know. */
static char *describe_end(QemuGuest *q, const ChildExit *exit) {
        char how[CHILD_EXIT_TEXT_MAX];
        AUTO(string_drop) char *words = NULL;

        words_drain(&q->words);
        words = words_last_lines(&q->words);
        const char *path = emulator_disk_meant(&q->guest.domain->spec, words);
        AUTO(string_drop) char *shown = path ? string_escape(path, 1024) : NULL;
        return string_printf("%s %s%s%s%s%s%s", q->machine ? q->machine->program : "The emulator",
                             child_exit_format(exit, how), words ? ": " : "", string_or(words, ""),
                             shown ? " (disk " : "", string_or(shown, ""), shown ? ")" : "");
}

static void process_ended(Process *p, const ChildExit *exit) {
        QemuGuest *q = p->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (q->state == QEMU_FAILING || q->state == QEMU_STOPPING) {
                finish(q);
                return;
        }
        AUTO(string_drop) char *text = describe_end(q, exit);
        q->timer = sd_event_source_disable_unref(q->timer);
        if (q->state != QEMU_UP) {
                if (q->adopting)
                        error_set(&e, ERROR_HYPERVISOR_FAILED, "The emulator ended as the daemon came back");
                else
                        error_set(&e, ERROR_HYPERVISOR_FAILED, "%s", string_or(text, "The emulator ended"));
                fail(q, &e);
                return;
        }
        q->later_paused = false;
        if (q->qmp)
                qmp_close(q->qmp);
        qemu_reset_gone(q);
        qemu_forget_paused(q);
        if (q->ended) /* told, or about to be */
                return;
        q->ended = true;
        q->guest.events->ended(&q->guest, END_CRASH,
                               q->killed ? "the emulator lost its monitor and was killed"
                                         : string_or(text, "the emulator ended"));
}

void qemu_stop(Guest *g) {
        QemuGuest *q = qemu_guest(g);

        if (q->state == QEMU_STOPPING || q->state == QEMU_GONE)
                return;
        if (q->state == QEMU_SPAWNING)
                spawn_abandon(&q->spawn, g->host->event, &q->process, process_ended, q);
        boot_loader_stop(&q->loader);
        qemu_set_state(q, QEMU_STOPPING);
        await_end(q);
}

/* ---- the monitor ---- */

static int on_timer(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        QemuGuest *q = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(string_drop) char *words = NULL;

        if (q->state == QEMU_FAILING || q->state == QEMU_STOPPING) {
                log_write(LOG_WARNING, LOG_FIELDS(.domain = q->guest.domain->name),
                          "The emulator of domain %s is killed but does not end: no longer waited for",
                          q->guest.domain->name);
                process_drop(&q->process, q->guest.host->event);
                finish(q);
                return 0;
        }
        if (q->state == QEMU_UP) {
                q->killed = true;
                process_kill(&q->process);
                return 0;
        }
        words_drain(&q->words);
        words = words_last_lines(&q->words);
        if (q->killed)
                error_set(&e, ERROR_HYPERVISOR_FAILED, "%s closed its monitor%s%s", q->machine->program,
                          words ? ": " : "", string_or(words, ""));
        else
                error_set(&e, ERROR_TIMEOUT, "%s did not answer in time%s%s", q->machine->program, words ? ": " : "",
                          string_or(words, ""));
        fail(q, &e);
        return 0;
}

static void monitor_closed(void *userdata, const Error *why) {
        QemuGuest *q = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        qemu_reset_gone(q);
        if (q->process.pidfd < 0 || q->state == QEMU_FAILING || q->state == QEMU_STOPPING)
                return;
        if (q->state != QEMU_UP)
                q->killed = true; /* the reason, should the grace pass */
        if (set_timer(q, GRACE_USEC) >= 0)
                return;
        if (q->state == QEMU_UP) {
                q->killed = true;
                process_kill(&q->process);
                return;
        }
        error_copy(&e, why);
        fail(q, &e);
}

static void confirmed(QemuGuest *q) {
        q->timer = sd_event_source_disable_unref(q->timer);
        qmp_set_deadline(q->qmp, QMP_DEADLINE_USEC);
        qemu_set_state(q, QEMU_UP);
        q->guest.events->started(&q->guest, NULL);
}

/* The answer to the last command of the set-up. */
static void set_up(void *userdata, UNUSED json_t *result, const Error *failure) {
        QemuGuest *q = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (q->state != QEMU_SETTING || !qmp_is_open(q->qmp)) /* monitor_closed() comes, and sees to it */
                return;
        if (error_copy(&e, failure) < 0)
                fail(q, &e);
        else
                confirmed(q);
}

static void on_setting_failed(void *userdata, UNUSED json_t *result, const Error *failure) {
        if (failure)
                set_up(userdata, NULL, failure);
}

/* Commands are answered in order, so all are sent at once and the last answer confirms. */
static int configure(QemuGuest *q, Error *e) {
        const DomainSpec *spec = &q->guest.domain->spec;
        int r = 0;

        if (spec->vnc_password)
                r = screen_set_password(q->qmp, spec->vnc_password, on_setting_failed, q, e);
        if (r < 0)
                return r;
        return qmp_send(q->qmp, spec->paused ? "query-status" : "cont", NULL, -1, set_up, q, e);
}

/* How is the guest whom a former daemon left? One that was being booted again is helped on. */
static void status_known(void *userdata, json_t *result, const Error *failure) {
        QemuGuest *q = userdata;
        Domain *d = q->guest.domain;
        const char *status = string_or(json_string_value(json_object_get(result, "status")), "");
        bool paused = !json_is_true(json_object_get(result, "running"));

        if (failure || q->state != QEMU_SETTING) {
                set_up(q, NULL, failure);
                return;
        }
        if (string_equal(status, "shutdown"))
                qemu_ended_later(q, END_POWEROFF, "the guest powered itself off while no daemon was running");
        else if (string_equal(status, "guest-panicked"))
                qemu_ended_later(q, END_CRASH, "the guest's kernel panicked while no daemon was running");
        else if (string_equal(status, "internal-error"))
                qemu_ended_later(q, END_CRASH, "the guest's processor failed while no daemon was running");
        else if (string_equal(status, "prelaunch") && d->state == DOMAIN_RUNNING) {
                if (qmp_send(q->qmp, "cont", NULL, -1, set_up, q, NULL) >= 0)
                        return;
        } else if (paused != (d->state == DOMAIN_PAUSED)) {
                /* Its record is older: a daemon may die between what it asks for and what it notes. */
                q->paused = paused;
                q->later_paused = true;
                do_later(q);
        }
        confirmed(q);
}

static int inquire(QemuGuest *q, Error *e) {
        int r = qmp_send(q->qmp, "set-action", qemu_reboot_action(q), -1, NULL, NULL, e);

        return r < 0 ? r : qmp_send(q->qmp, "query-status", NULL, -1, status_known, q, e);
}

static void monitor_ready(void *userdata) {
        QemuGuest *q = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (q->state != QEMU_GREETING)
                return;
        qemu_set_state(q, QEMU_SETTING);
        int r = q->adopting ? inquire(q, &e) : configure(q, &e);
        if (r < 0)
                fail(q, &e);
}

static const QmpEvents monitor_events = {
        .ready = monitor_ready,
        .event = qemu_event,
        .closed = monitor_closed,
};

static int connect_monitor(QemuGuest *q, Error *e) {
        int fd;

        int r = unix_connect_plain(q->guest.dir_fd, QMP_SOCKET, &fd);
        if (r >= 0)
                r = qmp_new(q->guest.host->event, fd, &monitor_events, q, &q->qmp);
        if (r < 0)
                return error_set_errno(e, r, "Failed to connect to the emulator of domain %s", q->guest.domain->name);
        qmp_take_listener(q->qmp, fd_take(&q->listen_qmp));
        /* The start has its own deadline; many starts at once make each slow. */
        qmp_set_deadline(q->qmp, q->guest.host->limits->start_usec);
        return 0;
}

/* ---- the start ---- */

static void spawn_prepared(Spawn *s) {
        QemuGuest *q = s->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        q->guest.domain->process = s->id;
        if (q->guest.events->record(&q->guest, &e) >= 0) {
                spawn_release(s);
                return;
        }
        error_set(&e, ERROR_INTERNAL, "Failed to record the emulator");
        fail(q, &e);
}

static void spawn_done(Spawn *s, const Error *failure) {
        QemuGuest *q = s->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (failure) {
                error_set(&e, failure->id == ERROR_INTERNAL ? ERROR_HYPERVISOR_FAILED : failure->id, "%s",
                          error_text(failure));
                fail(q, &e);
                return;
        }
        qemu_set_state(q, QEMU_GREETING);
        int r = process_watch(&q->process, q->guest.host->event, &s->id, spawn_take_pidfd(s), process_ended, q);
        if (r < 0)
                error_set_errno(&e, r, "Failed to watch the emulator of domain %s", q->guest.domain->name);
        if (r >= 0)
                r = connect_monitor(q, &e);
        qemu_files_passed(q);
        if (r < 0)
                fail(q, &e);
}

static int build_args(QemuGuest *q, Error *e) {
        Guest *g = &q->guest;
        QemuArgs args = {
                .program = q->program,
                .name = g->domain->name,
                .spec = &g->domain->spec,
                .machine = q->machine,
                .files = &g->files,
                .taps = g->taps,
                .n_taps = g->n_taps,
                .kvm = q->kvm,
                .qmp_fd = q->listen_qmp,
                .agent_fd = q->listen_agent,
                .firmware_code_fd = q->firmware_code,
                .firmware_vars_fd = q->firmware_vars,
        };

        int r = qemu_args(&args, &q->argv, &q->fds);
        return r < 0 ? error_set_errno(e, r, "Failed to build the emulator's command line") : 0;
}

static void build_jail(QemuGuest *q) {
        Guest *g = &q->guest;
        Jail *j = &q->jail;

        *j = (Jail){ .privileged = g->host->privileged,
                     .uid = g->domain->jail_uid,
                     .gid = g->domain->jail_uid,
                     /* Kernel and initrd fit, unless they have grown since they were measured. */
                     .copy_max = g->domain->spec.memory };
        jail_add_system(j, q->program);
        jail_add_bind(j, q->console_in_path, QEMU_CONSOLE_PATH ".in", false);
        jail_add_bind(j, q->console_out_path, QEMU_CONSOLE_PATH ".out", false);
        if (g->files.kernel_fd >= 0)
                jail_add_fd(j, g->files.kernel_fd, QEMU_KERNEL_PATH);
        if (g->files.initrd_fd >= 0)
                jail_add_fd(j, g->files.initrd_fd, QEMU_INITRD_PATH);
        if (q->kvm)
                jail_add_device(j, KVM_DEVICE);
}

static int spawn(QemuGuest *q, Error *e) {
        Spawn *s = &q->spawn;

        s->what = q->machine->program;
        s->path = q->program;
        s->argv = q->argv;
        s->fds = q->fds.fds;
        s->n_fds = q->fds.count;
        s->stdio[2] = q->stderr_fd;
        s->deadline_usec = q->guest.host->limits->start_usec;
        s->prepared = spawn_prepared;
        s->done = spawn_done;
        s->userdata = q;
        jail_enclose(&q->jail, s);
        return spawn_start(s, q->guest.host->event, e);
}

static int begin(QemuGuest *q, Error *e) {
        int r = q->later ? 0 : make_later(q);
        if (r >= 0)
                r = set_timer(q, q->guest.host->limits->start_usec);
        if (r < 0)
                return error_set_errno(e, r, "Failed to prepare domain %s", q->guest.domain->name);
        return 0;
}

/* NEW or LOADING -> SPAWNING. */
static int launch(QemuGuest *q, Error *e) {
        int r = boot_check_size(&q->guest.files, &q->guest.domain->spec, q->guest.domain->spec.memory, e);
        if (r >= 0)
                r = begin(q, e);
        if (r >= 0)
                r = qemu_files_make(q, e);
        if (r >= 0)
                r = build_args(q, e);
        if (r >= 0) {
                build_jail(q);
                r = spawn(q, e);
        }
        if (r >= 0)
                qemu_set_state(q, QEMU_SPAWNING);
        return r;
}

static void kernel_chosen(BootLoaderJob *j, BootChoice *choice, const Error *failure) {
        QemuGuest *q = j->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        int r = error_copy(&e, failure);
        if (r >= 0) {
                boot_take(&q->guest, choice);
                r = launch(q, &e);
        }
        if (r < 0)
                fail(q, &e);
}

/* NEW -> LOADING. */
static int load(QemuGuest *q, Error *e) {
        q->loader.done = kernel_chosen;
        q->loader.userdata = q;
        int r = boot_start(&q->loader, &q->guest, e);
        if (r < 0)
                return r;
        qemu_set_state(q, QEMU_LOADING);
        q->guest.events->asking(&q->guest);
        return 0;
}

int qemu_start(Guest *g, Error *e) {
        QemuGuest *q = qemu_guest(g);

        int r = machine_check(&g->domain->spec, &q->machine, e);
        if (r >= 0 && (r = machine_program(q->machine, &q->program)) < 0)
                error_set_errno(e, r, "Failed to find %s", q->machine->program);
        if (r >= 0)
                r = g->domain->spec.bootloader ? load(q, e) : launch(q, e);
        if (r < 0) {
                q->timer = sd_event_source_disable_unref(q->timer);
                qemu_files_remove(q);
        }
        return r;
}

int qemu_adopt(Guest *g, Error *e) {
        QemuGuest *q = qemu_guest(g);
        AUTO(error_clear) Error why = ERROR_INIT;
        int pidfd;

        q->adopting = true;
        q->machine = machine_find(g->domain->spec.arch);
        if (!q->machine)
                return error_set(e, ERROR_NOT_SUPPORTED, "Architecture %s is not known to this daemon",
                                 g->domain->spec.arch);
        int r = begin(q, e);
        if (r < 0)
                return r;
        r = process_open(&g->domain->process, &pidfd);
        if (r == -ESRCH)
                error_set(e, ERROR_HYPERVISOR_FAILED, "The emulator ended while no daemon was running");
        else if (r < 0)
                error_set_errno(e, r, "Failed to find the emulator of domain %s", g->domain->name);
        else {
                r = process_watch(&q->process, g->host->event, &g->domain->process, pidfd, process_ended, q);
                if (r < 0)
                        error_set_errno(e, r, "Failed to watch the emulator of domain %s", g->domain->name);
        }
        if (r < 0) {
                q->timer = sd_event_source_disable_unref(q->timer);
                return r;
        }
        qemu_set_state(q, QEMU_GREETING);
        if (qemu_files_adopt(q, &why) < 0 || connect_monitor(q, &why) < 0)
                fail(q, &why); /* a guest that cannot be reached is no use to anybody: it is ended */
        return 0;
}

void qemu_release(QemuGuest *q) {
        boot_loader_stop(&q->loader);
        spawn_stop(&q->spawn);
        process_done(&q->process);
        q->qmp = qmp_free(q->qmp);
        qemu_reset_gone(q);
        qemu_forget_paused(q);
        q->timer = sd_event_source_disable_unref(q->timer);
        q->later = sd_event_source_disable_unref(q->later);
        words_done(&q->words);
        taps_abandon(q->guest.host->event, q->guest.taps, q->guest.n_taps);
        qemu_files_passed(q);
        error_clear(&q->error);
}
