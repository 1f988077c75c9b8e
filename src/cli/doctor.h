/* Checks, each with its outcome and the cure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/macros.h"

typedef enum CheckStatus { CHECK_OK, CHECK_WARN, CHECK_FAIL, CHECK_STATUS_COUNT } CheckStatus;
const char *check_status_name(CheckStatus s); /* "ok", "warn", "fail" */

typedef struct Report {
        json_t *checks; /* objects with "name", "status", "text" and "cure" ("": none needed) */
        bool failed;    /* something essential does */
} Report;

/* cure may be NULL. */
void report_add(Report *r, CheckStatus status, const char *name, const char *cure, const char *format, ...)
        PRINTF_LIKE(5, 6);

/* What the host allows, whoever serves. In the session's scope user namespaces and taps are the caller's own matter,
 * and so essential. */
void check_user_namespaces(Report *r, bool session);
void check_tun(Report *r, bool session);
void check_runtime_directory(Report *r);
