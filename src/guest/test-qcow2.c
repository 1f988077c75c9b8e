#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/qcow2.h"

/* A header as qemu-img writes it: version 3, clusters of 64 KiB, a backing file behind the extensions. */
typedef struct Image {
        uint8_t data[QCOW2_HEADER_READ + 16];
        size_t length, used;
} Image;

static void put32(Image *i, size_t offset, uint32_t value) {
        for (int n = 0; n < 4; n++)
                i->data[offset + (size_t)n] = (uint8_t)(value >> (24 - 8 * n));
}

static void put64(Image *i, size_t offset, uint64_t value) {
        put32(i, offset, (uint32_t)(value >> 32));
        put32(i, offset + 4, (uint32_t)value);
}

static void image_init(Image *i, uint32_t version) {
        memset(i, 0, sizeof *i);
        memcpy(i->data, "QFI\xfb", 4);
        put32(i, 4, version);
        put32(i, 20, 16);
        put64(i, 24, 1 << 20);
        if (version == 3) {
                put32(i, 96, 4);
                put32(i, 100, 104);
        }
        i->used = version == 3 ? 104 : 72;
        i->length = QCOW2_HEADER_READ;
}

static void add_extension(Image *i, uint32_t type, const void *data, uint32_t length) {
        put32(i, i->used, type);
        put32(i, i->used + 4, length);
        memcpy(i->data + i->used + 8, data, length);
        i->used += 8 + ((length + 7) & ~7u);
}

static void add_backing(Image *i, const char *name) {
        add_extension(i, 0, "", 0);
        put64(i, 8, i->used);
        put32(i, 16, (uint32_t)strlen(name));
        memcpy(i->data + i->used, name, strlen(name));
}

static void expect_refused(const Image *i, const char *part) {
        Qcow2Header h = { .version = 77 };
        Error e = ERROR_INIT;

        assert_int_equal(qcow2_parse(i->data, i->length, &h, &e), error_errno(ERROR_INVALID_INPUT));
        assert_int_equal(e.id, ERROR_INVALID_INPUT);
        assert_non_null(strstr(error_text(&e), part));
        assert_int_equal(h.version, 77); /* only written on success */
        error_clear(&e);
}

static void expect_accepted(const Image *i, Qcow2Header *h) {
        Error e = ERROR_INIT;

        assert_int_equal(qcow2_parse(i->data, i->length, h, &e), 0);
        assert_false(error_is_set(&e));
}

static void test_plain(void **state) {
        Qcow2Header h;
        Image i;

        (void)state;
        for (uint32_t version = 2; version <= 3; version++) {
                image_init(&i, version);
                expect_accepted(&i, &h);
                assert_int_equal(h.version, version);
                assert_int_equal(h.virtual_size, 1 << 20);
                assert_string_equal(h.backing_file, "");
                assert_string_equal(h.backing_format, "");
        }
}

static void test_backing(void **state) {
        Qcow2Header h;
        Image i;

        (void)state;
        for (uint32_t version = 2; version <= 3; version++) {
                image_init(&i, version);
                add_extension(&i, 0x6803f857, "feature name table, ignored", 27);
                add_extension(&i, 0xE2792ACA, "qcow2", 5);
                add_backing(&i, "../base, with: comma.qcow2");
                expect_accepted(&i, &h);
                assert_string_equal(h.backing_file, "../base, with: comma.qcow2");
                assert_string_equal(h.backing_format, "qcow2");
        }
        /* What stands behind the end marker is not an extension. */
        image_init(&i, 3);
        add_extension(&i, 0, "", 0);
        add_extension(&i, 0xE2792ACA, "raw", 3);
        expect_accepted(&i, &h);
        assert_string_equal(h.backing_format, "");
}

static void test_backing_refused(void **state) {
        static const char *const protocols[] = { "nbd:localhost:10809", "json:{\"driver\":\"file\"}", "fat:/etc",
                                                 "file:/etc/shadow", "ssh:x" };
        Image i;

        (void)state;
        for (size_t n = 0; n < sizeof protocols / sizeof *protocols; n++) {
                image_init(&i, 3);
                add_backing(&i, protocols[n]);
                expect_refused(&i, "is not a path");
        }
        image_init(&i, 3);
        add_backing(&i, "abc");
        i.data[i.used + 1] = '\0';
        expect_refused(&i, "NUL");

        image_init(&i, 3);
        add_backing(&i, "abc");
        put32(&i, 16, 0);
        expect_refused(&i, "impossible length");
        put32(&i, 16, 1024);
        expect_refused(&i, "impossible length");
        put32(&i, 16, UINT32_MAX);
        expect_refused(&i, "impossible length");
        put32(&i, 16, 3);
        put64(&i, 8, 96); /* inside the header */
        expect_refused(&i, "outside");
        put64(&i, 8, QCOW2_HEADER_READ - 2);
        expect_refused(&i, "outside");
        put64(&i, 8, UINT64_MAX - 1);
        expect_refused(&i, "outside");
}

static void test_longest_backing_name(void **state) {
        char name[1024];
        Qcow2Header h;
        Image i;

        (void)state;
        memset(name, 'x', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        image_init(&i, 3);
        add_backing(&i, name);
        expect_accepted(&i, &h);
        assert_string_equal(h.backing_file, name);
}

static void test_features(void **state) {
        Qcow2Header h;
        Image i;

        (void)state;
        image_init(&i, 3);
        put64(&i, 72, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4);
        expect_accepted(&i, &h);
        put64(&i, 72, 1 << 2);
        expect_refused(&i, "external file");
        put64(&i, 72, 1 << 5);
        expect_refused(&i, "unknown incompatible features (0x20)");
        put64(&i, 72, 1ULL << 63);
        expect_refused(&i, "unknown");
        /* Version 2 has no such field: the bytes belong to whatever follows. */
        image_init(&i, 2);
        add_extension(&i, 0x12345678, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
        expect_accepted(&i, &h);
}

static void test_fixed_part_refused(void **state) {
        Image i;

        (void)state;
        image_init(&i, 3);
        i.data[3] = 0;
        expect_refused(&i, "not a qcow2 image");
        image_init(&i, 1);
        expect_refused(&i, "version 1");
        image_init(&i, 4);
        expect_refused(&i, "version 4");
        image_init(&i, 3);
        put32(&i, 32, 2);
        expect_refused(&i, "encrypted");

        static const uint32_t cluster_bits[] = { 0, 8, 22, 64, UINT32_MAX };
        for (size_t n = 0; n < sizeof cluster_bits / sizeof *cluster_bits; n++) {
                image_init(&i, 3);
                put32(&i, 20, cluster_bits[n]);
                expect_refused(&i, "cluster size");
        }
        static const uint32_t lengths[] = { 0, 72, 103, 105, 65544, UINT32_MAX };
        for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
                image_init(&i, 3);
                put32(&i, 100, lengths[n]);
                expect_refused(&i, "impossible length");
        }
}

/* A header that goes past the first cluster is none. */
static void test_small_clusters(void **state) {
        Qcow2Header h;
        Image i;

        (void)state;
        image_init(&i, 3);
        put32(&i, 20, 9);
        add_extension(&i, 0xE2792ACA, "raw", 3);
        add_backing(&i, "base");
        expect_accepted(&i, &h);
        put64(&i, 8, 510);
        expect_refused(&i, "outside");
}

static void test_extensions_refused(void **state) {
        Image i;

        (void)state;
        image_init(&i, 3);
        add_extension(&i, 0xE2792ACA, "raw", 3);
        add_extension(&i, 0xE2792ACA, "raw", 3);
        expect_refused(&i, "twice");
        image_init(&i, 3);
        add_extension(&i, 0xE2792ACA, "", 0);
        expect_refused(&i, "malformed");
        image_init(&i, 3);
        add_extension(&i, 0xE2792ACA, "ra\0w", 4);
        expect_refused(&i, "malformed");
        image_init(&i, 3);
        add_extension(&i, 0xE2792ACA, "0123456789012345678901234567890123456789", 32);
        expect_refused(&i, "malformed");
        image_init(&i, 3);
        add_extension(&i, 0x12345678, "", 0);
        put32(&i, 108, UINT32_MAX);
        expect_refused(&i, "longer than its header");
        put32(&i, 108, QCOW2_HEADER_READ - 111);
        expect_refused(&i, "longer than its header");
}

/* Every cut of a good header, in a buffer of exactly that size: for the sanitizers. */
static void test_cut_short(void **state) {
        Qcow2Header h;
        Image i;

        (void)state;
        image_init(&i, 3);
        add_extension(&i, 0xE2792ACA, "raw", 3);
        add_backing(&i, "base");
        for (size_t length = 0; length <= i.used + 4; length++) {
                uint8_t *copy = malloc(length + 1);

                assert_non_null(copy);
                memcpy(copy + 1, i.data, length);
                int r = qcow2_parse(copy + 1, length, &h, NULL);
                if (length == i.used + 4)
                        assert_int_equal(r, 0);
                else
                        assert_int_equal(r, error_errno(ERROR_INVALID_INPUT));
                free(copy);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),           cmocka_unit_test(test_backing),
                cmocka_unit_test(test_backing_refused), cmocka_unit_test(test_longest_backing_name),
                cmocka_unit_test(test_features),        cmocka_unit_test(test_fixed_part_refused),
                cmocka_unit_test(test_small_clusters),  cmocka_unit_test(test_extensions_refused),
                cmocka_unit_test(test_cut_short),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
