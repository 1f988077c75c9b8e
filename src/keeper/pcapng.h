/* The blocks of a capture file in the format of draft-ietf-opsawg-pcapng that a capture needs, in the host's byte
 * order, as the format allows. Each function writes one block and returns its length; the buffer has room for
 * PCAPNG_BLOCK_MAX bytes (pcapng_packet: and for the data). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PCAPNG_BLOCK_MAX 128
#define PCAPNG_NAME_MAX  32

size_t pcapng_section(char *buffer, const char *application);
/* An Ethernet interface whose times are nanoseconds. Interfaces are numbered in the order of their blocks. */
size_t pcapng_interface(char *buffer, const char *name, uint32_t snap_length);
/* captured bytes of a frame that had length. dropped: how many were lost before it. */
size_t pcapng_packet(char *buffer, uint32_t interface, uint64_t time_nsec, const void *data, uint32_t captured,
                     uint32_t length, uint64_t dropped);
