/* A domain's entries against a store in memory: who may what, all or nothing, and nothing left. */
#include "base/test-support.h"
#include "base/time-util.h"
#include "core/owner.h"
#include "driver/xen/entries.h"
#include "driver/xen/fake-store.h"

typedef struct Fixture {
        XenStore *store;
        Domain domain;
        char name[16];
        XenIdentity who;
        size_t at_first;
} Fixture;

static Fixture fixture;

static int setup(void **state) {
        Fixture *f = *state = &fixture;

        fake_store_reset();
        *f = (Fixture){ .name = "debmarshal-0" };
        f->domain = (Domain){ .name = f->name, .spec = DOMAIN_SPEC_INIT, .uuid = "0123456789abcde" };
        f->domain.spec.memory = 128 << 20;
        f->domain.spec.vcpus = 2;
        f->who = (XenIdentity){ .id = 7, .domain = &f->domain, .type = MACHINE_PVH };
        domain_uuid_format(f->domain.uuid, f->who.uuid);
        assert_int_equal(xenstore_open(&f->store, NULL), 0);
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        xenstore_drop(&f->store);
        return 0;
}

static const char *value(const char *path) {
        const FakeNode *node = fake_store_find(path);

        assert_non_null(node);
        return node->value;
}

static void test_what_a_guest_and_the_tools_need(void **state) {
        Fixture *f = *state;
        char path[XEN_PATH_MAX];

        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        assert_string_equal(value("/local/domain/7/name"), "debmarshal-0");
        assert_string_equal(value("/local/domain/7/domid"), "7");
        assert_string_equal(value("/local/domain/7/memory/target"), "131072");
        assert_string_equal(value("/local/domain/7/cpu/1/availability"), "online");
        assert_null(fake_store_find("/local/domain/7/cpu/2/availability"));
        assert_string_equal(value("/libxl/7/type"), "pvh");
        snprintf(path, sizeof path, "/vm/%s", f->who.uuid);
        assert_string_equal(value("/local/domain/7/vm"), path);

        XenRings rings = { .store_port = 1, .console_port = 2, .store_frame = 3, .console_frame = 4 };
        assert_int_equal(entries_add_rings(f->store, &f->who, &rings, NULL), 0);
        assert_string_equal(value("/local/domain/7/console/ring-ref"), "4");
        assert_string_equal(value("/local/domain/7/store/port"), "1");
}

static void test_what_firmware_and_model_need(void **state) {
        Fixture *f = *state;
        char path[XEN_PATH_MAX];
        char password[] = "secret";

        f->who.type = MACHINE_HVM;
        f->domain.spec.vnc_password = password;
        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        assert_string_equal(value("/local/domain/7/hvmloader/bios"), "seabios");
        assert_string_equal(value("/local/domain/7/memory/static-max"), "131072");
        assert_string_equal(value("/local/domain/7/memory/target"), "122880"); /* without the screen's */
        assert_int_equal(fake_store_find("/local/domain/0/device-model/7")->reader, UINT32_MAX);
        snprintf(path, sizeof path, "/vm/%s/vncpasswd", f->who.uuid);
        assert_string_equal(value(path), "secret");
        assert_int_equal(fake_store_find(path)->owner, 0);
        assert_int_equal(fake_store_find(path)->reader, UINT32_MAX);
        assert_int_equal(entries_remove(f->store, 7, f->who.uuid, XEN_REMAINS_DOMAIN, NULL), 0);
        assert_int_equal(fake_store_count(), 0);
}

/* What is not in the list of what the guest answers by, it may read, and no more. */
static void test_guest_owns_only_its_answers(void **state) {
        Fixture *f = *state;
        static const char *const owned[] = {
                "control/", "device/suspend", "data", "drivers", "feature", "attr", "error"
        };

        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
                const FakeNode *node = &fake_store.nodes[i];
                bool may = false;

                if (!node->used)
                        continue;
                for (size_t k = 0; k < ARRAY_LEN(owned); k++)
                        may = may || strncmp(node->path, "/local/domain/7/", 16) != 0 ||
                              strncmp(node->path + 16, owned[k], strlen(owned[k])) == 0;
                if (!may || strncmp(node->path, "/libxl", 6) == 0)
                        assert_int_equal(node->owner, 0);
                if (strncmp(node->path, "/libxl", 6) == 0)
                        assert_int_equal(node->reader, UINT32_MAX);
        }
        assert_int_equal(fake_store_find("/local/domain/7/control/shutdown")->owner, 7);
        assert_int_equal(fake_store_find("/local/domain/7/console")->owner, 0);
}

static void test_conflicts_are_tried_again(void **state) {
        Fixture *f = *state;

        fake_store.conflicts = 3;
        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        assert_int_equal(fake_store.ended, 4);
        assert_non_null(fake_store_find("/local/domain/7/name"));
}

static void test_but_not_for_ever(void **state) {
        Fixture *f = *state;
        AUTO(error_clear) Error e = ERROR_INIT;

        fake_store.conflicts = 1000000;
        assert_int_equal(entries_add(f->store, &f->who, &e), -EAGAIN);
        assert_true(error_is_set(&e));
        assert_int_equal(fake_store_count(), 0);
}

static void test_all_or_nothing(void **state) {
        Fixture *f = *state;
        AUTO(error_clear) Error e = ERROR_INIT;

        fake_store.refuse = "/local/domain/7/domid";
        assert_int_equal(entries_add(f->store, &f->who, &e), -EACCES);
        assert_non_null(strstr(error_text(&e), "/local/domain/7/domid"));
        assert_int_equal(fake_store_count(), 0);
}

static void add_backend(Fixture *f, XenStoreFill fill) {
        assert_int_equal(xenstore_change(f->store, fill, f->who.uuid, NULL), 0);
}

static void fill_backend(XenStoreChange *c, const void *uuid) {
        change_write(c, "/local/domain/0/backend/vif/7/0", XEN_OWNER_KEY, "%s", (const char *)uuid);
        change_write(c, "/local/domain/0/backend/vif/7/0", "state", "4");
        change_write(c, "/local/domain/0/error/backend/vif/7/0", "error", "17");
}

static void test_nothing_is_left(void **state) {
        Fixture *f = *state;
        XenRemains remains;
        uint32_t id;

        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        add_backend(f, fill_backend);
        assert_int_equal(entries_find(f->store, f->who.uuid, &id, &remains), 0);
        assert_int_equal(id, 7);
        assert_int_equal(remains, XEN_REMAINS_DOMAIN);
        assert_int_equal(entries_remove(f->store, id, f->who.uuid, remains, NULL), 0);
        assert_int_equal(fake_store_count(), 0);
        assert_int_equal(entries_find(f->store, f->who.uuid, &id, &remains), -ENOENT);
        assert_int_equal(entries_remove(f->store, 7, f->who.uuid, XEN_REMAINS_DOMAIN, NULL), 0);
}

/* Others destroyed ours, and a domain of theirs has the number now. */
static void test_others_domain_is_not_touched(void **state) {
        Fixture *f = *state;
        XenIdentity other = f->who;
        XenRemains remains;
        uint32_t id;

        add_backend(f, fill_backend);
        other.uuid[0] ^= 1;
        assert_int_equal(entries_add(f->store, &other, NULL), 0);
        size_t theirs = fake_store_count() - 3;
        assert_int_equal(entries_find(f->store, f->who.uuid, &id, &remains), 0);
        assert_int_equal(remains, XEN_REMAINS_DEVICES);
        assert_int_equal(entries_remove(f->store, id, f->who.uuid, remains, NULL), 0);
        assert_int_equal(fake_store_count(), theirs);
        assert_string_equal(value("/local/domain/7/name"), "debmarshal-0");
}

/* The same of what a device model had there. */
static void test_nothing_of_a_model_is_left(void **state) {
        Fixture *f = *state;
        XenRemains remains;
        uint32_t id;

        f->who.type = MACHINE_HVM;
        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        assert_int_equal(entries_remove(f->store, 7, "another", XEN_REMAINS_DEVICES, NULL), 0);
        assert_non_null(fake_store_find("/local/domain/0/device-model/7"));
        fake_store_find("/local/domain/7/vm")->value[0] = 'x'; /* another domain has its number by now */
        assert_int_equal(entries_find(f->store, f->who.uuid, &id, &remains), 0);
        assert_int_equal(remains, XEN_REMAINS_DEVICES);
        assert_int_equal(entries_remove(f->store, id, f->who.uuid, remains, NULL), 0);
        assert_null(fake_store_find("/local/domain/0/device-model/7"));
        assert_non_null(fake_store_find("/local/domain/7/name"));
}

static void test_wait_has_an_end(void **state) {
        Fixture *f = *state;
        AUTO(string_drop) char *text = NULL;

        assert_int_equal(xenstore_wait(f->store, "/never", 20 * USEC_PER_MSEC, &text), -ETIMEDOUT);
        assert_int_equal(entries_add(f->store, &f->who, NULL), 0);
        assert_int_equal(xenstore_wait(f->store, "/local/domain/7/name", 20 * USEC_PER_MSEC, &text), 0);
        assert_string_equal(text, "debmarshal-0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_what_a_guest_and_the_tools_need),
                TEST(test_what_firmware_and_model_need),
                TEST(test_guest_owns_only_its_answers),
                TEST(test_conflicts_are_tried_again),
                TEST(test_but_not_for_ever),
                TEST(test_all_or_nothing),
                TEST(test_nothing_is_left),
                TEST(test_others_domain_is_not_touched),
                TEST(test_nothing_of_a_model_is_left),
                TEST(test_wait_has_an_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
