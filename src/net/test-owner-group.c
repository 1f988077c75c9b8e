/* Needs root: the user database is replaced, in a mount namespace of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time-util.h"
#include "core/test-children.h"
#include "net/owner-group.h"

#define USER 54321

typedef struct Asked {
        OwnerGroup group; /* first */
        Owner owner;
        bool done;
} Asked;

static void on_asked(OwnerGroup *g) {
        ((Asked *)g)->done = true;
}

static void asked_init(Asked *a) {
        *a = (Asked){ .owner = { .uid = USER } };
        owner_group_init(&a->group);
        a->group.owner = &a->owner;
        a->group.done = on_asked;
        assert_false(owner_group_is_known(&a->owner));
}

static void ask(sd_event *event, Asked *a) {
        a->done = false;
        assert_int_equal(owner_group_ask(&a->group, event, NULL), 0);
        assert_false(a->done); /* never from inside the call */
        assert_true(loop_until(event, &a->done));
        assert_true(owner_group_is_known(&a->owner));
}

static void put_database(const char *text) {
        FILE *file = fopen("/run/passwd", "we");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(mount("/run/passwd", "/etc/passwd", NULL, MS_BIND, NULL), 0);
}

static void test_group_of_a_user(void **state) {
        Baseline *b = *state;
        Asked a;

        put_database("root:x:0:0::/:/bin/sh\nsomebody:x:54321:777::/:/bin/sh\n");
        asked_init(&a);
        ask(b->event, &a);
        assert_int_equal(a.owner.group, 777);
        a.owner.group_usec -= 61 * USEC_PER_SEC; /* and is asked for again when that is long ago */
        assert_false(owner_group_is_known(&a.owner));
        assert_int_equal(umount2("/etc/passwd", MNT_DETACH), 0);
}

static void test_stranger_has_none(void **state) {
        Baseline *b = *state;
        Asked a;

        put_database("root:x:0:0::/:/bin/sh\n");
        asked_init(&a);
        ask(b->event, &a);
        assert_int_equal(a.owner.group, (gid_t)-1);
        assert_int_equal(umount2("/etc/passwd", MNT_DETACH), 0);
}

static int count_tick(sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        ++*(unsigned *)userdata;
        return sd_event_source_set_time_relative(s, USEC_PER_MSEC) < 0 ? -1
                                                                       : sd_event_source_set_enabled(s, SD_EVENT_ON);
}

/* A database whose server does not answer: whoever opens this waits. */
static void test_slow_database_holds_up_nobody(void **state) {
        Baseline *b = *state;
        sd_event_source *ticking = NULL;
        unsigned ticks = 0;
        Asked a;

        assert_int_equal(mkfifo("/run/slow-passwd", 0600), 0);
        assert_int_equal(mount("/run/slow-passwd", "/etc/passwd", NULL, MS_BIND, NULL), 0);
        assert_true(sd_event_add_time_relative(b->event, &ticking, CLOCK_MONOTONIC, 0, 1, count_tick, &ticks) >= 0);
        asked_init(&a);
        a.group.deadline_usec = 300 * USEC_PER_MSEC;
        ask(b->event, &a); /* known from then on, so that the next one does not wait as well */
        assert_true(ticks > 20);
        assert_int_equal(a.owner.group, (gid_t)-1);

        a.done = false;
        assert_int_equal(owner_group_ask(&a.group, b->event, NULL), 0);
        owner_group_stop(&a.group); /* its network is no longer wanted */
        assert_false(a.done);
        sd_event_source_disable_unref(ticking);
        assert_int_equal(umount2("/etc/passwd", MNT_DETACH), 0);
}

static int own_mounts(UNUSED void **state) {
        return unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                               mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0
                       ? -1
                       : 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, baseline_setup, baseline_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_group_of_a_user),
                TEST(test_stranger_has_none),
                TEST(test_slow_database_holds_up_nobody),
        };
        return geteuid() == 0 ? cmocka_run_group_tests(tests, own_mounts, NULL) : 77;
}
