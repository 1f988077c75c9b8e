/* How it works: see the states in model.h.
 *
 * The model starts with -S on descriptors that exist before it, its monitor's listening socket among them, as the qemu
 * driver's emulators do. It begins as root of a jail, since only root may open Xen's devices and the store's socket;
 * QEMU then restricts what it has open to its one domain, becomes the domain's own uid, and only then serves its
 * monitor. So an answer there means that it has given up its privilege, and what the kernel says of the process is
 * looked at before anything of the guest runs: one that is more than it should be fails the start.
 *
 * The key "state" in the store, by which Xen's tools await a model, does not come from one that is restricted.
 *
 * A model that dies closes its monitor first, then prints nothing more, then is reaped: it has GRACE_USEC for that, so
 * that its status and last words can be told, and is killed after. */
#include "driver/xen/model.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <xenctrl.h>

#include <xen/sys/privcmd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/abandon.h"
#include "driver/boot.h"
#include "driver/fifo.h"
#include "driver/xen/model-args.h"

#define GRACE_USEC   (2 * USEC_PER_SEC)
#define QMP_SOCKET   "model.sock"
#define CONSOLE_IN   "model-console.in"
#define CONSOLE_OUT  "model-console.out"
#define STDERR_FIFO  "model-stderr"
#define STORE_SOCKET "/var/run/xenstored/socket" /* where libxenstore looks */
#define PACKAGE      "qemu-system-xen"
#define STATUS_MAX   16384

static const char *const state_names[] = {
        [MODEL_NONE] = "none",
        [MODEL_SPAWNING] = "spawning",
        [MODEL_GREETING] = "greeting",
        [MODEL_SETTING] = "setting",
        [MODEL_UP] = "up",
        [MODEL_ENDING] = "ending",
};
static_assert(ARRAY_LEN(state_names) == MODEL_STATE_COUNT, "name missing");

#define TO(state) (1u << (state))
static const uint8_t UNUSED
next_states[MODEL_STATE_COUNT] = {
        [MODEL_NONE] = TO(MODEL_SPAWNING) | TO(MODEL_GREETING),
        [MODEL_SPAWNING] = TO(MODEL_GREETING) | TO(MODEL_ENDING),
        [MODEL_GREETING] = TO(MODEL_SETTING) | TO(MODEL_ENDING),
        [MODEL_SETTING] = TO(MODEL_UP) | TO(MODEL_ENDING),
        [MODEL_UP] = TO(MODEL_ENDING),
        [MODEL_ENDING] = TO(MODEL_NONE),
};

static void set_state(Model *m, ModelState next) {
        assert(next_states[m->state] & TO(next));

        log_write(LOG_DEBUG, LOG_FIELDS(.domain = m->guest->domain->name), "Device model of %s: %s -> %s",
                  m->guest->domain->name, state_names[m->state], state_names[next]);
        m->state = next;
}

/* ---- what it holds ---- */

void model_init(Model *m) {
        *m = (Model){ .listen_qmp = -1, .stderr_fd = -1, .process = PROCESS_INIT, .words = WORDS_INIT };
        for (size_t i = 0; i < ARRAY_LEN(m->taps); i++)
                m->taps[i] = -1;
        spawn_init(&m->spawn);
}

/* What the program has got, or will never get. */
static void drop_passed(Model *m) {
        fd_drop(&m->listen_qmp);
        fd_drop(&m->stderr_fd);
        taps_abandon(m->guest->host->event, m->taps, ARRAY_LEN(m->taps));
        string_list_free(&m->argv);
        string_drop(&m->program);
        string_drop(&m->console_in_path);
        string_drop(&m->console_out_path);
}

static void drop_files(Model *m) {
        static const char *const names[] = { QMP_SOCKET, CONSOLE_IN, CONSOLE_OUT, STDERR_FIFO };

        if (m->guest->console && m->type == MACHINE_HVM)
                console_set_second_source(m->guest->console, -1, -1);
        words_done(&m->words);
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                (void)unlinkat(m->guest->dir_fd, names[i], 0);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static int set_timer(Model *m, uint64_t usec) {
        m->timer = sd_event_source_disable_unref(m->timer);
        return sd_event_add_time_relative(m->guest->host->event, &m->timer, CLOCK_MONOTONIC, usec, 0, on_timer, m);
}

/* ---- the end ---- */

static void process_ended(Process *p, const ChildExit *exit);

void model_end(Model *m) {
        if (m->state == MODEL_NONE || m->state == MODEL_ENDING)
                return;
        if (m->state == MODEL_SPAWNING)
                spawn_abandon(&m->spawn, m->guest->host->event, &m->process, process_ended, m);
        set_state(m, MODEL_ENDING);
        m->timer = sd_event_source_disable_unref(m->timer);
        process_kill(&m->process);
        if (m->qmp)
                qmp_close(m->qmp); /* answers what is under way */
        drop_passed(m);
}

int model_pidfd(const Model *m) {
        return m->process.pidfd;
}

void model_clear(Model *m) {
        if (m->state == MODEL_NONE)
                return;
        model_end(m);
        if (m->process.pidfd >= 0)
                process_drop(&m->process, m->guest->host->event);
        m->qmp = qmp_free(m->qmp);
        drop_files(m);
        m->killed = false;
        set_state(m, MODEL_NONE);
}

/* Takes *why; the last thing that a function does. */
static void fail(Model *m, Error *why) {
        AUTO(error_clear) Error e = ERROR_INIT;

        error_move(&e, why);
        model_end(m);
        m->confirmed(m, &e);
}

void model_leave(Model *m) {
        spawn_stop(&m->spawn); /* of a guest that is only being made, which the next daemon undoes */
        m->timer = sd_event_source_disable_unref(m->timer);
        process_done(&m->process);
        m->qmp = qmp_free(m->qmp);
        drop_passed(m);
        words_done(&m->words);
        m->state = MODEL_NONE;
}

static const char *program_name(const Model *m) {
        const char *slash = m->program ? strrchr(m->program, '/') : NULL;

        return slash ? slash + 1 : "The device model";
}

/* "WHAT: its last words (disk PATH)". The caller's; NULL without memory. */
static char *with_words(Model *m, const char *what) {
        words_drain(&m->words);
        AUTO(string_drop) char *words = words_last_lines(&m->words);
        const char *path = emulator_disk_meant(&m->guest->domain->spec, words);
        AUTO(string_drop) char *shown = path ? string_escape(path, 1024) : NULL;

        return string_printf("%s %s%s%s%s%s%s", program_name(m), what, words ? ": " : "", string_or(words, ""),
                             shown ? " (disk " : "", string_or(shown, ""), shown ? ")" : "");
}

static void process_ended(Process *p, const ChildExit *exit) {
        Model *m = p->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;
        char how[CHILD_EXIT_TEXT_MAX];

        if (m->state == MODEL_ENDING)
                return;
        AUTO(string_drop) char *text = with_words(m, child_exit_format(exit, how));
        bool lost = m->killed && m->state == MODEL_UP;
        const char *told =
                lost ? "the device model lost its monitor and was killed" : string_or(text, "the device model ended");
        if (m->state != MODEL_UP) {
                error_set(&e, ERROR_HYPERVISOR_FAILED, "%s", told);
                fail(m, &e);
                return;
        }
        model_end(m);
        m->ended(m, told);
}

static int on_timer(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        Model *m = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (m->state == MODEL_UP) { /* its monitor is lost, but it has not ended */
                m->killed = true;
                process_kill(&m->process);
                return 0;
        }
        AUTO(string_drop) char *text = with_words(m, m->killed ? "closed its monitor" : "did not answer in time");
        error_set(&e, m->killed ? ERROR_HYPERVISOR_FAILED : ERROR_TIMEOUT, "%s",
                  string_or(text, "the device model did not answer"));
        fail(m, &e);
        return 0;
}

/* ---- the monitor ---- */

static void monitor_closed(void *userdata, const Error *why) {
        Model *m = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (m->state == MODEL_ENDING || m->process.pidfd < 0)
                return;
        if (m->state != MODEL_UP)
                m->killed = true; /* the reason, should the grace pass */
        if (set_timer(m, GRACE_USEC) >= 0)
                return;
        m->killed = true;
        if (m->state == MODEL_UP) {
                process_kill(&m->process);
                return;
        }
        error_copy(&e, why);
        fail(m, &e);
}

static int check_harmless(Model *m, Error *e) {
        AUTO(string_drop) char *status = NULL;
        char path[32];

        snprintf(path, sizeof path, "/proc/%d/status", (int)m->process.id.pid);
        int r = file_read_all(AT_FDCWD, path, STATUS_MAX, &status, NULL);
        if (r < 0)
                return error_set_errno(e, r, "Failed to look at the device model's privilege");
        if (!model_is_harmless(status, m->guest->domain->jail_uid))
                return error_set(e, ERROR_HYPERVISOR_FAILED, "%s has not given up its privilege", program_name(m));
        return 0;
}

static void set_up(void *userdata, UNUSED json_t *result, const Error *failure) {
        Model *m = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (m->state != MODEL_SETTING || !qmp_is_open(m->qmp)) /* monitor_closed() comes, and sees to it */
                return;
        if (error_copy(&e, failure) < 0 || check_harmless(m, &e) < 0) {
                fail(m, &e);
                return;
        }
        m->timer = sd_event_source_disable_unref(m->timer);
        qmp_set_deadline(m->qmp, QMP_DEADLINE_USEC);
        drop_passed(m);
        set_state(m, MODEL_UP);
        m->confirmed(m, NULL);
}

/* Its answer confirms. Nothing runs before the domain does. */
static void monitor_ready(void *userdata) {
        Model *m = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (m->state != MODEL_GREETING)
                return;
        set_state(m, MODEL_SETTING);
        if (qmp_send(m->qmp, "cont", NULL, -1, set_up, m, &e) < 0)
                fail(m, &e);
}

/* What the guest does shows in Xen. */
static void monitor_event(UNUSED void *userdata, UNUSED const char *name, UNUSED json_t *data) {
}

static const QmpEvents monitor_events = {
        .ready = monitor_ready,
        .event = monitor_event,
        .closed = monitor_closed,
};

static int connect_monitor(Model *m, Error *e) {
        int fd;

        int r = unix_connect_plain(m->guest->dir_fd, QMP_SOCKET, &fd);
        if (r >= 0)
                r = qmp_new(m->guest->host->event, fd, &monitor_events, m, &m->qmp);
        if (r < 0)
                return error_set_errno(e, r, "Failed to connect to the device model of domain %s",
                                       m->guest->domain->name);
        qmp_take_listener(m->qmp, fd_take(&m->listen_qmp));
        qmp_set_deadline(m->qmp, m->guest->host->limits->start_usec); /* the start has its own */
        return 0;
}

Qmp *model_qmp(const Model *m) {
        return m->state == MODEL_UP && qmp_is_open(m->qmp) ? m->qmp : NULL;
}

/* ---- the start ---- */

static void spawn_prepared(Spawn *s) {
        Model *m = s->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        m->guest->domain->process = s->id;
        if (m->guest->events->record(m->guest, &e) >= 0) {
                spawn_release(s);
                return;
        }
        error_set(&e, ERROR_INTERNAL, "Failed to record the device model");
        fail(m, &e);
}

static void spawn_done(Spawn *s, const Error *failure) {
        Model *m = s->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (failure) {
                error_set(&e, failure->id == ERROR_INTERNAL ? ERROR_HYPERVISOR_FAILED : failure->id, "%s",
                          error_text(failure));
                fail(m, &e);
                return;
        }
        set_state(m, MODEL_GREETING);
        int r = process_watch(&m->process, m->guest->host->event, &s->id, spawn_take_pidfd(s), process_ended, m);
        if (r < 0)
                error_set_errno(&e, r, "Failed to watch the device model of domain %s", m->guest->domain->name);
        if (r >= 0)
                r = connect_monitor(m, &e);
        if (r < 0)
                fail(m, &e);
}

int model_find_program(const DriverHost *host, char **ret, Error *e) {
        static const char *const places[] = { "/usr/libexec/xen-qemu-system-i386",
                                              "/usr/lib/xen/bin/qemu-system-i386" };
        const char *configured = host->settings->xen_device_model, *found = NULL;

        if (*configured) {
                if (access(configured, X_OK) < 0)
                        return error_set(e, ERROR_NOT_SUPPORTED,
                                         "The device model that is configured, %s, cannot be executed: %s", configured,
                                         strerror(errno));
                found = configured;
        }
        for (size_t i = 0; i < ARRAY_LEN(places) && !found; i++)
                if (access(places[i], X_OK) == 0)
                        found = places[i];
        if (!found)
                return error_set(
                        e, ERROR_NOT_SUPPORTED,
                        "Xen guests of type hvm, and disks that are not raw or a screen of others, need %s: install "
                        "package " PACKAGE,
                        places[0]);
        *ret = strdup(found);
        return *ret ? 0 : error_set_errno(e, ENOMEM, "Failed to find the device model");
}

static int find_paths(Model *m) {
        int r = fifo_path(m->guest->dir_fd, CONSOLE_IN, &m->console_in_path);

        return r < 0 ? r : fifo_path(m->guest->dir_fd, CONSOLE_OUT, &m->console_out_path);
}

/* The emulated serial line. The FIFOs stay root's, as which the model opens them. */
static int open_serial(Model *m, int (*open_fifo)(int dir_fd, const char *name, int *ret_fd)) {
        AUTO(fd_drop) int in = -1;
        AUTO(fd_drop) int out = -1;

        int r = open_fifo(m->guest->dir_fd, CONSOLE_IN, &in);
        if (r >= 0)
                r = open_fifo(m->guest->dir_fd, CONSOLE_OUT, &out);
        if (r >= 0 && m->guest->console)
                r = console_set_second_source(m->guest->console, fd_take(&out), fd_take(&in));
        return r;
}

static int open_fifos(Model *m, int (*open_fifo)(int dir_fd, const char *name, int *ret_fd)) {
        int words;
        int r = open_fifo(m->guest->dir_fd, STDERR_FIFO, &words);

        if (r >= 0)
                r = words_watch(&m->words, m->guest->host->event, words);
        return r >= 0 && m->type == MACHINE_HVM ? open_serial(m, open_fifo) : r;
}

static int make_fifo(int dir_fd, const char *name, int *ret_fd) {
        return fifo_make(dir_fd, name, (uid_t)-1, ret_fd);
}

static int make_files(Model *m, Error *e) {
        int r = find_paths(m);

        if (r >= 0)
                r = unix_listen(m->guest->dir_fd, QMP_SOCKET, 0600, &m->listen_qmp);
        if (r >= 0)
                r = open_fifos(m, make_fifo);
        if (r >= 0)
                r = fifo_open(m->guest->dir_fd, STDERR_FIFO, &m->stderr_fd);
        return r < 0 ? error_set_errno(e, r, "Failed to make the sockets of domain %s", m->guest->domain->name) : 0;
}

static int build_args(Model *m, Error *e) {
        const Guest *g = m->guest;
        const ModelArgs args = {
                .program = m->program,
                .type = m->type,
                .name = g->domain->name,
                .id = m->id,
                .uid = g->domain->jail_uid,
                .memory = m->memory,
                .spec = &g->domain->spec,
                .files = &g->files,
                .taps = m->taps,
                .qmp_fd = m->listen_qmp,
        };

        int r = model_args(&args, &m->argv, &m->fds);
        return r < 0 ? error_set_errno(e, r, "Failed to build the device model's command line") : 0;
}

/* With these a backend could do to any domain what it likes. It needs the last only to map its guest's screen. */
static const unsigned refused_ioctls[] = {
        IOCTL_PRIVCMD_HYPERCALL,     IOCTL_PRIVCMD_DM_OP,     IOCTL_PRIVCMD_MMAP,
        IOCTL_PRIVCMD_MMAP_RESOURCE, IOCTL_PRIVCMD_MMAPBATCH, IOCTL_PRIVCMD_MMAPBATCH_V2,
};

static void add_devices(Model *m) {
        static const char *const devices[] = { "/dev/xen/privcmd", "/dev/xen/hypercall" };
        static const char *const channels[] = { "/dev/xen/evtchn", "/dev/xen/gntdev" };

        for (size_t i = 0; i < ARRAY_LEN(devices); i++)
                jail_add_root_device(&m->jail, devices[i]);
        for (size_t i = 0; i < ARRAY_LEN(channels); i++)
                if (m->type == MACHINE_HVM)
                        jail_add_root_device(&m->jail, channels[i]);
                else /* opened whenever its guest connects to a device */
                        jail_add_device(&m->jail, channels[i]);
        if (m->type != MACHINE_HVM) {
                bool maps = model_has_screen(m->type, &m->guest->domain->spec);
                m->jail.refused_ioctls = refused_ioctls;
                m->jail.n_refused_ioctls = ARRAY_LEN(refused_ioctls) - maps;
        }
}

static void build_jail(Model *m) {
        const Guest *g = m->guest;
        Jail *j = &m->jail;

        *j = (Jail){ .privileged = g->host->privileged,
                     .uid = g->domain->jail_uid,
                     .gid = g->domain->jail_uid,
                     .copy_max = boot_copy_max(&g->domain->spec), /* kernel and initrd fit, unless they have grown */
                     .filtered = true, /* Debian's Xen QEMU is built without a filter of its own */
                     .becomes_itself = true };
        jail_add_system(j, m->program);
        jail_add_bind(j, STORE_SOCKET, STORE_SOCKET, true);
        add_devices(m);
        if (m->type != MACHINE_HVM)
                return;
        jail_add_bind(j, m->console_in_path, MODEL_CONSOLE_PATH ".in", false);
        jail_add_bind(j, m->console_out_path, MODEL_CONSOLE_PATH ".out", false);
        if (g->files.kernel_fd >= 0)
                jail_add_fd(j, g->files.kernel_fd, MODEL_KERNEL_PATH);
        if (g->files.initrd_fd >= 0)
                jail_add_fd(j, g->files.initrd_fd, MODEL_INITRD_PATH);
}

static int spawn(Model *m, Error *e) {
        Spawn *s = &m->spawn;

        s->what = program_name(m);
        s->path = m->program;
        s->argv = m->argv;
        s->fds = m->fds.fds;
        s->n_fds = m->fds.count;
        s->stdio[2] = m->stderr_fd;
        s->deadline_usec = m->guest->host->limits->start_usec;
        s->prepared = spawn_prepared;
        s->done = spawn_done;
        s->userdata = m;
        jail_enclose(&m->jail, s);
        return spawn_start(s, m->guest->host->event, e);
}

static int set_deadline(Model *m, Error *e) {
        int r = set_timer(m, m->guest->host->limits->start_usec);

        return r < 0 ? error_set_errno(e, r, "Failed to prepare the device model") : 0;
}

int model_start(Model *m, Error *e) {
        int r = model_find_program(m->guest->host, &m->program, e);

        if (r >= 0)
                r = set_deadline(m, e);
        if (r >= 0)
                r = make_files(m, e);
        if (r >= 0)
                r = build_args(m, e);
        if (r >= 0) {
                build_jail(m);
                r = spawn(m, e);
        }
        if (r < 0) {
                m->timer = sd_event_source_disable_unref(m->timer);
                drop_passed(m);
                drop_files(m);
                return r;
        }
        set_state(m, MODEL_SPAWNING);
        return 0;
}

int model_adopt(Model *m, Error *e) {
        const ProcessId *id = &m->guest->domain->process;
        int pidfd;

        int r = process_open(id, &pidfd);
        if (r == -ESRCH)
                return r;
        if (r < 0)
                return error_set_errno(e, r, "Failed to find the device model of domain %s", m->guest->domain->name);
        r = process_watch(&m->process, m->guest->host->event, id, pidfd, process_ended, m);
        if (r < 0)
                return error_set_errno(e, r, "Failed to watch the device model of domain %s", m->guest->domain->name);
        set_state(m, MODEL_GREETING);
        r = set_deadline(m, e);
        if (r >= 0 && (r = open_fifos(m, fifo_open)) < 0)
                error_set_errno(e, r, "Failed to open the console of domain %s", m->guest->domain->name);
        if (r >= 0)
                r = connect_monitor(m, e);
        if (r < 0)
                model_end(m);
        return r;
}
