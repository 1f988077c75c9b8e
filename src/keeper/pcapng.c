/* A block is: type, total length, content, options, total length again; all of it in units of four bytes. An option is:
 * code, length, value, padding; code 0 ends them. */
#include "keeper/pcapng.h"

#include <string.h>

enum { BLOCK_INTERFACE = 1, BLOCK_PACKET = 6, BLOCK_SECTION = 0x0a0d0d0a };
enum { OPTION_END = 0, SECTION_APPLICATION = 4, INTERFACE_NAME = 2, INTERFACE_RESOLUTION = 9, PACKET_DROPPED = 4 };

#define BYTE_ORDER_MAGIC 0x1a2b3c4d
#define LINK_ETHERNET    1
#define NANOSECONDS      9

typedef struct Block {
        char *begin, *end;
} Block;

static void put(Block *b, const void *data, size_t length) {
        if (length == 0)
                return;
        memcpy(b->end, data, length);
        b->end += length;
}

static void put16(Block *b, uint16_t value) {
        put(b, &value, sizeof value);
}

static void put32(Block *b, uint32_t value) {
        put(b, &value, sizeof value);
}

static void put_padded(Block *b, const void *data, size_t length) {
        static const char zeros[4];
        put(b, data, length);
        put(b, zeros, (0 - length) & 3);
}

static Block block_begin(char *buffer, uint32_t type) {
        Block b = { .begin = buffer, .end = buffer };
        put32(&b, type);
        put32(&b, 0); /* block_end() knows it */
        return b;
}

static void put_option(Block *b, uint16_t code, const void *value, size_t length) {
        put16(b, code);
        put16(b, (uint16_t)length);
        put_padded(b, value, length);
}

static size_t block_end(Block *b) {
        uint32_t length = (uint32_t)(b->end - b->begin) + (uint32_t)sizeof length;
        memcpy(b->begin + sizeof length, &length, sizeof length);
        put32(b, length);
        return length;
}

size_t pcapng_section(char *buffer, const char *application) {
        const uint64_t unknown_length = UINT64_MAX;
        Block b = block_begin(buffer, BLOCK_SECTION);
        put32(&b, BYTE_ORDER_MAGIC);
        put16(&b, 1);
        put16(&b, 0);
        put(&b, &unknown_length, sizeof unknown_length);
        put_option(&b, SECTION_APPLICATION, application, strnlen(application, PCAPNG_NAME_MAX));
        put_option(&b, OPTION_END, NULL, 0);
        return block_end(&b);
}

size_t pcapng_interface(char *buffer, const char *name, uint32_t snap_length) {
        const uint8_t resolution = NANOSECONDS;
        Block b = block_begin(buffer, BLOCK_INTERFACE);
        put16(&b, LINK_ETHERNET);
        put16(&b, 0);
        put32(&b, snap_length);
        put_option(&b, INTERFACE_NAME, name, strnlen(name, PCAPNG_NAME_MAX));
        put_option(&b, INTERFACE_RESOLUTION, &resolution, sizeof resolution);
        put_option(&b, OPTION_END, NULL, 0);
        return block_end(&b);
}

size_t pcapng_packet(char *buffer, uint32_t interface, uint64_t time_nsec, const void *data, uint32_t captured,
                     uint32_t length, uint64_t dropped) {
        Block b = block_begin(buffer, BLOCK_PACKET);
        put32(&b, interface);
        put32(&b, (uint32_t)(time_nsec >> 32));
        put32(&b, (uint32_t)time_nsec);
        put32(&b, captured);
        put32(&b, length);
        put_padded(&b, data, captured);
        if (dropped > 0) {
                put_option(&b, PACKET_DROPPED, &dropped, sizeof dropped);
                put_option(&b, OPTION_END, NULL, 0);
        }
        return block_end(&b);
}
