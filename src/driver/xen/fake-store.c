#include "driver/xen/fake-store.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenstore.h>

struct xs_handle {
        int nothing;
};

FakeStore fake_store;
static FakeNode before[FAKE_NODES_MAX]; /* what a transaction began with */

void fake_store_reset(void) {
        memset(&fake_store, 0, sizeof fake_store);
}

FakeNode *fake_store_find(const char *path) {
        for (size_t i = 0; i < FAKE_NODES_MAX; i++)
                if (fake_store.nodes[i].used && strcmp(fake_store.nodes[i].path, path) == 0)
                        return &fake_store.nodes[i];
        return NULL;
}

size_t fake_store_count(void) {
        size_t n = 0;

        for (size_t i = 0; i < FAKE_NODES_MAX; i++)
                n += fake_store.nodes[i].used;
        return n;
}

static bool fails(int error) {
        errno = error;
        return false;
}

/* Below is "path/...". */
static bool is_below(const char *path, const char *above) {
        size_t length = strlen(above);

        return strncmp(path, above, length) == 0 && path[length] == '/';
}

static FakeNode *parent_of(const char *path) {
        char above[192];

        snprintf(above, sizeof above, "%s", path);
        char *slash = strrchr(above, '/');
        if (!slash || slash == above)
                return NULL;
        *slash = '\0';
        return fake_store_find(above);
}

static FakeNode *make(const char *path) {
        FakeNode *node = fake_store_find(path), *parent = parent_of(path);

        for (size_t i = 0; !node && i < FAKE_NODES_MAX; i++) {
                if (fake_store.nodes[i].used)
                        continue;
                node = &fake_store.nodes[i];
                *node = (FakeNode){ .used = true, .reader = UINT32_MAX };
                snprintf(node->path, sizeof node->path, "%s", path);
                if (parent) {
                        node->owner = parent->owner;
                        node->reader = parent->reader;
                }
        }
        return node;
}

struct xs_handle *xs_open(unsigned long flags) {
        (void)flags;
        return calloc(1, sizeof(struct xs_handle));
}

void xs_close(struct xs_handle *h) {
        free(h);
}

xs_transaction_t xs_transaction_start(struct xs_handle *h) {
        (void)h;
        memcpy(before, fake_store.nodes, sizeof before);
        return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort) {
        (void)h;
        (void)t;
        fake_store.ended++;
        if (!abort && fake_store.conflicts == 0)
                return true;
        memcpy(fake_store.nodes, before, sizeof before);
        if (abort)
                return true;
        fake_store.conflicts--;
        return fails(EAGAIN);
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned length) {
        (void)h;
        (void)t;
        FakeNode *node = fake_store.refuse && strcmp(path, fake_store.refuse) == 0 ? NULL : make(path);
        if (!node)
                return fails(EACCES);
        snprintf(node->value, sizeof node->value, "%.*s", (int)length, (const char *)data);
        return true;
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path) {
        (void)h;
        (void)t;
        return make(path) || fails(ENOSPC);
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path, struct xs_permissions *p,
                        unsigned n) {
        (void)h;
        (void)t;
        FakeNode *node = fake_store_find(path);
        if (!node)
                return fails(ENOENT);
        node->owner = p[0].id;
        node->reader = n > 1 ? p[1].id : UINT32_MAX;
        return true;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path) {
        (void)h;
        (void)t;
        bool found = false;
        for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
                FakeNode *node = &fake_store.nodes[i];
                if (!node->used || (strcmp(node->path, path) != 0 && !is_below(node->path, path)))
                        continue;
                node->used = false;
                found = true;
        }
        return found || fails(ENOENT);
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned *ret_length) {
        (void)h;
        (void)t;
        FakeNode *node = fake_store_find(path);
        if (!node) {
                errno = ENOENT;
                return NULL;
        }
        *ret_length = (unsigned)strlen(node->value);
        return strdup(node->value);
}

/* One block, as the library gives it: the pointers, then the names. */
char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned *ret_n) {
        (void)h;
        (void)t;
        char **list = calloc(1, FAKE_NODES_MAX * (sizeof *list + 64));
        char *names = (char *)(list + FAKE_NODES_MAX);
        unsigned n = 0;

        for (size_t i = 0; list && i < FAKE_NODES_MAX; i++) {
                const FakeNode *node = &fake_store.nodes[i];
                if (!node->used || !is_below(node->path, path))
                        continue;
                const char *name = node->path + strlen(path) + 1;
                int length = (int)strcspn(name, "/");
                bool known = false;
                for (unsigned k = 0; k < n && !known; k++)
                        known = (int)strlen(list[k]) == length && strncmp(list[k], name, (size_t)length) == 0;
                if (known)
                        continue;
                list[n] = names + n * 64;
                snprintf(list[n++], 64, "%.*s", length, name);
        }
        *ret_n = n;
        return list;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token) {
        (void)h;
        (void)path;
        (void)token;
        return true;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token) {
        (void)h;
        (void)path;
        (void)token;
        return true;
}

/* Nothing ever fires. */
int xs_fileno(struct xs_handle *h) {
        (void)h;
        return -1;
}

char **xs_check_watch(struct xs_handle *h) {
        (void)h;
        errno = EAGAIN;
        return NULL;
}
