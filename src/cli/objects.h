/* Networks and domains as the daemon describes them, found by the names that people use. */
#pragma once

#include "cli/cli.h"
#include "cli/value.h"

typedef enum ObjectKind { OBJECT_NETWORK, OBJECT_DOMAIN } ObjectKind;

/* Every object of a kind, sorted by name: an array of objects with the properties of docs/dbus.md in snake case, and
 * "owner_name"; a domain's "nics" are objects with "network", "mac" and "host". Unless all, only the caller's own. */
int objects_load(Cli *cli, ObjectKind kind, bool all, json_t **ret, Error *e);

/* One object's properties. */
int object_load(Cli *cli, ObjectKind kind, const char *path, json_t **ret, Error *e);

/* The domains that have ended and are still remembered: objects with "id", "name", "owner", "owner_name", "reason",
 * "message" and "ended_usec". */
int ended_load(Cli *cli, json_t **ret, Error *e);

/* The hosts of a network: objects with "name", "address", "mac" and "address6". */
int network_hosts(Cli *cli, const char *path, json_t **ret, Error *e);

/* The object path. A domain may also be called by its host name, where that is unique among the caller's own. */
int network_path(Cli *cli, const char *name, char **ret_path, Error *e);
int domain_path(Cli *cli, const char *name, char **ret_path, Error *e);

/* The name in a domain's path, which may be more than what the domain was called by. */
int domain_name(const char *path, char **ret, Error *e);

/* After a failure: a domain that has ended may be meant, perhaps one whose name is somebody else's by now. */
bool domain_may_have_ended(const Error *e);

/* A property of the manager. */
int manager_text(Cli *cli, const char *property, char **ret, Error *e);
int caller_uid(Cli *cli, uid_t *ret, Error *e);

/* The first host name of a domain; "" when it has none. */
const char *domain_host(const json_t *domain);

/* The login name, or the number when there is none; allocated. */
char *user_name(uint64_t uid);

/* Pick the one of objects (domains) that has a NIC with this host name: ERROR_DOMAIN_NOT_FOUND for none,
 * ERROR_INVALID_INPUT for several. ret_name points into objects. */
int domain_by_host(const json_t *objects, const char *host, const char **ret_name, Error *e);
