/* In place of libxenstore and wire.c, for unit tests: a store in memory, whose transactions can be made to conflict. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FAKE_NODES_MAX 256

typedef struct FakeNode {
        bool used;
        char path[192], value[192];
        unsigned owner, reader; /* reader: -1 for nobody */
} FakeNode;

typedef struct FakeStore {
        FakeNode nodes[FAKE_NODES_MAX];
        unsigned conflicts; /* so many transactions fail at their end, from now on */
        unsigned ended;     /* transactions, whatever their result */
        const char *refuse; /* a path that may not be written */
} FakeStore;
extern FakeStore fake_store;

void fake_store_reset(void);
FakeNode *fake_store_find(const char *path); /* NULL: none */
size_t fake_store_count(void);
