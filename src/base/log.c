/* Log lines. Where they go is decided once, in log_open(); until then, and whenever the journal does not take one, they
 * go to standard error. Texts carry names that users and guests chose, so every byte that is not printable ASCII is
 * written as \xHH: one entry is one line, and no terminal obeys it. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define TEXT_MAX            2048
#define VALUE_MAX           128
#define LIMIT_LINES         10
#define LIMIT_WINDOW        (10 * USEC_PER_SEC)
#define FIELDS_MAX          6
#define JOURNAL_FIELD_BYTES (VALUE_MAX + 32)

static int max_level = LOG_INFO;
static const char *identifier_text;
static bool to_journal;
static uint64_t file_max; /* 0: standard error is not ours to cut */

void log_set_level(int level) {
        max_level = level;
}

/* Is standard error the very stream that the journal gave us? The variable alone is also inherited by programs whose
 * standard error somebody redirected. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        uintmax_t device, inode;
        struct stat st;
        char end;

        return stream && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX "%c", &device, &inode, &end) == 2 &&
               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode &&
               /* The library takes a journal that is not there for success. */
               access("/run/systemd/journal/socket", W_OK) == 0;
}

void log_open(const char *identifier) {
        identifier_text = identifier;
        to_journal = stderr_is_journal();
}

/* A text of bounded size; what does not fit is cut. */
typedef struct Line {
        char text[TEXT_MAX * 2];
        size_t length;
} Line;

/* The backslash stays: what callers have escaped already is not escaped again. */
static void line_add_clean(Line *l, const char *s, const char *also_escape) {
        static const char digits[] = "0123456789abcdef";

        for (; *s && l->length + 5 < sizeof l->text; s++) {
                unsigned char c = (unsigned char)*s;
                if (c >= 0x20 && c < 0x7f && !strchr(also_escape, c)) {
                        l->text[l->length++] = (char)c;
                        continue;
                }
                l->text[l->length++] = '\\';
                l->text[l->length++] = 'x';
                l->text[l->length++] = digits[c >> 4];
                l->text[l->length++] = digits[c & 15];
        }
        l->text[l->length] = '\0';
}

typedef struct Field {
        const char *name, *journal_name;
        char value[VALUE_MAX];
} Field;

static void field_add(Field *fields, size_t *n, const char *name, const char *journal_name, const char *value) {
        if (!value)
                return;
        Field *f = &fields[(*n)++];
        f->name = name;
        f->journal_name = journal_name;
        snprintf(f->value, sizeof f->value, "%s", value);
}

static void field_add_number(Field *fields, size_t *n, const char *name, const char *journal_name, uint64_t value) {
        char text[24];

        snprintf(text, sizeof text, "%" PRIu64, value);
        field_add(fields, n, name, journal_name, text);
}

static size_t collect_fields(const LogFields *from, Field fields[FIELDS_MAX]) {
        size_t n = 0;

        if (!from)
                return 0;
        field_add(fields, &n, "network", "DEBMARSHAL_NETWORK", from->network);
        field_add(fields, &n, "domain", "DEBMARSHAL_DOMAIN", from->domain);
        field_add(fields, &n, "operation", "DEBMARSHAL_OPERATION", from->operation);
        if (from->uid)
                field_add_number(fields, &n, "uid", "DEBMARSHAL_UID", *from->uid);
        field_add(fields, &n, "result", "DEBMARSHAL_RESULT", from->result);
        if (from->usec > 0)
                field_add_number(fields, &n, "usec", "DEBMARSHAL_USEC", from->usec);
        return n;
}

static int write_journal(int level, const char *text, const Field *fields, size_t n) {
        char items[FIELDS_MAX + 2][JOURNAL_FIELD_BYTES];
        char message[sizeof((Line *)0)->text + 16];
        struct iovec iov[FIELDS_MAX + 3];
        int count = 0;

        snprintf(message, sizeof message, "MESSAGE=%s", text);
        iov[count++] = (struct iovec){ message, strlen(message) };
        snprintf(items[n], sizeof items[n], "PRIORITY=%d", level);
        iov[count++] = (struct iovec){ items[n], strlen(items[n]) };
        snprintf(items[n + 1], sizeof items[n + 1], "SYSLOG_IDENTIFIER=%s", string_or(identifier_text, "debmarshal"));
        iov[count++] = (struct iovec){ items[n + 1], strlen(items[n + 1]) };
        for (size_t i = 0; i < n; i++) {
                snprintf(items[i], sizeof items[i], "%s=%s", fields[i].journal_name, fields[i].value);
                iov[count++] = (struct iovec){ items[i], strlen(items[i]) };
        }
        return sd_journal_sendv(iov, count);
}

static const char *level_prefix(int level) {
        if (level <= LOG_ERR)
                return "error: ";
        if (level == LOG_WARNING)
                return "warning: ";
        return level >= LOG_DEBUG ? "debug: " : "";
}

void log_bound_file(uint64_t max) {
        file_max = max;
}

/* Before a line of that length: with the file emptied, what is appended begins at its start again. */
static void make_room(size_t length) {
        struct stat st;

        if (file_max > 0 && fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) &&
            (uint64_t)st.st_size + length > file_max)
                (void)!ftruncate(STDERR_FILENO, 0);
}

static void write_stderr(int level, const char *text, const Field *fields, size_t n) {
        Line line = { .length = 0 };

        if (identifier_text) {
                line_add_clean(&line, identifier_text, "");
                line_add_clean(&line, ": ", "");
        }
        line_add_clean(&line, level_prefix(level), "");
        line_add_clean(&line, text, "");
        for (size_t i = 0; i < n; i++) {
                line_add_clean(&line, i == 0 ? " [" : " ", "");
                line_add_clean(&line, fields[i].name, "");
                line_add_clean(&line, "=", "");
                /* A value cannot pretend to be the next field. */
                line_add_clean(&line, fields[i].value, " ]=");
        }
        if (n > 0)
                line_add_clean(&line, "]", "");
        line.text[line.length++] = '\n';
        make_room(line.length);
        /* One write, so that lines of several processes do not mix. Nobody can be told if it fails. */
        (void)fd_write_all(STDERR_FILENO, line.text, line.length);
}

static void emit(int level, const LogFields *from, const char *text) {
        int saved_errno = errno;
        Field fields[FIELDS_MAX];
        size_t n = collect_fields(from, fields);
        Line clean = { .length = 0 };

        line_add_clean(&clean, text, "");
        if (!to_journal || write_journal(level, clean.text, fields, n) < 0)
                write_stderr(level, clean.text, fields, n);
        errno = saved_errno;
}

static PRINTF_LIKE(3, 0) void emit_formatted(int level, const LogFields *fields, const char *format, va_list ap) {
        char text[TEXT_MAX];

        vsnprintf(text, sizeof text, format, ap);
        emit(level, fields, text);
}

void log_write(int level, const LogFields *fields, const char *format, ...) {
        va_list ap;

        if (level > max_level)
                return;
        va_start(ap, format);
        emit_formatted(level, fields, format, ap);
        va_end(ap);
}

void log_limited(LogLimit *limit, int level, const LogFields *fields, const char *format, ...) {
        uint64_t now = now_monotonic_usec();
        va_list ap;

        if (level > max_level)
                return;
        if (limit->window_usec == 0 || now - limit->window_usec >= LIMIT_WINDOW) {
                if (limit->dropped > 0)
                        log_write(level, fields, "%u similar lines were dropped", limit->dropped);
                *limit = (LogLimit){ .window_usec = now };
        }
        if (limit->written >= LIMIT_LINES) {
                limit->dropped++;
                return;
        }
        limit->written++;
        va_start(ap, format);
        emit_formatted(level, fields, format, ap);
        va_end(ap);
}

void log_audit(const LogFields *fields) {
        const char *object = fields->domain ? fields->domain : fields->network;
        char who[24] = "nobody", text[TEXT_MAX];

        if (fields->uid)
                snprintf(who, sizeof who, "uid %u", (unsigned)*fields->uid);
        snprintf(text, sizeof text, "%s%s%s by %s: %s", string_or(fields->operation, "operation"), object ? " " : "",
                 object ? object : "", who, string_or(fields->result, "done"));
        emit(LOG_NOTICE, fields, text);
}
