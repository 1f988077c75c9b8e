#include "driver/xen/fake-store.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenstore.h>

#include "driver/xen/wire.h"

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

/* ---- changes ---- */

struct Wire {
        int failure;
        char path[192];
};

static int note(Wire *w, int r, const char *path) {
        if (r < 0 && w->failure == 0) {
                w->failure = r;
                snprintf(w->path, sizeof w->path, "%s", path);
        }
        return 0;
}

int wire_open(Wire **ret) {
        *ret = calloc(1, sizeof **ret);
        return *ret ? 0 : -ENOMEM;
}

Wire *wire_close(Wire *w) {
        free(w);
        return NULL;
}

int wire_begin(Wire *w) {
        *w = (Wire){ .failure = 0 };
        memcpy(before, fake_store.nodes, sizeof before);
        return 0;
}

int wire_end(Wire *w, bool give_up, const char **ret_path) {
        fake_store.ended++;
        *ret_path = w->failure ? w->path : NULL;
        bool conflict = !give_up && w->failure == 0 && fake_store.conflicts > 0;
        if (give_up || w->failure || conflict)
                memcpy(fake_store.nodes, before, sizeof before);
        fake_store.conflicts -= conflict;
        return conflict ? -EAGAIN : w->failure;
}

int wire_write(Wire *w, const char *path, const void *data, size_t length) {
        FakeNode *node = fake_store.refuse && strcmp(path, fake_store.refuse) == 0 ? NULL : make(path);

        if (node)
                snprintf(node->value, sizeof node->value, "%.*s", (int)length, (const char *)data);
        return note(w, node ? 0 : -EACCES, path);
}

int wire_mkdir(Wire *w, const char *path) {
        return note(w, make(path) ? 0 : -ENOSPC, path);
}

int wire_permit(Wire *w, const char *path, uint32_t owner, uint32_t reader) {
        FakeNode *node = fake_store_find(path);

        if (!node)
                return note(w, -ENOENT, path);
        node->owner = owner;
        node->reader = reader;
        return 0;
}

int wire_remove(Wire *w, const char *path) {
        (void)w;
        for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
                FakeNode *node = &fake_store.nodes[i];
                if (node->used && (strcmp(node->path, path) == 0 || is_below(node->path, path)))
                        node->used = false;
        }
        return 0;
}

/* ---- reading ---- */

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
