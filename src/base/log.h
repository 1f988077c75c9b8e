/* Log lines: to the journal with fields where there is one, else to standard error, one line each with no field lost.
 *
 * Error = we broke a promise; warning = an administrator may act; info = a life event of a domain or network; debug =
 * free. Text: "Failed to verb object: reason". What a user or a guest can cause goes through log_limited(). errno is
 * kept by all. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

#include "base/macros.h"

/* Lines above this level (a syslog number) are dropped; LOG_INFO at first. */
void log_set_level(int level);

/* Choose between the journal and standard error: the journal when standard error is connected to it (JOURNAL_STREAM),
 * and never again after. */
void log_open(const char *identifier);

/* Standard error is a file of our own, opened for appending: a line that would make it longer than max empties it
 * first. */
void log_bound_file(uint64_t max);

/* Fields of a log entry, beside its text. Members that are NULL or 0 are left out. */
typedef struct LogFields {
        const char *network;
        const char *domain;
        const char *operation;
        const char *result; /* audit: "done" or an error name */
        const uid_t *uid;   /* whose it is, or who asked */
        uint64_t usec;      /* how long it took */
} LogFields;
#define LOG_FIELDS(...) (&(const LogFields){ __VA_ARGS__ })

void log_write(int level, const LogFields *fields, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(...)   log_write(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, NULL, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, NULL, __VA_ARGS__)

/* A token bucket for one source of lines: at most ten in ten seconds; the first line of a new window says how many were
 * dropped. */
typedef struct LogLimit {
        uint64_t window_usec;
        unsigned written, dropped;
} LogLimit;
void log_limited(LogLimit *limit, int level, const LogFields *fields, const char *format, ...) PRINTF_LIKE(4, 5);

/* One structured entry per privileged operation: who, what, on which object, result, time. Level notice, never limited.
 */
void log_audit(const LogFields *fields);
