/* Every number that the administrator may set, and the caps that hold whatever she sets. */
#pragma once

#include <stdint.h>

#include "core/subnet.h"

/* Caps that are not configured: what one request may ask for at the most. */
#define HOSTS_PER_NETWORK_MAX 4096
#define DISKS_PER_DOMAIN_MAX  16
#define NICS_PER_DOMAIN_MAX   8
#define BACKING_CHAIN_MAX     8
#define CMDLINE_MAX           2047 /* bytes; the x86 boot protocol's usual limit */
#define EXTRA_KEYS_MAX        64

/* What the administrator may set at the most. */
#define SPARES_MAX 64

typedef struct Limits {
        /* Per owner; 0 refuses everything of the kind. Root has no limit. */
        uint64_t networks, domains, memory /* bytes */, vcpus, streams, connections;
        uint64_t vcpus_per_domain;
        uint64_t start_usec;      /* a guest's start must be confirmed within */
        uint64_t ended_usec;      /* an ended domain's log and reason stay for */
        uint64_t ended_per_owner; /* and at most this many of them */
        uint64_t log_bytes;       /* size of a domain's console log; the oldest half goes when it is full */
        uint64_t idle_usec; /* session scope: the daemon ends after this long without networks, domains and clients; 0
                               never */
        uint64_t spares;    /* this many owners at once have a spare keeper (engine/spares.c) */
        Subnet pool;        /* automatic subnets come from here */
        uint32_t jail_uid_base, jail_uid_count; /* system scope: uids that only emulators run as */
} Limits;

#define LIMITS_DEFAULT                                                                                                 \
        ((Limits){                                                                                                     \
                .networks = 64,                                                                                        \
                .domains = 256,                                                                                        \
                .memory = 64ULL << 30,                                                                                 \
                .vcpus = 256,                                                                                          \
                .streams = 256,                                                                                        \
                .connections = 32,                                                                                     \
                .vcpus_per_domain = 64,                                                                                \
                .start_usec = 30 * 1000000ULL,                                                                         \
                .ended_usec = 3600 * 1000000ULL,                                                                       \
                .ended_per_owner = 64,                                                                                 \
                .log_bytes = 1 << 20,                                                                                  \
                .idle_usec = 30 * 1000000ULL,                                                                          \
                .spares = 16,                                                                                          \
                .pool = { 0x0a400000, 10 },                                                                            \
                .jail_uid_base = 0x70000000,                                                                           \
                .jail_uid_count = 0x10000,                                                                             \
        })
