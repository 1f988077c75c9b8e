/* What each uid holds. The sum of what is charged is always what exists: whoever makes a thing charges before, and
 * whoever removes it, for whatever reason, releases after. An owner's entry lives as long as it holds something
 * or is pinned; owners_prune() is called between requests, when nobody else has a pointer to it. */
#include "core/owner.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/string-util.h"

#define NO_LIMIT SIZE_MAX

/* Every resource: where it is counted, where it is limited, what people call it. */
static const struct {
        const char *name;
        size_t held, limit; /* offsets in Charge and Limits */
        bool is_size;
} resources[] = {
        { "networks", offsetof(Charge, networks), offsetof(Limits, networks), false },
        { "domains", offsetof(Charge, domains), offsetof(Limits, domains), false },
        { "memory", offsetof(Charge, memory), offsetof(Limits, memory), true },
        { "vcpus", offsetof(Charge, vcpus), offsetof(Limits, vcpus), false },
        { "open streams", offsetof(Charge, streams), offsetof(Limits, streams), false },
        { "connections", offsetof(Charge, connections), offsetof(Limits, connections), false },
        { "dying spare keepers", offsetof(Charge, dying_spares), NO_LIMIT, false },
};
static_assert(sizeof(Charge) == ARRAY_LEN(resources) * sizeof(uint64_t), "row missing");

static uint64_t *counter(Charge *c, size_t i) {
        return (uint64_t *)(void *)((char *)c + resources[i].held);
}

static uint64_t amount(const Charge *c, size_t i) {
        return *(const uint64_t *)(const void *)((const char *)c + resources[i].held);
}

static uint64_t limit_of(const Limits *l, size_t i) {
        return *(const uint64_t *)(const void *)((const char *)l + resources[i].limit);
}

void owners_init(Owners *o) {
        TAILQ_INIT(&o->list);
}

void owners_done(Owners *o) {
        Owner *owner;

        while ((owner = TAILQ_FIRST(&o->list))) {
                TAILQ_REMOVE(&o->list, owner, entry);
                free(owner);
        }
}

int owners_get(Owners *o, uid_t uid, Owner **ret) {
        Owner *owner;

        for (owner = TAILQ_FIRST(&o->list); owner; owner = TAILQ_NEXT(owner, entry)) {
                if (owner->uid == uid) {
                        *ret = owner;
                        return 0;
                }
        }
        owner = calloc(1, sizeof *owner);
        if (!owner)
                return -ENOMEM;
        owner->uid = uid;
        TAILQ_INSERT_TAIL(&o->list, owner, entry);
        *ret = owner;
        return 0;
}

static bool is_needed(const Owner *owner) {
        for (size_t i = 0; i < ARRAY_LEN(resources); i++)
                if (amount(&owner->held, i) > 0)
                        return true;
        return owner->pins > 0;
}

void owners_prune(Owners *o) {
        Owner *owner, *next;

        for (owner = TAILQ_FIRST(&o->list); owner; owner = next) {
                next = TAILQ_NEXT(owner, entry);
                if (!is_needed(owner)) {
                        TAILQ_REMOVE(&o->list, owner, entry);
                        free(owner);
                }
        }
}

static const char *format_amount(size_t i, uint64_t value, char buffer[SIZE_TEXT_MAX]) {
        if (resources[i].is_size)
                return size_format(value, buffer);
        snprintf(buffer, SIZE_TEXT_MAX, "%llu", (unsigned long long)value);
        return buffer;
}

static int check_resource(const Owner *owner, const Charge *charge, const Limits *limits, size_t i, Error *e) {
        if (resources[i].limit == NO_LIMIT)
                return 0;

        uint64_t held = amount(&owner->held, i), more = amount(charge, i), limit = limit_of(limits, i);
        char held_text[SIZE_TEXT_MAX], more_text[SIZE_TEXT_MAX], limit_text[SIZE_TEXT_MAX];

        /* More than the limit may be held: the administrator lowered it, or it was found running. */
        if (more == 0 || (held <= limit && more <= limit - held))
                return 0;
        return error_set(e, ERROR_QUOTA_EXCEEDED, "%s: uid %u holds %s, and %s more would exceed its limit of %s",
                         resources[i].name, (unsigned)owner->uid, format_amount(i, held, held_text),
                         format_amount(i, more, more_text), format_amount(i, limit, limit_text));
}

int owner_charge(Owner *owner, const Charge *charge, const Limits *limits, Error *e) {
        for (size_t i = 0; limits && i < ARRAY_LEN(resources); i++) {
                int r = check_resource(owner, charge, limits, i, e);
                if (r < 0)
                        return r;
        }
        /* For root, who has no limits, the sum may wrap; releasing wraps it back. */
        for (size_t i = 0; i < ARRAY_LEN(resources); i++)
                *counter(&owner->held, i) += amount(charge, i);
        return 0;
}

void owner_release(Owner *owner, const Charge *charge) {
        for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
                assert(owner->uid == 0 || amount(&owner->held, i) >= amount(charge, i));
                *counter(&owner->held, i) -= amount(charge, i);
        }
}
