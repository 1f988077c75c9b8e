/* A hypervisor for tests: its guest is a real process, "cat" between the two FIFOs of the console, so that starts,
 * adoption, leaks, echoes on the console and sudden deaths are real, and take a millisecond.
 *
 *   NEW --start()--> SPAWNING --exec, delay--> UP --stop()--> STOPPING --reaped--> GONE
 *     |                 | failure                               ^
 *     +--- adopt() -----+----> (FAILING: killed, reaped, started(e))
 *
 * Words in the kernel command line make it misbehave:
 *
 *   fail=exec|record|start    fail at that step
 *   hang=start                never confirm: the start's deadline passes
 *   delay-ms=N                confirm so much later
 *   poweroff-after-ms=N, reboot-after-ms=N, crash-after-ms=N, die-after-ms=N
 *                             end by itself so long after each boot; "die" takes the process with it */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "core/child.h"
#include "core/process.h"
#include "core/spawn.h"
#include "driver/abandon.h"
#include "driver/driver.h"
#include "driver/fifo.h"
#include "driver/probe.h"

#define PROGRAM     "/bin/cat"
#define CONSOLE_IN  "console.in"
#define CONSOLE_OUT "console.out"

typedef enum NullState { NULL_NEW, NULL_SPAWNING, NULL_CONFIRMING, NULL_UP, NULL_FAILING, NULL_STOPPING } NullState;

/* The answer to a request, given by the loop. */
typedef struct Answer {
        GuestAnswer answer;
        void *userdata;
        int fd;
        struct Answer *next;
} Answer;

typedef struct NullGuest {
        Guest guest; /* first */
        NullState state;
        bool adopting, ended;
        int in, out; /* the program's */
        Spawn spawn;
        Process process;
        Error error;
        sd_event_source *timer; /* the delay or deadline of the start; later the guest's own end */
        sd_event_source *later;
        EndReason end_reason;
        bool end_pending, pause_pending, paused;
        Answer *answers; /* in no order */
} NullGuest;

static NullGuest *null_guest(Guest *g) {
        return container_of(g, NullGuest, guest);
}

/* ---- misbehaviour ---- */

static bool wants(const NullGuest *n, const char *word) {
        const char *cmdline = string_or(n->guest.domain->spec.cmdline, "");
        size_t length = strlen(word);

        for (const char *at = cmdline; (at = strstr(at, word)); at += length)
                if ((at == cmdline || at[-1] == ' ') && (at[length] == '\0' || at[length] == ' '))
                        return true;
        return false;
}

/* The N of "KEY=N", 0 when it is not there. */
static uint64_t wanted_usec(const NullGuest *n, const char *key) {
        const char *at = strstr(string_or(n->guest.domain->spec.cmdline, ""), key);

        return at ? strtoul(at + strlen(key), NULL, 10) % 1000000 * USEC_PER_MSEC : 0;
}

/* ---- what the loop does next ---- */

static void finish(NullGuest *n);

static void give_answer(NullGuest *n, const Error *e) {
        Answer *a = n->answers;
        Answer copy = *a;

        n->answers = a->next;
        free(a);
        if (e)
                fd_drop(&copy.fd);
        copy.answer(copy.userdata, copy.fd, e);
}

static void give_answers(NullGuest *n, const Error *e) {
        while (n->answers)
                give_answer(n, e);
}

static int do_later(NullGuest *n);

/* One thing each turn, since any of them may free the guest. */
static int on_later(UNUSED sd_event_source *s, void *userdata) {
        NullGuest *n = userdata;
        const GuestEvents *events = n->guest.events;

        if (n->state == NULL_FAILING || n->state == NULL_STOPPING) {
                if (n->process.pidfd < 0) /* else its end comes */
                        finish(n);
                return 0;
        }
        if (n->pause_pending || n->answers)
                (void)do_later(n);
        if (n->pause_pending) {
                n->pause_pending = false;
                events->paused(&n->guest, n->paused);
        } else if (n->answers)
                give_answer(n, NULL);
        else if (n->end_pending) {
                n->end_pending = false;
                events->ended(&n->guest, n->end_reason, "the null guest ended");
        }
        return 0;
}

static int do_later(NullGuest *n) {
        if (n->later)
                return sd_event_source_set_enabled(n->later, SD_EVENT_ONESHOT);
        return sd_event_add_defer(n->guest.host->event, &n->later, on_later, n);
}

static int set_timer(NullGuest *n, uint64_t usec, sd_event_time_handler_t handler) {
        n->timer = sd_event_source_disable_unref(n->timer);
        return sd_event_add_time_relative(n->guest.host->event, &n->timer, CLOCK_MONOTONIC, usec, 1, handler, n);
}

/* ---- the end ---- */

static void remove_files(NullGuest *n) {
        if (n->guest.console)
                console_set_source(n->guest.console, -1, -1);
        (void)unlinkat(n->guest.dir_fd, CONSOLE_IN, 0);
        (void)unlinkat(n->guest.dir_fd, CONSOLE_OUT, 0);
}

static void close_files(NullGuest *n) {
        fd_drop(&n->in);
        fd_drop(&n->out);
        guest_files_clear(&n->guest.files);
        taps_abandon(n->guest.host->event, n->guest.taps, n->guest.n_taps);
}

static void finish(NullGuest *n) {
        const GuestEvents *events = n->guest.events;
        bool failed = n->state == NULL_FAILING;
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(error_clear) Error gone = ERROR_INIT;

        error_move(&e, &n->error);
        error_set(&gone, ERROR_INVALID_STATE, "The guest has gone");
        n->timer = sd_event_source_disable_unref(n->timer);
        close_files(n);
        remove_files(n);
        n->state = NULL_NEW;
        give_answers(n, &gone);
        if (failed)
                events->started(&n->guest, &e);
        else
                events->stopped(&n->guest);
}

static void fail(NullGuest *n, Error *why) {
        error_move(&n->error, why);
        n->state = NULL_FAILING;
        n->timer = sd_event_source_disable_unref(n->timer);
        if (n->process.pidfd >= 0)
                process_kill(&n->process);
        else
                (void)do_later(n);
}

static void process_ended(Process *p, const ChildExit *exit) {
        NullGuest *n = p->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        char text[CHILD_EXIT_TEXT_MAX];

        if (n->state == NULL_FAILING || n->state == NULL_STOPPING)
                finish(n);
        else if (n->state == NULL_UP && !n->ended) {
                n->ended = true;
                n->timer = sd_event_source_disable_unref(n->timer);
                n->guest.events->ended(&n->guest, END_CRASH, child_exit_format(exit, text));
        } else if (n->state != NULL_UP) {
                error_set(&e, ERROR_HYPERVISOR_FAILED, "The null guest %s", child_exit_format(exit, text));
                fail(n, &e);
        }
}

static void null_stop(Guest *g) {
        NullGuest *n = null_guest(g);

        if (n->state == NULL_STOPPING)
                return;
        if (n->state == NULL_SPAWNING)
                spawn_abandon(&n->spawn, g->host->event, &n->process, process_ended, n);
        n->state = NULL_STOPPING;
        n->timer = sd_event_source_disable_unref(n->timer);
        if (n->process.pidfd >= 0)
                process_kill(&n->process);
        else
                (void)do_later(n);
}

/* ---- its own end ---- */

static int on_end(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        NullGuest *n = userdata;

        if (n->ended)
                return 0;
        if (n->end_reason == END_NONE) { /* die */
                process_kill(&n->process);
                return 0;
        }
        n->ended = true;
        n->guest.events->ended(&n->guest, n->end_reason, "the null guest ended by itself");
        return 0;
}

/* What the command line wants of a boot. A reboot with on_reboot=restart is nobody's business. */
static int boot(NullGuest *n) {
        static const struct {
                const char *key;
                EndReason reason;
        } ends[] = {
                { "poweroff-after-ms=", END_POWEROFF },
                { "reboot-after-ms=", END_REBOOT },
                { "crash-after-ms=", END_CRASH },
                { "die-after-ms=", END_NONE },
        };

        for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
                uint64_t usec = wanted_usec(n, ends[i].key);
                if (usec == 0 || (ends[i].reason == END_REBOOT && n->guest.domain->spec.on_reboot == END_RESTART))
                        continue;
                n->end_reason = ends[i].reason;
                return set_timer(n, usec, on_end);
        }
        return 0;
}

/* ---- start and adoption ---- */

static int confirm(NullGuest *n, Error *e) {
        if (wants(n, "fail=start") && !n->adopting)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The null guest was told to fail");
        n->state = NULL_UP;
        int r = boot(n);
        return r < 0 ? error_set_errno(e, r, "Failed to start the null guest") : 0;
}

static int on_delay(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        NullGuest *n = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        n->timer = sd_event_source_disable_unref(n->timer);
        if (confirm(n, &e) < 0)
                fail(n, &e);
        else
                n->guest.events->started(&n->guest, NULL);
        return 0;
}

static int on_deadline(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        AUTO(error_clear) Error e = ERROR_INIT;

        error_set(&e, ERROR_TIMEOUT, "The null guest did not answer in time");
        fail(userdata, &e);
        return 0;
}

static int await_confirmation(NullGuest *n, Error *e) {
        int r;

        n->state = NULL_CONFIRMING;
        if (wants(n, "hang=start") && !n->adopting)
                r = set_timer(n, n->guest.host->limits->start_usec, on_deadline);
        else
                r = set_timer(n, n->adopting ? 0 : wanted_usec(n, "delay-ms="), on_delay);
        return r < 0 ? error_set_errno(e, r, "Failed to start the null guest") : 0;
}

static void spawn_prepared(Spawn *s) {
        NullGuest *n = s->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        n->guest.domain->process = s->id;
        if (wants(n, "fail=record"))
                error_set(&e, ERROR_INTERNAL, "The null guest was told to fail when it is recorded");
        else if (n->guest.events->record(&n->guest, &e) >= 0) {
                spawn_release(s);
                return;
        }
        spawn_abandon(s, n->guest.host->event, &n->process, process_ended, n);
        error_set(&e, ERROR_INTERNAL, "Failed to record the null guest");
        fail(n, &e);
}

static void spawn_done(Spawn *s, const Error *failure) {
        NullGuest *n = s->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        int r = 0;

        close_files(n);
        if (failure)
                r = error_set(&e, ERROR_HYPERVISOR_FAILED, "%s", error_text(failure));
        else {
                r = process_watch(&n->process, n->guest.host->event, &s->id, spawn_take_pidfd(s), process_ended, n);
                r = r < 0 ? error_set_errno(&e, r, "Failed to watch the null guest") : await_confirmation(n, &e);
        }
        if (r < 0)
                fail(n, &e);
}

static int become(void *userdata, const char **ret_step) {
        NullGuest *n = userdata;
        uid_t uid = n->guest.domain->jail_uid;
        int r = 0;

        *ret_step = "become another user";
        if (n->guest.host->privileged && uid != 0)
                r = child_become(uid, uid, NULL, 0);
        return r;
}

static int open_files(NullGuest *n) {
        AUTO(fd_drop) int in = -1;
        AUTO(fd_drop) int out = -1;
        int dir_fd = n->guest.dir_fd;

        int r = fifo_make(dir_fd, CONSOLE_IN, (uid_t)-1, &in);
        if (r >= 0)
                r = fifo_make(dir_fd, CONSOLE_OUT, (uid_t)-1, &out);
        if (r >= 0)
                r = fifo_open(dir_fd, CONSOLE_IN, &n->in);
        if (r >= 0)
                r = fifo_open(dir_fd, CONSOLE_OUT, &n->out);
        if (r >= 0)
                r = fd_set_nonblock(n->in, false);
        if (r >= 0)
                r = fd_set_nonblock(n->out, false);
        if (r >= 0 && n->guest.console)
                r = console_set_source(n->guest.console, fd_take(&out), fd_take(&in));
        return r;
}

static int null_start(Guest *g, Error *e) {
        static char name[] = "cat";
        static char *const argv[] = { name, NULL };
        NullGuest *n = null_guest(g);
        Spawn *s = &n->spawn;

        int r = open_files(n);
        if (r < 0)
                error_set_errno(e, r, "Failed to make the files of the null guest");
        else {
                s->what = "the null guest";
                s->path = wants(n, "fail=exec") ? "/nonexistent" : PROGRAM;
                s->argv = argv;
                s->stdio[0] = n->in;
                s->stdio[1] = n->out;
                s->prepare = become;
                s->prepare_data = n;
                s->deadline_usec = g->host->limits->start_usec;
                s->prepared = spawn_prepared;
                s->done = spawn_done;
                s->userdata = n;
                r = spawn_start(s, g->host->event, e);
        }
        if (r < 0) {
                close_files(n);
                remove_files(n);
                return r;
        }
        n->state = NULL_SPAWNING;
        n->paused = g->domain->spec.paused; /* in name only: "cat" would have to be stopped for more */
        return 0;
}

static int reopen_console(NullGuest *n) {
        AUTO(fd_drop) int in = -1;
        AUTO(fd_drop) int out = -1;

        int r = fifo_open(n->guest.dir_fd, CONSOLE_IN, &in);
        if (r >= 0)
                r = fifo_open(n->guest.dir_fd, CONSOLE_OUT, &out);
        if (r >= 0 && n->guest.console)
                r = console_set_source(n->guest.console, fd_take(&out), fd_take(&in));
        return r;
}

static int null_adopt(Guest *g, Error *e) {
        NullGuest *n = null_guest(g);
        AUTO(error_clear) Error why = ERROR_INIT;
        int pidfd;

        int r = process_open(&g->domain->process, &pidfd);
        if (r >= 0)
                r = process_watch(&n->process, g->host->event, &g->domain->process, pidfd, process_ended, n);
        if (r == -ESRCH)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The null guest ended while no daemon was running");
        if (r < 0)
                return error_set_errno(e, r, "Failed to watch the null guest");
        n->adopting = true;
        n->paused = g->domain->state == DOMAIN_PAUSED;
        r = reopen_console(n);
        if (r < 0)
                error_set_errno(&why, r, "Failed to open the console of the null guest");
        else
                r = await_confirmation(n, &why);
        if (r < 0)
                fail(n, &why);
        return 0;
}

/* ---- requests ---- */

static int answer_later(NullGuest *n, int fd, GuestAnswer answer, void *userdata, Error *e) {
        Answer *a = calloc(1, sizeof *a);
        int r = a ? do_later(n) : -ENOMEM;

        if (r < 0) {
                free(a);
                fd_drop(&fd);
                return error_set_errno(e, r, "Failed to ask the null guest");
        }
        *a = (Answer){ .answer = answer, .userdata = userdata, .fd = fd, .next = n->answers };
        n->answers = a;
        return 0;
}

static int check_up(NullGuest *n, Error *e) {
        if (n->state == NULL_UP && n->process.pidfd >= 0)
                return 0;
        return error_set(e, ERROR_INVALID_STATE, "Domain %s is not running", n->guest.domain->name);
}

static int set_paused(NullGuest *n, bool paused, GuestAnswer answer, void *userdata, Error *e) {
        int r = check_up(n, e);
        if (r >= 0)
                r = answer_later(n, -1, answer, userdata, e);
        if (r < 0)
                return r;
        (void)syscall(SYS_pidfd_send_signal, n->process.pidfd, paused ? SIGSTOP : SIGCONT, NULL, 0);
        n->pause_pending = n->paused != paused;
        n->paused = paused;
        return 0;
}

static int null_pause(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        return set_paused(null_guest(g), true, answer, userdata, e);
}

static int null_resume(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        return set_paused(null_guest(g), false, answer, userdata, e);
}

static int null_reset(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        NullGuest *n = null_guest(g);
        int r = set_paused(n, false, answer, userdata, e);

        if (r < 0)
                return r;
        n->ended = false;
        r = boot(n);
        return r < 0 ? error_set_errno(e, r, "Failed to reset the null guest") : 0;
}

static int null_shutdown(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        NullGuest *n = null_guest(g);
        int r = check_up(n, e);

        if (r >= 0)
                r = answer_later(n, -1, answer, userdata, e);
        if (r < 0 || n->ended)
                return r;
        n->ended = n->end_pending = true;
        n->end_reason = END_POWEROFF;
        return 0;
}

/* The head of a PNG, which is all that a test looks at. */
static int null_screenshot(Guest *g, GuestAnswer answer, void *userdata, Error *e) {
        static const char magic[8] = "\x89PNG\r\n\x1a\n";
        NullGuest *n = null_guest(g);
        int fd;

        int r = check_up(n, e);
        if (r < 0)
                return r;
        r = fd_memfd("screenshot.png", magic, sizeof magic, true, &fd);
        if (r < 0)
                return error_set_errno(e, r, "Failed to make a screenshot");
        return answer_later(n, fd, answer, userdata, e);
}

/* ---- the table ---- */

static int null_check(UNUSED const DriverHost *host, const DomainSpec *spec, Error *e) {
        if (spec->bootloader)
                return error_set(e, ERROR_NOT_SUPPORTED, "The null guest boots nothing, so it has no boot loader");
        return 0;
}

static int null_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        AUTO(error_clear) Error works = ERROR_INIT;

        return probe_answer_later(host, &works, answer, userdata, e);
}

static int null_new(Guest **ret) {
        NullGuest *n = calloc(1, sizeof *n);

        if (!n)
                return -ENOMEM;
        n->in = n->out = -1;
        n->process = PROCESS_INIT;
        spawn_init(&n->spawn);
        guest_files_init(&n->guest.files);
        *ret = &n->guest;
        return 0;
}

static Guest *null_free(Guest *g) {
        NullGuest *n = g ? null_guest(g) : NULL;
        AUTO(error_clear) Error gone = ERROR_INIT;

        if (!n)
                return NULL;
        error_set(&gone, ERROR_INVALID_STATE, "The guest has gone");
        give_answers(n, &gone);
        spawn_stop(&n->spawn);
        process_done(&n->process);
        n->timer = sd_event_source_disable_unref(n->timer);
        n->later = sd_event_source_disable_unref(n->later);
        close_files(n);
        error_clear(&n->error);
        free(n);
        return NULL;
}

const Driver null_driver = {
        .name = "null",
        .probe = null_probe,
        .check = null_check,
        .new = null_new,
        .free = null_free,
        .start = null_start,
        .adopt = null_adopt,
        .stop = null_stop,
        .reset = null_reset,
        .pause = null_pause,
        .resume = null_resume,
        .shutdown = null_shutdown,
        .screenshot = null_screenshot,
};
