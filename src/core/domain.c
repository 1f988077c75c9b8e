/* A domain's record, and what is kept of one that has ended. */
#include "core/domain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/string-util.h"
#include "base/time-util.h"

static const char *const state_names[DOMAIN_STATE_COUNT] = {
        [DOMAIN_CREATING] = "creating",
        [DOMAIN_RUNNING] = "running",
        [DOMAIN_PAUSED] = "paused",
        [DOMAIN_DESTROYING] = "destroying",
};

static const char *const reason_names[END_REASON_COUNT] = {
        [END_NONE] = "none",   [END_DESTROYED] = "destroyed", [END_POWEROFF] = "poweroff", [END_REBOOT] = "reboot",
        [END_CRASH] = "crash", [END_FAILED] = "failed",       [END_LOST] = "lost",
};

const char *domain_state_name(DomainState s) {
        return s < DOMAIN_STATE_COUNT ? state_names[s] : "";
}

DomainState domain_state_from_name(const char *name) {
        return string_find(state_names, DOMAIN_STATE_COUNT, name);
}

const char *end_reason_name(EndReason r) {
        return r < END_REASON_COUNT ? reason_names[r] : "";
}

EndReason end_reason_from_name(const char *name) {
        return string_find(reason_names, END_REASON_COUNT, name);
}

/* Version 4 of RFC 4122. */
static int make_uuid(uint8_t uuid[DOMAIN_UUID_SIZE]) {
        int r = random_bytes(uuid, DOMAIN_UUID_SIZE);

        uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
        uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
        return r;
}

const char *domain_uuid_format(const uint8_t uuid[DOMAIN_UUID_SIZE], char buffer[DOMAIN_UUID_TEXT_MAX]) {
        char *at = buffer;

        for (size_t i = 0; i < DOMAIN_UUID_SIZE; i++)
                at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
        return buffer;
}

int domain_new(const char *name, uint64_t id, Owner *owner, DomainSpec *spec, Domain **ret) {
        Domain *d = calloc(1, sizeof *d);
        if (!d)
                return -ENOMEM;

        d->name = strdup(name);
        int r = d->name ? make_uuid(d->uuid) : -ENOMEM;
        if (r < 0) {
                free(d->name);
                free(d);
                return r;
        }
        d->id = id;
        d->owner = owner;
        d->spec = *spec;
        *spec = DOMAIN_SPEC_INIT;
        d->created_usec = now_realtime_usec();
        *ret = d;
        return 0;
}

Domain *domain_free(Domain *d) {
        if (!d)
                return NULL;

        domain_spec_clear(&d->spec);
        free(d->end_message);
        free(d->name);
        free(d);
        return NULL;
}

Charge domain_charge(const Domain *d) {
        uint64_t stub = d->spec.stub_domain ? STUB_DOMAIN_MEMORY : 0;

        return (Charge){ .domains = 1, .memory = d->spec.memory + stub, .vcpus = d->spec.vcpus };
}

static const Charge one_domain = { .domains = 1 };

Lingering domain_lingering(const Domain *d) {
        return (Lingering){ d->owner, &one_domain };
}

EndedDomain *ended_domain_free(EndedDomain *d) {
        if (!d)
                return NULL;

        free(d->name);
        free(d->message);
        free(d);
        return NULL;
}
