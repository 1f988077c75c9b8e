#pragma once

#include <stdint.h>

#define USEC_PER_SEC  1000000ULL
#define USEC_PER_MSEC 1000ULL

uint64_t now_monotonic_usec(void);
uint64_t now_realtime_usec(void);
