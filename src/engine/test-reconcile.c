/* What a starting daemon does with the domains of drivers that it cannot use: nothing; and with those that have ended.
 */
#include "base/test-support.h"

#include "base/time-util.h"
#include "core/test-objects.h"
#include "driver/probe.h"
#include "engine/internal.h"

#define USER 54321

static const struct {
        const char *name;
        DomainState state;
} recorded[] = {
        { "debmarshal-0", DOMAIN_RUNNING },
        { "debmarshal-1", DOMAIN_PAUSED },
        { "debmarshal-2", DOMAIN_CREATING },
        { "debmarshal-3", DOMAIN_DESTROYING },
};

static const Driver *const none[] = { NULL };

typedef struct Fixture {
        TestDir runtime;
        Limits limits;
        Engine engine;
} Fixture;

static void open_engine(Fixture *f, const Driver *const *drivers) {
        f->engine = (Engine){
                .scope = SCOPE_SESSION, .limits = f->limits, .runtime_fd = f->runtime.fd, .drivers = drivers
        };
        assert_true(sd_event_new(&f->engine.event) >= 0);
        assert_int_equal(engine_start(&f->engine, NULL), 0);
}

static void close_engine(Fixture *f) {
        engine_done(&f->engine);
        f->engine.event = sd_event_unref(f->engine.event);
}

static int setup(void **state) {
        Fixture *f = calloc(1, sizeof *f);

        f->limits = LIMITS_DEFAULT;
        test_dir_open(&f->runtime);
        open_engine(f, none);
        for (size_t i = 0; i < ARRAY_LEN(recorded); i++) {
                Domain *d = make_domain(&f->engine.registry, recorded[i].name, USER, "debmarshal-0", NULL);
                d->state = recorded[i].state;
                assert_int_equal(store_add_domain(f->engine.store, d, NULL), 0);
                f->engine.registry.next_domain_id++;
                registry_add_domain(&f->engine.registry, d);
        }
        close_engine(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        test_dir_close(&f->runtime);
        free(f);
        return 0;
}

static int probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        AUTO(error_clear) Error verdict = ERROR_INIT;

        error_set(&verdict, ERROR_NOT_SUPPORTED, "it is half installed");
        return probe_answer_later(host, &verdict, answer, userdata, e);
}

static void assert_refused(int r, Error *e, const char *text) {
        assert_true(r < 0);
        assert_int_equal(e->id, ERROR_NOT_SUPPORTED);
        assert_non_null(strstr(error_text(e), text));
        error_clear(e);
}

/* All are there, as they were, after one daemon and the next. */
static void assert_left_alone(Fixture *f, const Driver *driver, const char *text) {
        const Driver *drivers[] = { driver, NULL };
        const Caller owner = { .uid = USER };

        for (int again = 0; again < 2; again++) {
                open_engine(f, drivers);
                for (int i = 0; i < 10; i++)
                        assert_true(sd_event_run(f->engine.event, 0) >= 0);
                for (size_t i = 0; i < ARRAY_LEN(recorded); i++) {
                        const char *name = recorded[i].name;
                        Domain *d = registry_domain(&f->engine.registry, name);
                        AUTO(error_clear) Error e = ERROR_INIT;
                        int fd;

                        assert_non_null(d);
                        assert_int_equal(d->state, recorded[i].state);
                        assert_true(d->announced);
                        assert_refused(engine_destroy_domain(&f->engine, &owner, name, "", NULL, NULL, &e), &e, text);
                        assert_refused(engine_domain_console(&f->engine, &owner, name, &fd, &e), &e, text);
                        assert_refused(engine_domain_log(&f->engine, &owner, name, &fd, &e), &e, text);
                        assert_refused(engine_domain_act(&f->engine, &owner, name, ACT_RESUME, NULL, NULL, &e), &e,
                                       text);
                }
                close_engine(f);
        }
}

static void test_driver_cannot_be_loaded(void **state) {
        const Driver driver = { .name = "null", .probe = probe };

        assert_left_alone(*state, &driver, "half installed");
}

static void test_driver_is_unknown(void **state) {
        assert_left_alone(*state, NULL, "null");
}

static bool present(UNUSED const DriverHost *host, UNUSED const Domain *d) {
        return true;
}

static int new_fails(UNUSED Guest **ret) {
        return -EMFILE;
}

static int adopt(UNUSED Guest *g, UNUSED Error *e) {
        fail();
        return 0;
}

static void test_guest_cannot_be_made(void **state) {
        const Driver driver = { .name = "null", .probe = probe, .new = new_fails, .present = present, .adopt = adopt };

        assert_left_alone(*state, &driver, "null");
}

/* ---- ended ones ---- */

/* Oldest first, each kept where so many of a user are, or more. */
static const struct {
        uint64_t id;
        uid_t uid;
        uint64_t kept_from;
} ended[] = {
        { 101, USER, 4 }, { 102, USER + 1, 2 }, { 103, USER, 3 },
        { 104, USER, 2 }, { 105, USER, 1 },     { 106, USER + 1, 1 },
};

static void add_log(const Fixture *f, const char *name) {
        AUTO(fd_drop) int fd = openat(f->engine.ended_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
}

static bool has_log(const Fixture *f, const char *name) {
        return faccessat(f->engine.ended_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void add_ended(Fixture *f, uint64_t id, uid_t uid, uint64_t ended_usec) {
        char name[] = "debmarshal-9", message[] = "", log_name[32];
        EndedDomain record = { .id = id, .name = name, .uid = uid, .reason = END_POWEROFF, .message = message };
        Domain *d = make_domain(&f->engine.registry, name, uid, "debmarshal-0", NULL);

        d->id = id;
        record.ended_usec = ended_usec;
        assert_int_equal(store_remove_domain(f->engine.store, d, &record, NULL), 0);
        domain_free(d);
        ended_log_name(id, log_name);
        add_log(f, log_name);
}

static void assert_remembered(const Fixture *f, uint64_t per_owner) {
        EndedDomain *d = TAILQ_FIRST(&f->engine.registry.ended);

        for (size_t i = 0; i < ARRAY_LEN(ended); i++) {
                bool kept = ended[i].kept_from <= per_owner;
                char log_name[32];

                ended_log_name(ended[i].id, log_name);
                assert_int_equal(has_log(f, log_name), kept);
                if (!kept)
                        continue;
                assert_non_null(d);
                assert_int_equal(d->id, ended[i].id);
                d = TAILQ_NEXT(d, entry);
        }
        assert_null(d);
}

/* Also after the administrator has made the limit smaller; what is forgotten does not come back. */
static void test_newest_of_each_are_remembered(void **state) {
        static const uint64_t limits[] = { 64, 3, 2, 64, 0, 64 };
        Fixture *f = *state;
        uint64_t now = now_realtime_usec(), least = 64;

        open_engine(f, none);
        for (size_t i = 0; i < ARRAY_LEN(ended); i++)
                add_ended(f, ended[i].id, ended[i].uid, now - 100 + i);
        close_engine(f);
        for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
                f->limits.ended_per_owner = limits[i];
                least = limits[i] < least ? limits[i] : least;
                open_engine(f, none);
                assert_remembered(f, least);
                close_engine(f);
        }
}

static void test_old_are_forgotten(void **state) {
        Fixture *f = *state;
        uint64_t now = now_realtime_usec();

        open_engine(f, none);
        add_ended(f, 101, USER, now - f->limits.ended_usec);
        add_ended(f, 102, USER, now);
        add_ended(f, 103, USER, now + 10 * f->limits.ended_usec); /* the clock was set back */
        close_engine(f);
        open_engine(f, none);
        assert_int_equal(TAILQ_FIRST(&f->engine.registry.ended)->id, 102);
        assert_int_equal(TAILQ_LAST(&f->engine.registry.ended, EndedList)->id, 103);
        assert_false(has_log(f, "101.log"));
        assert_true(has_log(f, "102.log"));
        assert_true(has_log(f, "103.log"));
        close_engine(f);
}

static void test_unrecorded_logs_are_removed(void **state) {
        static const char *const names[] = {
                "102.log", "0101.log", "+101.log", " 101.log", "101.log~", "101.logs", "101",
                "101log",  "log",      ".log",     "0.log",    "-1.log",   "x101.log", "18446744073709551717.log"
        };
        Fixture *f = *state;

        open_engine(f, none);
        add_ended(f, 101, USER, now_realtime_usec());
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                add_log(f, names[i]);
        close_engine(f);
        open_engine(f, none);
        assert_true(has_log(f, "101.log"));
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                assert_false(has_log(f, names[i]));
        close_engine(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_driver_cannot_be_loaded), TEST(test_driver_is_unknown),
                TEST(test_guest_cannot_be_made),    TEST(test_newest_of_each_are_remembered),
                TEST(test_old_are_forgotten),       TEST(test_unrecorded_logs_are_removed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
