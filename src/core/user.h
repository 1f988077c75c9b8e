/* The user database, which may be a server on a network that takes as long as it likes: for children of the daemon only
 * (core/worker.h), never for its loop. */
#pragma once

#include <sys/types.h>

typedef struct User {
        gid_t gid; /* the user's own group */
        char *name;
} User;

/* 1, 0 where there is no such user, or negative errno. */
int user_find(uid_t uid, User *ret);
void user_clear(User *u); /* usable with AUTO() */
