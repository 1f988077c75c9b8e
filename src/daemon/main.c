/* debmarshald: from the command line to the loop, in stages. What a stage must have done, and must not do yet, stands
 * above it; none of them waits for anybody. The end goes through them backwards: what was made for users, the networks
 * and domains, is left running for the next daemon. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "bus/bus.h"
#include "daemon/background.h"
#include "daemon/config.h"
#include "daemon/idle.h"
#include "daemon/options.h"
#include "daemon/programs.h"
#include "daemon/runtime-dir.h"
#include "daemon/server.h"
#include "driver/xen/loader.h"

#define CONFIG_FILE     SYSCONFDIR "/debmarshal/debmarshald.conf"
#define LOG_FILE        "debmarshald.log"
#define OTHER_WAIT_USEC (10 * USEC_PER_SEC)
#define CHILD_WAIT_USEC (1 * USEC_PER_SEC)
#define LARGE_BLOCK     (128 * 1024)
#define LOG_FILE_MAX    (1024 * 1024)

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

typedef struct Daemon {
        Options options;
        Config config;
        char *runtime_path, *keeper_path, *dnsmasq_path;
        int runtime_fd, lock_fd, ready_pipe;
        sd_event *event;
        const Driver *drivers[5]; /* best first, ended by NULL */
        Engine engine;
        bool engine_started;
        Bus *bus;
        Server server;
        Idle idle;
} Daemon;

/* Stage 1: what is asked of us. Reads one file of the administrator's; touches nothing. */
static int stage_configure(Daemon *d, Error *e) {
        const Options *o = &d->options;

        if (o->scope == SCOPE_SYSTEM && geteuid() != 0)
                return error_set(e, ERROR_ACCESS_DENIED,
                                 "--scope=system serves every user and needs root; --scope=session serves you alone");
        int r = config_load(string_or(o->config, CONFIG_FILE), o->config != NULL, &d->config, e);
        if (r < 0)
                return r;
        log_set_level(o->log_level >= 0 ? o->log_level : d->config.log_level);
        return 0;
}

/* Does another daemon serve this directory by now? */
static bool other_serves(Daemon *d) {
        AUTO(fd_drop) int fd = -1;
        return unix_connect(d->runtime_fd, RUNTIME_SOCKET, &fd) >= 0;
}

/* Stage 2: the directory is ours alone, and no other daemon's. Until the lock is held nothing in it may be looked at.
 * 1: another daemon serves it, which is as good to who wanted one in the background. */
static int stage_runtime_dir(Daemon *d, Error *e) {
        const Options *o = &d->options;

        d->runtime_path = runtime_dir_path(o->scope, o->runtime_dir);
        if (!d->runtime_path)
                return error_set_errno(e, ENOMEM, "Failed to start");
        int r = runtime_dir_open(o->scope, d->runtime_path, &d->runtime_fd, e);
        if (r < 0)
                return r;

        /* The other one may be starting, and will serve, or ending, and leave the lock to us. One that was killed as it
         * forked has left it to the child for the instant that this takes to close what is not its own. */
        uint64_t deadline = now_monotonic_usec() + (o->daemonize ? OTHER_WAIT_USEC : CHILD_WAIT_USEC);
        while ((r = runtime_dir_lock(d->runtime_fd, &d->lock_fd, e)) == -EWOULDBLOCK) {
                if (o->daemonize && other_serves(d))
                        return 1;
                if (now_monotonic_usec() >= deadline)
                        return error_set(e, ERROR_BUSY, "Another debmarshald has the runtime directory %s",
                                         d->runtime_path);
                usleep(10 * USEC_PER_MSEC);
        }
        return r;
}

/* Stage 3: what the process is like, for all that follows. No descriptor of a caller is kept, none leaks to a child. */
static int stage_process(Daemon *d, Error *e) {
        struct rlimit limit;
        sigset_t signals;

        /* Each network and domain costs some descriptors; the kernel's default for the soft limit is for select(). */
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                        log_warning("Failed to raise the limit of open files: %s, ignoring", strerror(errno));
        }
        /* A large message must not leave a large heap: big blocks come from the kernel, and go back to it. */
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
        mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK);

        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return error_set_errno(e, errno, "Failed to block signals");
        int r = sd_event_default(&d->event);
        if (r >= 0)
                r = sd_event_add_signal(d->event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(d->event, NULL, SIGINT, NULL, NULL);
        if (r >= 0)
                sd_event_set_watchdog(d->event, true);
        return r < 0 ? error_set_errno(e, r, "Failed to make the event loop") : 0;
}

/* Stage 4: the state of a former daemon is read, and what runs is ours again. Nobody can ask for anything yet. */
static int stage_engine(Daemon *d, Error *e) {
        AUTO(string_drop) char *directory = find_own_directory();
        const Driver *drivers[] = { &kvm_driver, xen_driver_load(directory, LIBEXECDIR), &qemu_driver,
                                    d->options.driver_null ? &null_driver : NULL, NULL };

        memcpy(d->drivers, drivers, sizeof drivers);
        d->keeper_path = find_keeper();
        d->dnsmasq_path = *d->config.dnsmasq ? strdup(d->config.dnsmasq) : find_program("dnsmasq");
        if (!d->keeper_path || !d->dnsmasq_path)
                return error_set_errno(e, ENOMEM, "Failed to start");

        d->engine = (Engine){
                .event = d->event,
                .scope = d->options.scope,
                .limits = d->config.limits,
                .driver_settings = d->config.drivers,
                .runtime_fd = d->runtime_fd,
                .net_host = { .event = d->event,
                              .keeper_path = d->keeper_path,
                              .dnsmasq_path = d->dnsmasq_path,
                              .privileged = d->options.scope == SCOPE_SYSTEM },
                .drivers = d->drivers,
        };
        int r = engine_start(&d->engine, e);
        d->engine_started = r >= 0;
        return r;
}

/* The last words of a start in the background were told on its caller's standard error; the next go to a file, behind
 * those of the daemon before. */
static void say_ready(void *userdata) {
        Daemon *d = userdata;

        if (d->ready_pipe >= 0) {
                AUTO(fd_drop)
                int log = openat(d->runtime_fd, LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
                background_ready(&d->ready_pipe, log);
                log_bound_file(log >= 0 ? LOG_FILE_MAX : 0);
                if (chdir("/") < 0)
                        log_debug("Failed to leave the working directory: %s, ignoring", strerror(errno));
        }
        sd_notify(false, "READY=1\nSTATUS=Serving requests");
        log_info("Ready: scope %s, %s", d->options.scope == SCOPE_SYSTEM ? "system" : "session", d->runtime_path);
}

/* Stage 5: requests may come. In the system scope everybody may connect, and is who the kernel says; there, ready means
 * that the name on the system bus is ours too, or is not to be had for now. */
static int stage_serve(Daemon *d, Error *e) {
        bool is_system = d->options.scope == SCOPE_SYSTEM;

        int r = bus_new(d->event, &d->engine, &d->bus, e);
        if (r >= 0)
                r = server_start(&d->server, d->event, d->bus, d->runtime_fd, is_system ? 0666 : 0600, e);
        if (r < 0)
                return r;
        if (is_system) {
                bus_join_system(d->bus, say_ready, d);
                return 0;
        }
        r = idle_start(&d->idle, d->event, &d->engine, &d->server, d->config.limits.idle_usec, e);
        if (r >= 0)
                say_ready(d);
        return r;
}

static int daemon_run(Daemon *d, Error *e) {
        int r;

        if ((r = stage_configure(d, e)) < 0 || (r = stage_runtime_dir(d, e)) != 0 || (r = stage_process(d, e)) < 0 ||
            (r = stage_engine(d, e)) < 0 || (r = stage_serve(d, e)) < 0)
                return r;

        r = sd_event_loop(d->event);
        sd_notify(false, "STOPPING=1");
        return r < 0 ? error_set_errno(e, r, "The event loop failed") : 0;
}

/* No turn of the loop between these: requests that the engine still works on have lost their clients by then. */
static void daemon_done(Daemon *d) {
        idle_done(&d->idle);
        server_done(&d->server);
        d->bus = bus_free(d->bus);
        if (d->engine_started)
                engine_done(&d->engine);
        sd_event_unref(d->event);
        fd_drop(&d->ready_pipe);
        fd_drop(&d->runtime_fd);
        fd_drop(&d->lock_fd);
        free(d->runtime_path);
        free(d->keeper_path);
        free(d->dnsmasq_path);
}

int main(int argc, char **argv) {
        AUTO(error_clear) Error error = ERROR_INIT;
        Daemon d = {
                .config = CONFIG_DEFAULT, .runtime_fd = -1, .lock_fd = -1, .ready_pipe = -1, .server = SERVER_INIT
        };
        int r = 0;

        umask(077);
        if (fd_fill_stdio() < 0)
                return STATUS_FAILED;
        log_open("debmarshald");
        OptionsVerdict verdict = options_parse(argc, argv, &d.options);
        if (verdict != OPTIONS_RUN)
                return verdict == OPTIONS_DONE ? STATUS_DONE : STATUS_USAGE;

        if (d.options.daemonize) {
                BackgroundRole role = BACKGROUND_DAEMON;
                int status = STATUS_FAILED;
                r = background_fork(&role, &d.ready_pipe, &status, &error);
                if (r >= 0 && role == BACKGROUND_PARENT)
                        return status;
        }
        if (r >= 0)
                r = daemon_run(&d, &error);
        daemon_done(&d);
        if (r < 0)
                fprintf(stderr, "debmarshald: %s\n", error_text(&error));
        return r < 0 ? STATUS_FAILED : STATUS_DONE;
}
