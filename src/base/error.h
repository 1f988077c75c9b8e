/* What the caller over D-Bus is told when something fails.
 *
 * An Error travels as the last parameter of whatever can refuse or fail for a reason that a person must read. The first
 * cause is kept: setting one that is already set changes nothing. Functions that set an Error return the
 * negative errno that belongs to its id (error_errno()), so that callers may test the return value alone.
 * Passing NULL is allowed everywhere: the text is then dropped and only the return value is left. */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

typedef enum ErrorId {
        ERROR_NONE,
        ERROR_INVALID_INPUT, /* what was asked is malformed or contradicts itself */
        ERROR_ACCESS_DENIED, /* it exists, and is not the caller's */
        ERROR_NETWORK_NOT_FOUND,
        ERROR_DOMAIN_NOT_FOUND,
        ERROR_NETWORK_IN_USE,
        ERROR_NO_AVAILABLE_IPS, /* no free subnet of that size in the pool, or the asked one is taken */
        ERROR_QUOTA_EXCEEDED,
        ERROR_NOT_SUPPORTED,     /* this host or this kind of guest cannot do it */
        ERROR_HYPERVISOR_FAILED, /* the emulator or hypervisor refused or died */
        ERROR_NETWORK_FAILED,    /* the namespace, its keeper or its DHCP server refused or died */
        ERROR_TIMEOUT,
        ERROR_BUSY,              /* another operation on the same thing is under way: try again */
        ERROR_INVALID_STATE,     /* the thing exists, but is not in a state that allows it */
        ERROR_CONNECTION_FAILED, /* nothing answered inside the rig */
        ERROR_INTERNAL,          /* out of memory, a full file system, and other failures of the host */
        ERROR_ID_COUNT,
} ErrorId;

typedef struct Error {
        ErrorId id;
        char *message; /* owned; NULL when id is ERROR_NONE, and possibly when memory is short */
} Error;

#define ERROR_INIT ((Error){ ERROR_NONE, NULL })

/* Set the id and text unless something is set already. Always returns error_errno(id). */
int error_set(Error *e, ErrorId id, const char *format, ...) PRINTF_LIKE(3, 4);

/* As error_set() with the text: WHAT "VALUE": RULE. The value is somebody's input: it is escaped, and cut when long. */
int error_set_value(Error *e, ErrorId id, const char *what, const char *value, const char *rule);

/* As error_set(ERROR_INTERNAL), with ": STRERROR" appended. Returns the negative of |err|; err may have either sign. */
int error_set_errno(Error *e, int err, const char *format, ...) PRINTF_LIKE(3, 4);

/* What the static analyser cannot see from a caller: none of these ever returns 0. */
#ifdef __clang_analyzer__
#define error_set(...)       (error_set(__VA_ARGS__), -1)
#define error_set_value(...) (error_set_value(__VA_ARGS__), -1)
#define error_set_errno(...) (error_set_errno(__VA_ARGS__), -1)
#endif

/* Put "TEXT: " before the message that is set; nothing when none is. */
void error_prefix(Error *e, const char *format, ...) PRINTF_LIKE(2, 3);

/* Give *from's content to *to if *to is clear, drop it otherwise; *from is clear afterwards. Returns the errno of *to.
 */
int error_move(Error *to, Error *from);

/* Give a copy of *from's content to *to if *to is clear. Returns the errno of *from, so 0 when from is NULL or clear: a
 * callback that is told of a failure goes on from there as after any call that may have failed. */
int error_copy(Error *to, const Error *from);

/* Drop the message and go back to ERROR_NONE. Usable with AUTO(). */
void error_clear(Error *e);

static inline bool error_is_set(const Error *e) {
        return e && e->id != ERROR_NONE;
}

/* The text to show: the message, or a fixed text of the id when there is none. Never NULL. */
const char *error_text(const Error *e);

/* The last component of the D-Bus error name ("NetworkNotFound"); "" for ERROR_NONE. */
const char *error_id_name(ErrorId id);

/* The reverse; ERROR_ID_COUNT when there is no such name. */
ErrorId error_id_from_name(const char *name);

/* The negative errno that stands for the id. */
int error_errno(ErrorId id);
