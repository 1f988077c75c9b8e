/* Which terminal a new daemon reads a guest's console from, against a store in memory and real terminals. */
#include "base/test-support.h"

#include <stdlib.h>
#include <termios.h>

#include "base/string-util.h"
#include "driver/xen/console.h"
#include "driver/xen/fake-store.h"
#include "driver/xen/mirror.h"

#define ID    7
#define UUID  "30313233-3435-3637-3839-616263646500"
#define NAMED "/local/domain/7/console/tty"

typedef struct Terminal {
        int ours;
        char name[64];
} Terminal;

/* As xenconsoled makes one. */
static Terminal terminal_make(void) {
        Terminal t = { .ours = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC) };

        assert_true(t.ours >= 0);
        assert_int_equal(unlockpt(t.ours), 0);
        assert_int_equal(ptsname_r(t.ours, t.name, sizeof t.name), 0);
        return t;
}

typedef struct Fixture {
        XenStore *store;
        Terminal source;
        MirrorTerminal mirror;
} Fixture;

static int setup(void **state) {
        Fixture *f = calloc(1, sizeof *f);
        int fd;

        fake_store_reset();
        assert_int_equal(xenstore_open(&f->store, NULL), 0);
        f->source = terminal_make();
        assert_int_equal(xen_console_open(f->source.name, NULL, &fd, NULL), 0);
        assert_int_equal(mirror_make(f->store, ID, UUID, f->source.name, fd, &f->mirror, NULL), 0);
        close(fd);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        mirror_terminal_drop(&f->mirror);
        fd_drop(&f->source.ours);
        xenstore_drop(&f->store);
        free(f);
        return 0;
}

static void name_terminal(const char *name) {
        FakeNode *node = fake_store_find(NAMED);

        assert_non_null(node);
        snprintf(node->value, sizeof node->value, "%s", name);
}

/* Whether it can be opened, and that it is the one of that name. */
static bool source_opens(Fixture *f, const char *expected) {
        AUTO(string_drop) char *name = NULL;
        AUTO(string_drop) char *identity = NULL;
        AUTO(fd_drop) int fd = -1;

        assert_int_equal(mirror_find_source(f->store, ID, UUID, &name, &identity), 0);
        assert_string_equal(name, expected);
        return xen_console_open(name, identity, &fd, NULL) >= 0;
}

static void test_the_recorded_one(void **state) {
        Fixture *f = *state;
        FakeNode *named = fake_store_find(NAMED);

        assert_non_null(named);
        assert_string_not_equal(named->value, f->source.name);
        assert_true(source_opens(f, f->source.name));
        assert_int_equal(write(f->source.ours, "login: ", 7), 7); /* use does not make it another */
        assert_true(source_opens(f, f->source.name));
        name_terminal(""); /* a former xenconsoled's name removed, or none yet */
        assert_true(source_opens(f, f->source.name));
}

static void test_a_later_one_of_that_name_is_refused(void **state) {
        Fixture *f = *state;
        char name[64];

        strcpy(name, f->source.name);
        fd_drop(&f->source.ours);
        assert_false(source_opens(f, name));
        usleep(20000); /* the kernel's clock for such times is coarse */
        f->source = terminal_make();
        if (strcmp(f->source.name, name) != 0) /* somebody else has it already */
                skip();
        assert_false(source_opens(f, name));
        name_terminal(name); /* it is xenconsoled's after all, started anew */
        assert_true(source_opens(f, name));
}

static void test_xenconsoled_has_named_another(void **state) {
        Fixture *f = *state;
        Terminal fresh = terminal_make();

        name_terminal(fresh.name);
        assert_true(source_opens(f, fresh.name));
        close(fresh.ours);
}

/* Names only. */
static void test_what_a_former_version_kept(void **state) {
        Fixture *f = *state;

        fake_store_find("/vm/" UUID "/debmarshal/mirror")->used = false;
        fake_store_find("/vm/" UUID "/debmarshal/terminal-identity")->used = false;
        assert_true(source_opens(f, f->source.name));
}

static void test_there_is_none(void **state) {
        Fixture *f = *state;
        char *name = NULL, *identity = NULL;

        fake_store_find("/vm/" UUID "/debmarshal/terminal")->used = false;
        assert_int_equal(mirror_find_source(f->store, ID, UUID, &name, &identity), -ENOENT); /* the mirror is none */
        fake_store_reset();
        assert_int_equal(mirror_find_source(f->store, ID, UUID, &name, &identity), -ENOENT);
        assert_null(name);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_the_recorded_one),
                TEST(test_a_later_one_of_that_name_is_refused),
                TEST(test_xenconsoled_has_named_another),
                TEST(test_what_a_former_version_kept),
                TEST(test_there_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
