#include "driver/test-harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/test-remove.h"
#include "base/time-util.h"

#define LOG_NAME "console.log"

/* ---- callbacks ---- */

static void keep_text(Run *r, const char *text) {
        snprintf(r->text, sizeof r->text, "%s", text);
}

static int on_record(Guest *g, Error *e) {
        Run *r = g->userdata;

        r->recorded++;
        if (r->fail_record)
                return error_set(e, ERROR_INTERNAL, "the record was refused");
        return 0;
}

static void on_started(Guest *g, const Error *e) {
        Run *r = g->userdata;

        r->start_failed = e;
        r->error_id = e ? e->id : ERROR_NONE;
        if (e)
                keep_text(r, error_text(e));
        r->started++;
}

static void on_paused(Guest *g, bool paused) {
        Run *r = g->userdata;

        r->paused = paused;
        r->paused_calls++;
}

static void on_ended(Guest *g, EndReason reason, const char *text) {
        Run *r = g->userdata;

        r->reason = reason;
        keep_text(r, string_or(text, ""));
        r->ended++;
}

static void on_stopped(Guest *g) {
        ((Run *)g->userdata)->stopped++;
}

static void on_asking(Guest *g) {
        ((Run *)g->userdata)->asked++;
}

static const GuestEvents run_events = {
        .record = on_record,
        .started = on_started,
        .asking = on_asking,
        .paused = on_paused,
        .ended = on_ended,
        .stopped = on_stopped,
};

void run_answer(void *run, int fd, const Error *e) {
        Run *r = run;

        fd_drop(&r->fd);
        r->fd = fd;
        r->answer_failed = e;
        r->error_id = e ? e->id : ERROR_NONE;
        if (e)
                keep_text(r, error_text(e));
        r->answers++;
}

/* ---- life ---- */

void harness_begin(Harness *h) {
        *h = (Harness){ .limits = LIMITS_DEFAULT, .settings = DRIVER_SETTINGS_DEFAULT };
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* what a forked daemon leaves comes to us */
        assert_true(sd_event_new(&h->event) >= 0);
        strcpy(h->directory, "/tmp/test-driver-XXXXXX");
        assert_non_null(mkdtemp(h->directory));
        h->host = (DriverHost){
                .event = h->event,
                .privileged = geteuid() == 0,
                .domains_fd = open(h->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                .limits = &h->limits,
                .settings = &h->settings,
        };
        assert_true(h->host.domains_fd >= 0);
}

void harness_end(Harness *h) {
        fd_drop(&h->host.domains_fd);
        h->event = sd_event_unref(h->event);
        assert_int_equal(test_remove_tree(h->directory), 0);
}

static void open_guest(Run *r, const Driver *driver) {
        const char *name = r->domain.name;
        int log_fd;

        assert_int_equal(driver->new (&r->guest), 0);
        Guest *g = r->guest;
        g->driver = driver;
        g->host = &r->harness->host;
        g->domain = &r->domain;
        g->events = &run_events;
        g->userdata = r;
        g->dir_fd = openat(r->harness->host.domains_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(g->dir_fd >= 0);
        log_fd = openat(g->dir_fd, LOG_NAME, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        assert_true(log_fd >= 0);
        assert_int_equal(console_new(r->harness->event, log_fd, 1 << 20, &g->console), 0);
        guest_files_init(&g->files);
}

void run_begin(Run *r, Harness *h, const Driver *driver, const char *name, DomainSpec *spec) {
        static uint32_t next_uid = 0x70000100;

        *r = (Run){ .harness = h, .fd = -1 };
        r->owner.uid = geteuid();
        r->domain = (Domain){
                .name = strdup(name),
                .id = 1,
                .owner = &r->owner,
                .state = DOMAIN_CREATING,
                .spec = *spec,
                .jail_uid = geteuid() == 0 ? next_uid++ : 0,
        };
        *spec = DOMAIN_SPEC_INIT;
        if (!r->domain.spec.arch)
                r->domain.spec.arch = strdup(host_arch());
        if (!r->domain.spec.hypervisor)
                r->domain.spec.hypervisor = strdup(driver->name);
        if (!r->domain.spec.memory)
                r->domain.spec.memory = 128ULL << 20;
        assert_int_equal(mkdirat(h->host.domains_fd, name, 0700), 0);
        open_guest(r, driver);
}

void run_forget(Run *r) {
        if (!r->guest)
                return;
        Console *console = r->guest->console;
        int dir_fd = r->guest->dir_fd;
        r->guest = r->guest->driver->free(r->guest);
        console_free(console);
        fd_drop(&dir_fd);
}

void run_renew(Run *r, const Driver *driver) {
        run_forget(r);
        r->started = r->stopped = r->ended = r->paused_calls = r->answers = 0;
        open_guest(r, driver);
}

void run_end(Run *r) {
        run_forget(r);
        fd_drop(&r->fd);
        domain_spec_clear(&r->domain.spec);
        assert_int_equal(remove_tree(r->harness->host.domains_fd, r->domain.name), 0);
        free(r->domain.name);
}

/* ---- waiting ---- */

bool run_until(Run *r, const unsigned *counter, unsigned wanted, unsigned seconds) {
        uint64_t end = now_monotonic_usec() + seconds * USEC_PER_SEC;

        while (*counter < wanted && now_monotonic_usec() < end)
                assert_true(sd_event_run(r->harness->event, 100 * USEC_PER_MSEC) >= 0);
        return *counter >= wanted;
}

void run_for(Run *r, unsigned milliseconds) {
        uint64_t end = now_monotonic_usec() + milliseconds * USEC_PER_MSEC;

        while (now_monotonic_usec() < end)
                assert_true(sd_event_run(r->harness->event, 10 * USEC_PER_MSEC) >= 0);
}

void run_start(Run *r) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (r->guest->driver->start(r->guest, &e) < 0)
                fail_msg("start: %s", error_text(&e));
        assert_int_equal(r->started, 0);
        assert_true(run_until(r, &r->started, 1, 30));
        if (r->start_failed)
                fail_msg("started: %s", r->text);
        assert_int_equal(r->recorded, 1);
        assert_true(run_alive(r));
        r->domain.state = r->domain.spec.paused ? DOMAIN_PAUSED : DOMAIN_RUNNING;
}

void run_stop(Run *r) {
        r->guest->driver->stop(r->guest);
        assert_int_equal(r->stopped, 0);
        assert_true(run_until(r, &r->stopped, 1, 10));
        assert_false(run_alive(r));
        run_check_clean(r);
}

void run_request(Run *r, Request request) {
        AUTO(error_clear) Error e = ERROR_INIT;
        unsigned answers = r->answers;

        if (request(r->guest, run_answer, r, &e) < 0)
                fail_msg("request: %s", error_text(&e));
        assert_int_equal(r->answers, answers);
        assert_true(run_until(r, &r->answers, answers + 1, 30));
}

/* ---- looking ---- */

bool run_alive(const Run *r) {
        ProcessId now;

        return process_identify(r->domain.process.pid, &now) == 0 && now.start_time == r->domain.process.start_time;
}

bool run_console_has(Run *r, const char *text, unsigned seconds) {
        uint64_t end = now_monotonic_usec() + seconds * USEC_PER_SEC;

        for (;;) {
                AUTO(string_drop) char *log = NULL;
                assert_int_equal(file_read_all(r->guest->dir_fd, LOG_NAME, 4 << 20, &log, NULL), 0);
                if (strstr(log, text))
                        return true;
                if (now_monotonic_usec() >= end)
                        return false;
                run_for(r, 50);
        }
}

void run_check_clean(Run *r) {
        int fd = openat(r->guest->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fdopendir(fd);
        struct dirent *entry;

        assert_non_null(d);
        while ((entry = readdir(d)))
                if (entry->d_name[0] != '.' && strcmp(entry->d_name, LOG_NAME) != 0)
                        fail_msg("%s is left", entry->d_name);
        closedir(d);
}
