/* What a starting daemon does with the domains of drivers that it cannot use: nothing. */
#include "base/test-support.h"

#include "core/test-objects.h"
#include "driver/probe.h"
#include "engine/engine.h"

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

typedef struct Fixture {
        TestDir runtime;
        Engine engine;
} Fixture;

static void open_engine(Fixture *f, const Driver *const *drivers) {
        f->engine = (Engine){
                .scope = SCOPE_SESSION, .limits = LIMITS_DEFAULT, .runtime_fd = f->runtime.fd, .drivers = drivers
        };
        assert_true(sd_event_new(&f->engine.event) >= 0);
        assert_int_equal(engine_start(&f->engine, NULL), 0);
}

static void close_engine(Fixture *f) {
        engine_done(&f->engine);
        f->engine.event = sd_event_unref(f->engine.event);
}

static int setup(void **state) {
        static const Driver *const none[] = { NULL };
        Fixture *f = calloc(1, sizeof *f);

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_driver_cannot_be_loaded),
                TEST(test_driver_is_unknown),
                TEST(test_guest_cannot_be_made),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
