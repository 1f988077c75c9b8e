/* Spare keepers.
 *
 * Most of what a network's creation takes, the loading of its server, needs not to know the network. So who has made
 * one gets the next one's keeper prepared, since rigs have several networks and tests make one after the other; but
 * only when nobody has asked for a network for a moment, so that no other waits for a processor because of it. A spare
 * is nobody's object: it is not recorded, listed or charged, and it dies with the daemon. What it costs is bounded: one
 * for an owner who may have one more network, a bounded number of owners, for a minute, and no longer than she has a
 * network, so that of a rig that is gone nothing is left. One that is killed may take its time, for the kernel or its
 * owner's sake: that is no network of hers either, but she gets no other one meanwhile.
 *
 *   (none) --spare_want()--> IDLE --at leisure--> PREPARING --> HELD --spare_take()--> a network's, and the next one is
 *                             |                      |           |                     wanted when that is up
 *                             +----------------------+-----------+-- spare_review(), a minute, its death --> (none)
 *
 * That there is none is never an error: a creation without a spare does all of it by itself. */
#include "engine/internal.h"

#include "base/log.h"
#include "base/time-util.h"

#define SPARE_USEC   (60 * USEC_PER_SEC)
#define LEISURE_USEC (20 * USEC_PER_MSEC) /* since the last request for a network; between two spares */

static size_t list_find(const Engine *e, const Owner *owner) {
        size_t i = 0;

        while (i < e->n_spares && e->spares[i]->owner != owner)
                i++;
        return i;
}

static int on_leisure(sd_event_source *source, uint64_t usec, void *userdata);

/* From now on. Without a timer there are no spares, which matters to nobody. */
static void wait_for_leisure(Engine *e) {
        if (!e->spare_source)
                (void)sd_event_add_time_relative(e->event, &e->spare_source, CLOCK_MONOTONIC, LEISURE_USEC, 1,
                                                 on_leisure, e);
        else if (sd_event_source_set_time_relative(e->spare_source, LEISURE_USEC) >= 0)
                (void)sd_event_source_set_enabled(e->spare_source, SD_EVENT_ONESHOT);
}

static KeeperStart *list_remove(Engine *e, size_t i) {
        KeeperStart *k = e->spares[i];

        e->spares[i] = e->spares[--e->n_spares];
        return k;
}

KeeperStart *spare_take(Engine *e, const Owner *owner) {
        size_t i = list_find(e, owner);

        if (e->n_spares > 0)
                wait_for_leisure(e);
        return i == e->n_spares || keeper_is_ending(e->spares[i]) ? NULL : list_remove(e, i);
}

static void spare_lost(KeeperStart *k, const Error *why) {
        log_write(LOG_DEBUG, LOG_FIELDS(.uid = &k->owner->uid), "The spare keeper of uid %u has gone: %s",
                  (unsigned)k->owner->uid, error_text(why));
        Engine *e = k->userdata;
        keeper_start_free(list_remove(e, list_find(e, k->owner)));
}

static bool is_wanted(const Engine *e, const Owner *owner) {
        if (e->n_spares >= e->limits.spares || e->n_spares >= SPARES_MAX || list_find(e, owner) < e->n_spares ||
            owner->held.dying_spares > 0)
                return false;
        const Limits *limits = limits_for(&e->limits, owner->uid);
        return !limits || owner->held.networks < limits->networks;
}

static void prepare(Engine *e, KeeperStart *k) {
        AUTO(error_clear) Error error = ERROR_INIT;

        k->deadline_usec = e->limits.start_usec;
        k->spare_usec = SPARE_USEC;
        k->done = spare_lost;
        k->userdata = e;
        if (keeper_prepare(k, &error) < 0)
                spare_lost(k, &error);
}

static int on_leisure(sd_event_source *source UNUSED, uint64_t usec UNUSED, void *userdata) {
        Engine *e = userdata;

        for (size_t i = 0; i < e->n_spares; i++)
                if (e->spares[i]->state == KEEPER_IDLE) {
                        prepare(e, e->spares[i]);
                        wait_for_leisure(e); /* for the next one, if there is one */
                        break;
                }
        return 0;
}

void spare_want(Engine *e, Owner *owner) {
        if (!is_wanted(e, owner))
                return;
        KeeperStart *k = keeper_start_new(&e->net_host, owner);
        if (!k)
                return;
        e->spares[e->n_spares++] = k;
        wait_for_leisure(e);
}

/* Not by what she is charged with: that may be for one that has gone, but for a process that she traces. */
void spare_review(Engine *e, const Owner *owner) {
        const Network *n;
        size_t i = list_find(e, owner);

        if (i == e->n_spares)
                return;
        TAILQ_FOREACH (n, &e->registry.networks, entry) {
                if (n->owner == owner && n->state != NETWORK_DESTROYING)
                        return;
        }
        keeper_start_free(list_remove(e, i));
}

void spares_done(Engine *e) {
        while (e->n_spares > 0)
                keeper_start_free(list_remove(e, 0));
        e->spare_source = sd_event_source_disable_unref(e->spare_source);
}
