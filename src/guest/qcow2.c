/* The qcow2 header, big-endian (QEMU's docs/interop/qcow2.txt):
 *
 *     0 magic "QFI\xfb"        20 cluster_bits     72 incompatible features   \
 *     4 version                24 virtual size     96 refcount order           > version 3 only
 *     8 backing name: offset   32 encryption      100 header length           /
 *    16 backing name: length   36 l1_size ...     (version 2 ends at 72)
 *
 * Behind the header come extensions, each a type, a length and data padded to eight bytes, up to type 0, the backing
 * name or the end of the first cluster. Only the backing format's extension is of interest.
 *
 * Nothing here decides what QEMU will open: the driver builds each node of the chain itself, from the descriptors that
 * files.c collected by what stands here, and QEMU never opens a file by name. So a header that QEMU would read
 * differently gives a guest with a wrong disk, not a guest with somebody else's. What a header must not do is to ask
 * for a file that is not passed: hence no external data file. */
#include "guest/qcow2.h"

#include <string.h>

#include "base/macros.h"
#include "base/string-util.h"

enum {
        OFFSET_VERSION = 4,
        OFFSET_BACKING_OFFSET = 8,
        OFFSET_BACKING_LENGTH = 16,
        OFFSET_CLUSTER_BITS = 20,
        OFFSET_SIZE = 24,
        OFFSET_CRYPT = 32,
        LENGTH_V2 = 72,
        OFFSET_INCOMPATIBLE = 72,
        OFFSET_HEADER_LENGTH = 100,
        LENGTH_V3 = 104,
};

#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21

#define EXTENSION_END            0u
#define EXTENSION_BACKING_FORMAT 0xE2792ACAu

/* Dirty and corrupt are for QEMU to judge, the compression type and subclusters change nothing for us. */
#define INCOMPATIBLE_DIRTY         (1ULL << 0)
#define INCOMPATIBLE_CORRUPT       (1ULL << 1)
#define INCOMPATIBLE_EXTERNAL_DATA (1ULL << 2)
#define INCOMPATIBLE_COMPRESSION   (1ULL << 3)
#define INCOMPATIBLE_EXTENDED_L2   (1ULL << 4)
#define INCOMPATIBLE_ALLOWED                                                                                           \
        (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2)

/* The file's first bytes, of which the header may use `limit`: no more than the first cluster. */
typedef struct Bytes {
        const uint8_t *data;
        size_t limit;
} Bytes;

static uint32_t get32(const Bytes *b, size_t offset) {
        const uint8_t *p = b->data + offset;

        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t get64(const Bytes *b, size_t offset) {
        return (uint64_t)get32(b, offset) << 32 | get32(b, offset + 4);
}

static bool inside(const Bytes *b, uint64_t offset, uint64_t length) {
        return offset <= b->limit && length <= b->limit - offset;
}

static int check_features(const Bytes *b, Error *e) {
        uint64_t features = get64(b, OFFSET_INCOMPATIBLE);

        if (features & INCOMPATIBLE_EXTERNAL_DATA)
                return error_set(e, ERROR_INVALID_INPUT, "its data is in an external file, which is not supported");
        if (features & ~INCOMPATIBLE_ALLOWED)
                return error_set(e, ERROR_INVALID_INPUT, "it uses unknown incompatible features (0x%llx)",
                                 (unsigned long long)(features & ~INCOMPATIBLE_ALLOWED));
        return 0;
}

/* Version, cluster size, features; narrows *b to the first cluster. */
static int parse_fixed(Bytes *b, Qcow2Header *h, size_t *ret_header_length, Error *e) {
        size_t header_length = LENGTH_V2;
        int r;

        if (b->limit < LENGTH_V2 || memcmp(b->data, "QFI\xfb", 4) != 0)
                return error_set(e, ERROR_INVALID_INPUT, "it is not a qcow2 image");

        h->version = get32(b, OFFSET_VERSION);
        if (h->version != 2 && h->version != 3)
                return error_set(e, ERROR_INVALID_INPUT, "it is qcow2 of version %u; 2 and 3 are known", h->version);

        uint32_t cluster_bits = get32(b, OFFSET_CLUSTER_BITS);
        if (cluster_bits < CLUSTER_BITS_MIN || cluster_bits > CLUSTER_BITS_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "its cluster size is out of range (2^%u)", cluster_bits);
        if (b->limit > 1u << cluster_bits)
                b->limit = 1u << cluster_bits;

        if (get32(b, OFFSET_CRYPT) != 0)
                return error_set(e, ERROR_INVALID_INPUT, "it is encrypted, which is not supported");

        if (h->version == 3) {
                if (b->limit < LENGTH_V3)
                        return error_set(e, ERROR_INVALID_INPUT, "its header is cut short");
                r = check_features(b, e);
                if (r < 0)
                        return r;
                header_length = get32(b, OFFSET_HEADER_LENGTH);
                if (header_length < LENGTH_V3 || header_length > b->limit || header_length % 8 != 0)
                        return error_set(e, ERROR_INVALID_INPUT, "its header has an impossible length (%zu)",
                                         header_length);
        }

        h->virtual_size = get64(b, OFFSET_SIZE);
        *ret_header_length = header_length;
        return 0;
}

/* As QEMU decides it: a colon before the first slash. */
static bool has_protocol(const char *name) {
        return name[strcspn(name, ":/")] == ':';
}

static int parse_backing_name(const Bytes *b, size_t header_length, Qcow2Header *h, Error *e) {
        uint64_t offset = get64(b, OFFSET_BACKING_OFFSET);
        uint32_t length = get32(b, OFFSET_BACKING_LENGTH);

        if (offset == 0)
                return 0;
        if (length == 0 || length >= sizeof h->backing_file)
                return error_set(e, ERROR_INVALID_INPUT, "the name of its backing file has an impossible length (%u)",
                                 length);
        if (offset < header_length || !inside(b, offset, length))
                return error_set(e, ERROR_INVALID_INPUT, "the name of its backing file is outside its header");
        if (memchr(b->data + offset, '\0', length))
                return error_set(e, ERROR_INVALID_INPUT, "the name of its backing file has a NUL byte in it");

        memcpy(h->backing_file, b->data + offset, length);
        h->backing_file[length] = '\0';
        if (has_protocol(h->backing_file)) {
                AUTO(string_drop) char *shown = string_escape(h->backing_file, 200);
                return error_set(e, ERROR_INVALID_INPUT, "its backing file \"%s\" is not a path", string_or(shown, ""));
        }
        return 0;
}

static int take_backing_format(const Bytes *b, size_t offset, uint32_t length, Qcow2Header *h, Error *e) {
        if (h->backing_format[0])
                return error_set(e, ERROR_INVALID_INPUT, "it names the format of its backing file twice");
        if (length == 0 || length >= sizeof h->backing_format || memchr(b->data + offset, '\0', length))
                return error_set(e, ERROR_INVALID_INPUT, "the format of its backing file is malformed");

        memcpy(h->backing_format, b->data + offset, length);
        h->backing_format[length] = '\0';
        return 0;
}

static int parse_extensions(const Bytes *b, size_t offset, Qcow2Header *h, Error *e) {
        uint64_t backing_offset = get64(b, OFFSET_BACKING_OFFSET); /* checked by parse_backing_name() */
        size_t end = backing_offset > 0 ? (size_t)backing_offset : b->limit;
        int r;

        while (offset + 8 <= end) {
                uint32_t type = get32(b, offset), length = get32(b, offset + 4);

                offset += 8;
                if (type == EXTENSION_END)
                        return 0;
                if (length > end - offset)
                        return error_set(e, ERROR_INVALID_INPUT, "a header extension is longer than its header");
                if (type == EXTENSION_BACKING_FORMAT) {
                        r = take_backing_format(b, offset, length, h, e);
                        if (r < 0)
                                return r;
                }
                offset += ((size_t)length + 7) & ~(size_t)7;
        }
        return 0;
}

int qcow2_parse(const void *data, size_t length, Qcow2Header *ret, Error *e) {
        Bytes b = { .data = data, .limit = length < QCOW2_HEADER_READ ? length : QCOW2_HEADER_READ };
        Qcow2Header h = { 0 };
        size_t header_length = 0;
        int r;

        r = parse_fixed(&b, &h, &header_length, e);
        if (r < 0)
                return r;
        r = parse_backing_name(&b, header_length, &h, e);
        if (r < 0)
                return r;
        r = parse_extensions(&b, header_length, &h, e);
        if (r < 0)
                return r;

        *ret = h;
        return 0;
}
