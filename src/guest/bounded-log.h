/* A log file that never grows past a size: when it is full its older half goes. Failures to write are remembered, not
 * returned: whoever is logged goes on. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "guest/file-copy.h"

typedef struct BoundedLog {
        SharedFile *file;
        uint64_t size, max;
        uint64_t lost; /* bytes that could not be written since the last that could */
        LogLimit limit;
} BoundedLog;

/* fd: open for reading and writing, the log's from now on, also on failure. What it holds already is kept. */
int bounded_log_init(BoundedLog *log, int fd, uint64_t max);
void bounded_log_done(BoundedLog *log);

void bounded_log_write(BoundedLog *log, const char *data, size_t length);
