/* A log file that never grows past a size: when it is full its older half goes. Failures to write are remembered, not
 * returned: whoever is logged goes on. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

typedef struct BoundedLog {
        int fd;
        uint64_t size, max;
        uint64_t lost; /* bytes that could not be written since the last that could */
        LogLimit limit;
} BoundedLog;

/* fd: open for reading and writing, the log's from now on, also on failure. What it holds already is kept. */
int bounded_log_init(BoundedLog *log, int fd, uint64_t max);
void bounded_log_done(BoundedLog *log);

void bounded_log_write(BoundedLog *log, const char *data, size_t length);

/* The log as it is now: a sealed memfd at offset 0. */
int bounded_log_copy(const BoundedLog *log, int *ret_fd, Error *e);
/* The same of a file that is no longer written. A symbolic link is not followed. */
int bounded_log_copy_file(int dir_fd, const char *name, int *ret_fd, Error *e);
