/* What the daemon must find again after it has died, in one SQLite file.
 *
 * Every exported call that writes is one transaction: store_begin(), the statements, store_end(), which commits or
 * rolls back. A transaction is safe against the death of the process at any instruction, since whatever reached the
 * page cache stays there; it is not synchronised to a disk, since the file dies with the host's tmpfs anyway. With a
 * write-ahead log that leaves two system calls for each page that a transaction changes. Its index is in our memory,
 * since nobody else may read the file: there is no shared memory file, which a full file system would turn into SIGBUS.
 *
 * Destroying must be possible on a full file system too, and even a DELETE needs room in the log. So a second file,
 * RESERVE_FILE, holds some blocks, given up when an update or a removal finds no space, and taken back after a
 * transaction when there is room again. Until it has been, nothing is added, which would take the room of removals.
 *
 * The file is locked exclusively from the first read to the close: a second writer would be a second daemon.
 *
 * The schema is the array of steps below; PRAGMA user_version says how many of them a file has had. A step is never
 * changed once it has been released, another is added. */
#include "core/store-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define STORE_FILE   "state.db"
#define RESERVE_FILE "state.reserve"
#define RESERVE_SIZE (384 * 1024) /* the log of the removal of a network with HOSTS_PER_NETWORK_MAX hosts */

static const struct {
        const char *name, *sql;
} schema_steps[] = {
        { "first version",
          "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
          "CREATE TABLE network (name TEXT PRIMARY KEY, uid INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT,"
          " base INTEGER NOT NULL, prefix INTEGER NOT NULL, ipv6_mode TEXT NOT NULL, prefix6 BLOB NOT NULL,"
          " created_usec INTEGER NOT NULL, keeper_pid INTEGER NOT NULL, keeper_start INTEGER NOT NULL,"
          " user_ns INTEGER NOT NULL, net_ns INTEGER NOT NULL);"
          "CREATE TABLE host (network TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL,"
          " address INTEGER NOT NULL, mac BLOB NOT NULL, address6 BLOB NOT NULL,"
          " PRIMARY KEY (network, position)) WITHOUT ROWID;"
          "CREATE TABLE domain (name TEXT PRIMARY KEY, id INTEGER NOT NULL UNIQUE, uid INTEGER NOT NULL,"
          " state TEXT NOT NULL, spec TEXT NOT NULL, end_reason TEXT NOT NULL, end_message TEXT,"
          " created_usec INTEGER NOT NULL, pid INTEGER NOT NULL, start_time INTEGER NOT NULL,"
          " jail_uid INTEGER NOT NULL);"
          "CREATE TABLE ended (id INTEGER PRIMARY KEY, name TEXT NOT NULL, uid INTEGER NOT NULL, reason TEXT NOT NULL,"
          " message TEXT, ended_usec INTEGER NOT NULL);"
          "INSERT INTO meta VALUES ('boot_id', ''), ('next_domain_id', 1);" },
        { "domains have a uuid",
          "ALTER TABLE domain ADD COLUMN uuid BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';" },
};
#define SCHEMA_VERSION ((int)ARRAY_LEN(schema_steps))

static const char *const statement_sql[SQL_COUNT] = {
        [SQL_BEGIN] = "BEGIN IMMEDIATE",
        [SQL_COMMIT] = "COMMIT",
        [SQL_ROLLBACK] = "ROLLBACK",
        [SQL_META_GET] = "SELECT value FROM meta WHERE key = ?",
        [SQL_META_SET] = "UPDATE meta SET value = ?2 WHERE key = ?1",
        [SQL_META_RAISE] = "UPDATE meta SET value = ?2 WHERE key = ?1 AND value < ?2",
        [SQL_NETWORK_ADD] = "INSERT INTO network VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [SQL_NETWORK_UPDATE] = "UPDATE network SET state = ?2, reason = ?3, keeper_pid = ?4, keeper_start = ?5,"
                               " user_ns = ?6, net_ns = ?7 WHERE name = ?1",
        [SQL_NETWORK_REMOVE] = "DELETE FROM network WHERE name = ?",
        [SQL_NETWORK_ALL] =
                "SELECT name, uid, state, reason, base, prefix, ipv6_mode, prefix6, created_usec, keeper_pid,"
                " keeper_start, user_ns, net_ns FROM network ORDER BY rowid",
        [SQL_HOST_ADD] = "INSERT INTO host VALUES (?, ?, ?, ?, ?, ?)",
        [SQL_HOST_REMOVE_ALL] = "DELETE FROM host WHERE network = ?",
        [SQL_HOST_ALL] = "SELECT name, address, mac, address6 FROM host WHERE network = ? ORDER BY position",
        [SQL_DOMAIN_ADD] = "INSERT INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [SQL_DOMAIN_UPDATE] = "UPDATE domain SET state = ?2, spec = ?3, end_reason = ?4, end_message = ?5, pid = ?6,"
                              " start_time = ?7, jail_uid = ?8 WHERE name = ?1",
        [SQL_DOMAIN_REMOVE] = "DELETE FROM domain WHERE name = ?",
        [SQL_DOMAIN_ALL] = "SELECT name, id, uid, state, spec, end_reason, end_message, created_usec, pid, start_time,"
                           " jail_uid, uuid FROM domain ORDER BY rowid",
        [SQL_ENDED_ADD] = "INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?)",
        [SQL_ENDED_REMOVE] = "DELETE FROM ended WHERE id = ?",
        [SQL_ENDED_ALL] = "SELECT id, name, uid, reason, message, ended_usec FROM ended ORDER BY ended_usec, id",
};

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static int fail_full(Store *s, Error *e) {
        error_set(e, ERROR_INTERNAL, "%s: no space left in the runtime directory", s->path);
        return -ENOSPC;
}

/* Say what SQLite says. Its message belongs to the last call: this must come before any other. */
int store_fail(Store *s, Error *e) {
        switch (s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM) {
        case SQLITE_NOMEM:
                return error_set_errno(e, ENOMEM, "%s", s->path);
        case SQLITE_FULL:
                return fail_full(s, e);
        case SQLITE_BUSY:
                error_set(e, ERROR_INTERNAL, "%s is in use by another process", s->path);
                return -EBUSY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                error_set(e, ERROR_INTERNAL,
                          "%s is damaged (%s). To start anew, end what still runs of it and remove the file", s->path,
                          sqlite3_errmsg(s->db));
                return -EUCLEAN;
        default:
                error_set(e, ERROR_INTERNAL, "%s: %s", s->path, sqlite3_errmsg(s->db));
                return -EIO;
        }
}

/* A row that no version of us can have written. */
int store_fail_row(Store *s, const char *what, const char *name, Error *e) {
        AUTO(string_drop) char *escaped = string_escape(string_or(name, "?"), 64);
        error_set(e, ERROR_INTERNAL,
                  "%s is damaged (%s %s makes no sense). To start anew, end what still runs of it and remove the file",
                  s->path, what, string_or(escaped, "?"));
        return -EUCLEAN;
}

/* ---- one statement ----------------------------------------------------------------------------------------------- */

Query query_new(Store *s, Statement id) {
        return (Query){ .store = s, .statement = s->statements[id] };
}

static void query_note(Query *q, int code) {
        if (code != SQLITE_OK && q->failed == SQLITE_OK)
                q->failed = code;
}

void query_put_text(Query *q, const char *text) {
        query_note(q, sqlite3_bind_text(q->statement, ++q->parameter, text, -1, SQLITE_STATIC));
}

void query_put_number(Query *q, uint64_t number) {
        query_note(q, sqlite3_bind_int64(q->statement, ++q->parameter, (sqlite3_int64)number));
}

void query_put_blob(Query *q, const void *data, int length) {
        query_note(q, sqlite3_bind_blob(q->statement, ++q->parameter, data, length, SQLITE_STATIC));
}

void query_reset(Query *q) {
        sqlite3_reset(q->statement);
        sqlite3_clear_bindings(q->statement);
        q->parameter = 0;
}

/* The next row: 1, or 0 after the last; then, and after a failure, the statement is reset. */
int query_row(Query *q, Error *e) {
        int code = q->failed == SQLITE_OK ? sqlite3_step(q->statement) : q->failed;
        if (code == SQLITE_ROW) {
                q->column = 0;
                return 1;
        }

        int r = code == SQLITE_DONE ? 0 : store_fail(q->store, e);
        query_reset(q);
        return r;
}

/* Run a statement that has no rows, or of which none is wanted any more. */
int query_run(Query *q, Error *e) {
        int r = query_row(q, e);
        if (r > 0)
                query_reset(q);
        return r < 0 ? r : 0;
}

uint64_t query_number(Query *q) {
        return (uint64_t)sqlite3_column_int64(q->statement, q->column++);
}

/* NULL where the column is NULL; valid until the next row. */
const char *query_text(Query *q) {
        return (const char *)sqlite3_column_text(q->statement, q->column++);
}

bool query_blob(Query *q, void *data, int length) {
        const void *blob = sqlite3_column_blob(q->statement, q->column);
        bool right = blob && sqlite3_column_bytes(q->statement, q->column) == length;
        if (right)
                memcpy(data, blob, (size_t)length);
        q->column++;
        return right;
}

/* ---- transactions ------------------------------------------------------------------------------------------------ */

static int store_simple(Store *s, Statement id, Error *e) {
        Query q = query_new(s, id);
        return query_run(&q, e);
}

/* Best effort: without it only a full file system is less kind. */
static void reserve_fill(Store *s) {
        s->reserve_spent = s->reserve_fd < 0 || fallocate(s->reserve_fd, 0, 0, RESERVE_SIZE) < 0;
}

bool store_try_again(Store *s, int r, Error *e) {
        if (r != -ENOSPC || s->reserve_spent || ftruncate(s->reserve_fd, 0) < 0)
                return false;

        s->reserve_spent = true;
        error_clear(e);
        return true;
}

int store_begin(Store *s, Error *e) {
        return store_simple(s, SQL_BEGIN, e);
}

int store_begin_addition(Store *s, Error *e) {
        if (s->reserve_fd >= 0 && s->reserve_spent) {
                reserve_fill(s);
                if (s->reserve_spent)
                        return fail_full(s, e);
        }
        return store_begin(s, e);
}

/* Commit if r, the result of the statements, is not negative; else, and when the commit fails, roll back. A full file
 * system makes SQLite roll back by itself. */
int store_end(Store *s, int r, Error *e) {
        if (r >= 0)
                r = store_simple(s, SQL_COMMIT, e);
        if (r < 0 && !sqlite3_get_autocommit(s->db))
                store_simple(s, SQL_ROLLBACK, NULL);
        if (r >= 0 && s->reserve_spent)
                reserve_fill(s);
        return r < 0 ? r : 0;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int store_exec(Store *s, const char *sql, Error *e) {
        return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_fail(s, e);
}

/* The first column of the first row of a query as text, allocated; NULL for none. */
static int store_ask(Store *s, const char *sql, char **ret, Error *e) {
        sqlite3_stmt *statement = NULL;
        if (sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL) != SQLITE_OK)
                return store_fail(s, e);

        int code = sqlite3_step(statement), r = 0;
        *ret = NULL;
        if (code != SQLITE_ROW && code != SQLITE_DONE)
                r = store_fail(s, e);
        else if (code == SQLITE_ROW && !(*ret = strdup(string_or((const char *)sqlite3_column_text(statement, 0), ""))))
                r = error_set_errno(e, ENOMEM, "%s", s->path);
        sqlite3_finalize(statement);
        return r;
}

/* SQLite would make the file readable by everybody; its log takes the mode of the file. */
static int store_create_file(int dir_fd, Error *e) {
        AUTO(fd_drop) int fd = openat(dir_fd, STORE_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        return fd < 0 ? error_set_errno(e, errno, "Failed to open %s in the runtime directory", STORE_FILE) : 0;
}

/* The true path, for SQLite, which knows no directory descriptors, and for messages. */
static char *store_path(int dir_fd) {
        char directory[4000];

        if (fd_path(dir_fd, directory, sizeof directory) < 0)
                return string_printf("/proc/self/fd/%d/%s", dir_fd, STORE_FILE);
        return string_printf("%s/%s", directory, STORE_FILE);
}

static int store_connect(Store *s, Error *e) {
        static const char pragmas[] = "PRAGMA locking_mode = EXCLUSIVE;"
                                      "PRAGMA synchronous = OFF;"
                                      "PRAGMA temp_store = MEMORY;"
                                      "PRAGMA mmap_size = 0;"
                                      "PRAGMA cache_size = -512;" /* KiB: the daemon is to stay small */
                                      "PRAGMA trusted_schema = OFF;"
                                      "PRAGMA journal_mode = WAL;"
                                      "PRAGMA wal_autocheckpoint = 64;" /* pages */
                                      "PRAGMA journal_size_limit = 262144;";

        int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
        if (sqlite3_open_v2(s->path, &s->db, flags, NULL) != SQLITE_OK)
                return store_fail(s, e);
        sqlite3_extended_result_codes(s->db, 0);
        return store_exec(s, pragmas, e);
}

static int store_check(Store *s, Error *e) {
        AUTO(string_drop) char *verdict = NULL;
        int r = store_ask(s, "PRAGMA quick_check(1)", &verdict, e);
        if (r < 0)
                return r;
        if (string_equal(verdict, "ok"))
                return 0;

        error_set(e, ERROR_INTERNAL, "%s is damaged (%s). To start anew, end what still runs of it and remove the file",
                  s->path, string_or(verdict, "no answer"));
        return -EUCLEAN;
}

/* Take the steps that the file has not had, each in a transaction of its own. */
static int store_upgrade(Store *s, Error *e) {
        AUTO(string_drop) char *text = NULL;
        int r = store_ask(s, "PRAGMA user_version", &text, e);
        if (r < 0)
                return r;

        int version = atoi(string_or(text, "0"));
        if (version < 0 || version > SCHEMA_VERSION) {
                error_set(e, ERROR_INTERNAL,
                          "%s was written by a newer debmarshald (schema %d; this one knows %d): run that one", s->path,
                          version, SCHEMA_VERSION);
                return -EPROTONOSUPPORT;
        }
        for (int i = version; i < SCHEMA_VERSION; i++) {
                AUTO(string_drop)
                char *sql = string_printf("BEGIN IMMEDIATE;%s PRAGMA user_version = %d; COMMIT", schema_steps[i].sql,
                                          i + 1);
                if (!sql)
                        return error_set_errno(e, ENOMEM, "%s", s->path);
                r = store_exec(s, sql, e);
                if (r < 0) {
                        error_prefix(e, "Failed to bring the schema to step %d (%s)", i + 1, schema_steps[i].name);
                        return r;
                }
        }
        return 0;
}

static int store_prepare(Store *s, Error *e) {
        for (int i = 0; i < SQL_COUNT; i++)
                if (sqlite3_prepare_v3(s->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i],
                                       NULL) != SQLITE_OK)
                        return store_fail(s, e);
        return 0;
}

static int meta_set_text(Store *s, const char *key, const char *value, Error *e) {
        Query q = query_new(s, SQL_META_SET);
        query_put_text(&q, key);
        query_put_text(&q, value);
        return query_run(&q, e);
}

/* Is this file of another boot? A new one is of none. */
static int store_compare_boot(Store *s, const char *boot_id, bool *ret_same, bool *ret_new, Error *e) {
        Query q = query_new(s, SQL_META_GET);
        query_put_text(&q, "boot_id");
        int r = query_row(&q, e);
        if (r < 0)
                return r;
        if (r == 0)
                return store_fail_row(s, "meta", "boot_id", e);

        const char *recorded = string_or(query_text(&q), "");
        *ret_new = !*recorded;
        *ret_same = strcmp(recorded, boot_id) == 0;
        query_reset(&q);
        return 0;
}

/* Processes, namespaces and pid numbers of another boot mean nothing: forget them, and say so. Ids of domains go on. */
static int store_settle_boot(Store *s, const char *boot_id, bool *ret_rebooted, Error *e) {
        bool same = false, is_new = false;
        int r = store_compare_boot(s, boot_id, &same, &is_new, e);
        if (r < 0)
                return r;

        *ret_rebooted = !same && !is_new;
        if (same)
                return 0;
        r = store_begin(s, e);
        if (r < 0)
                return r;
        r = store_exec(s, "DELETE FROM host; DELETE FROM network; DELETE FROM domain; DELETE FROM ended", e);
        if (r >= 0)
                r = meta_set_text(s, "boot_id", boot_id, e);
        return store_end(s, r, e);
}

int store_open(int dir_fd, const char *boot_id, Store **ret, bool *ret_rebooted, Error *e) {
        int r = store_create_file(dir_fd, e);
        if (r < 0)
                return r;

        Store *s = calloc(1, sizeof *s);
        if (!s)
                return error_set_errno(e, ENOMEM, "Failed to open the store");
        s->reserve_fd = openat(dir_fd, RESERVE_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (!(s->path = store_path(dir_fd))) {
                store_close(s);
                return error_set_errno(e, ENOMEM, "Failed to open the store");
        }
        if ((r = store_connect(s, e)) < 0 || (r = store_check(s, e)) < 0 || (r = store_upgrade(s, e)) < 0 ||
            (r = store_prepare(s, e)) < 0 || (r = store_settle_boot(s, boot_id, ret_rebooted, e)) < 0) {
                store_close(s);
                return r;
        }
        reserve_fill(s);
        *ret = s;
        return 0;
}

Store *store_close(Store *s) {
        if (!s)
                return NULL;

        for (int i = 0; i < SQL_COUNT; i++)
                sqlite3_finalize(s->statements[i]);
        sqlite3_close(s->db);
        fd_drop(&s->reserve_fd);
        free(s->path);
        free(s);
        return NULL;
}
