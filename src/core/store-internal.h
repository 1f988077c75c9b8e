/* Shared between the store's two files: store-file.c, which knows the file, its schema and its transactions, and
 * store.c, which knows the records. */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/store.h"

typedef enum Statement {
        SQL_BEGIN,
        SQL_COMMIT,
        SQL_ROLLBACK,
        SQL_META_GET,
        SQL_META_SET,
        SQL_META_RAISE,
        SQL_NETWORK_ADD,
        SQL_NETWORK_UPDATE,
        SQL_NETWORK_REMOVE,
        SQL_NETWORK_ALL,
        SQL_HOST_ADD,
        SQL_HOST_REMOVE_ALL,
        SQL_HOST_ALL,
        SQL_DOMAIN_ADD,
        SQL_DOMAIN_UPDATE,
        SQL_DOMAIN_REMOVE,
        SQL_DOMAIN_ALL,
        SQL_ENDED_ADD,
        SQL_ENDED_REMOVE,
        SQL_ENDED_ALL,
        SQL_COUNT,
} Statement;

struct Store {
        sqlite3 *db;
        char *path;     /* for messages */
        int reserve_fd; /* -1: none */
        bool reserve_spent;
        sqlite3_stmt *statements[SQL_COUNT];
};

/* Set e to what SQLite says, and return the errno for it. Its message belongs to the last call: nothing may come
 * between. */
int store_fail(Store *s, Error *e);
/* The same for a row that no version of us can have written. */
int store_fail_row(Store *s, const char *what, const char *name, Error *e);

int store_begin(Store *s, Error *e);
/* For what makes the store larger: -ENOSPC, and nothing is begun, where the reserve is spent and has no room again. */
int store_begin_addition(Store *s, Error *e);
/* Commit if r, the result of the statements, is not negative; else, and when the commit fails, roll back. Returns r or
 * what the commit gave. */
int store_end(Store *s, int r, Error *e);
/* r is what a transaction gave that destroys or updates. True if it failed on a full file system and the reserve has
 * been given up for it: e is then clear, and the transaction to be run again. */
bool store_try_again(Store *s, int r, Error *e);

/* A prepared statement being filled in and run: parameters count from 1 in the order of the calls, columns from 0.
 * Failures are remembered and told by query_row() and query_run(). Text and blobs must live until then. */
typedef struct Query {
        Store *store;
        sqlite3_stmt *statement;
        int parameter, column;
        int failed; /* an SQLite code */
} Query;

Query query_new(Store *s, Statement id);
void query_put_text(Query *q, const char *text); /* NULL allowed */
void query_put_number(Query *q, uint64_t number);
void query_put_blob(Query *q, const void *data, int length);

/* The next row: 1, or 0 after the last; then, and after a failure, the statement is reset. */
int query_row(Query *q, Error *e);
/* Run a statement that has no rows, or of which none is wanted any more. */
int query_run(Query *q, Error *e);
/* Leave rows unread. */
void query_reset(Query *q);

/* The columns of the row, in order. Text is NULL where the column is, and valid until the next row; a blob must be of
 * exactly that length. */
uint64_t query_number(Query *q);
const char *query_text(Query *q);
bool query_blob(Query *q, void *data, int length);
