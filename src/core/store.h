/* The only SQL. One SQLite file, state.db, in the runtime directory (a tmpfs): what must be found again after the
 * daemon dies is here before the host is touched. Each call is one transaction, durable against the death of the
 * process at any instruction when it returns. Journal mode TRUNCATE, synchronous OFF (a host that dies takes the tmpfs
 * with it), no shared memory file: a full file system gives an error, never a SIGBUS. After any failed call the
 * database is unchanged. */
#pragma once

#include "core/registry.h"

typedef struct Store Store;

/* Open or create in dir_fd, mode 0600, exclusively; bring an older schema up to date; refuse a newer one. A file of
 * another boot of the host (meta.boot_id) is emptied: *ret_rebooted says so, and the caller clears what lies beside it.
 * A corrupt file is an error that names it and the way out. */
int store_open(int dir_fd, const char *boot_id, Store **ret, bool *ret_rebooted, Error *e);
Store *store_close(Store *s);

int store_add_network(Store *s, const Network *n, Error *e);    /* with its hosts */
int store_update_network(Store *s, const Network *n, Error *e); /* state, reason, keeper, namespaces */
int store_remove_network(Store *s, const Network *n, Error *e);

int store_add_domain(Store *s, const Domain *d, Error *e);    /* raises meta.next_domain_id past its id */
int store_update_domain(Store *s, const Domain *d, Error *e); /* state, end, process, jail uid, hypervisor */
/* Remove it; with ended not NULL, keep that in its place, in the same transaction. */
int store_remove_domain(Store *s, const Domain *d, const EndedDomain *ended, Error *e);
int store_remove_ended(Store *s, uint64_t id, Error *e);

/* Fill an empty registry with all that is recorded, charging each owner without a check. */
int store_load(Store *s, Registry *r, Error *e);
