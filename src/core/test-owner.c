#include "core/owner.h"

#include <string.h>

#include "base/test-support.h"

static void owners_drop(Owners *o) {
        owners_done(o);
}

static void test_get_makes_one_per_uid(void **state) {
        (void)state;
        AUTO(owners_drop) Owners owners;
        Owner *a, *b, *again;

        owners_init(&owners);
        assert_int_equal(owners_get(&owners, 1000, &a), 0);
        assert_int_equal(owners_get(&owners, 1001, &b), 0);
        assert_int_equal(owners_get(&owners, 1000, &again), 0);
        assert_ptr_equal(a, again);
        assert_ptr_not_equal(a, b);
        assert_int_equal(a->uid, 1000);
}

static void test_prune_keeps_holders(void **state) {
        (void)state;
        AUTO(owners_drop) Owners owners;
        Owner *a, *b;
        const Charge charge = { .streams = 1 };

        owners_init(&owners);
        assert_int_equal(owners_get(&owners, 1000, &a), 0);
        assert_int_equal(owners_get(&owners, 1001, &b), 0);
        assert_int_equal(owner_charge(b, &charge, NULL, NULL), 0);
        owners_prune(&owners);
        assert_ptr_equal(TAILQ_FIRST(&owners.list), b);
        assert_null(TAILQ_NEXT(b, entry));
        owner_release(b, &charge);
        b->pins = 1;
        owners_prune(&owners);
        assert_ptr_equal(TAILQ_FIRST(&owners.list), b);
        b->pins = 0;
        owners_prune(&owners);
        assert_true(TAILQ_EMPTY(&owners.list));
}

static void test_charge_up_to_the_limit(void **state) {
        (void)state;
        Owner owner = { .uid = 1000 };
        const Limits limits = { .domains = 2, .memory = 3ULL << 30, .vcpus = 100 };
        const Charge charge = { .domains = 1, .memory = 1ULL << 30, .vcpus = 1 };
        AUTO(error_clear) Error e = ERROR_INIT;

        assert_int_equal(owner_charge(&owner, &charge, &limits, NULL), 0);
        assert_int_equal(owner_charge(&owner, &charge, &limits, NULL), 0);
        const Charge before = owner.held;
        assert_int_equal(owner_charge(&owner, &charge, &limits, &e), -EDQUOT);
        assert_int_equal(e.id, ERROR_QUOTA_EXCEEDED);
        assert_string_equal(error_text(&e), "domains: uid 1000 holds 2, and 1 more would exceed its limit of 2");
        assert_memory_equal(&owner.held, &before, sizeof before);
        owner_release(&owner, &charge);
        assert_int_equal(owner_charge(&owner, &charge, &limits, NULL), 0);
}

static void test_all_or_nothing(void **state) {
        (void)state;
        Owner owner = { .uid = 1000 };
        const Limits limits = { .domains = 10, .memory = 1ULL << 30 };
        const Charge charge = { .domains = 1, .memory = 2ULL << 30 }, nothing = { 0 };
        AUTO(error_clear) Error e = ERROR_INIT;

        assert_int_equal(owner_charge(&owner, &charge, &limits, &e), -EDQUOT);
        assert_non_null(strstr(error_text(&e), "memory"));
        assert_non_null(strstr(error_text(&e), "2 GiB more"));
        assert_memory_equal(&owner.held, &nothing, sizeof nothing);
}

static void test_each_resource_is_limited(void **state) {
        (void)state;
        static const Charge charges[] = { { .networks = 1 }, { .domains = 1 }, { .memory = 1 },
                                          { .vcpus = 1 },    { .streams = 1 }, { .connections = 1 } };
        const Limits none = { 0 };

        for (size_t i = 0; i < ARRAY_LEN(charges); i++) {
                Owner owner = { .uid = 1000 };
                assert_int_equal(owner_charge(&owner, &charges[i], &none, NULL), -EDQUOT);
                assert_int_equal(owner_charge(&owner, &charges[i], NULL, NULL), 0);
                assert_memory_equal(&owner.held, &charges[i], sizeof charges[i]);
        }
}

static void test_what_dies_is_not_limited(void **state) {
        (void)state;
        Owner owner = { .uid = 1000 };
        const Charge dying = { .dying_spares = 1 }, network = { .networks = 1 };
        const Limits one = { .networks = 1 };

        assert_int_equal(owner_charge(&owner, &dying, &one, NULL), 0);
        assert_int_equal(owner_charge(&owner, &network, &one, NULL), 0);
        assert_int_equal(owner_charge(&owner, &dying, &one, NULL), 0);
        assert_int_equal(owner.held.dying_spares, 2);
}

static void test_no_overflow(void **state) {
        (void)state;
        Owner owner = { .uid = 1000 };
        const Limits limits = { .memory = 100 };
        const Charge small = { .memory = 10 }, large = { .memory = UINT64_MAX - 5 };

        assert_int_equal(owner_charge(&owner, &small, &limits, NULL), 0);
        assert_int_equal(owner_charge(&owner, &large, &limits, NULL), -EDQUOT);
        assert_int_equal(owner.held.memory, 10);
}

/* Found running after the limit was lowered: nothing more of it, everything else as before. */
static void test_above_a_lowered_limit(void **state) {
        (void)state;
        Owner owner = { .uid = 1000 };
        const Limits limits = { .domains = 1, .streams = 5 };
        const Charge two = { .domains = 2 }, one = { .domains = 1 }, stream = { .streams = 1 };

        assert_int_equal(owner_charge(&owner, &two, NULL, NULL), 0);
        assert_int_equal(owner_charge(&owner, &one, &limits, NULL), -EDQUOT);
        assert_int_equal(owner_charge(&owner, &stream, &limits, NULL), 0);
}

static void test_root_has_no_limit(void **state) {
        (void)state;
        const Limits limits = LIMITS_DEFAULT;

        assert_null(limits_for(&limits, 0));
        assert_ptr_equal(limits_for(&limits, 1000), &limits);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_get_makes_one_per_uid),
                cmocka_unit_test(test_prune_keeps_holders),
                cmocka_unit_test(test_charge_up_to_the_limit),
                cmocka_unit_test(test_all_or_nothing),
                cmocka_unit_test(test_what_dies_is_not_limited),
                cmocka_unit_test(test_each_resource_is_limited),
                cmocka_unit_test(test_no_overflow),
                cmocka_unit_test(test_above_a_lowered_limit),
                cmocka_unit_test(test_root_has_no_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
