/* What a starting daemon makes of what a former one left: adopt what runs, finish what was going, undo what was half
 * made, and remove what nobody records.
 *
 * - A network that was being created or destroyed: its keeper is killed if it lives, then the record goes.
 * - A network that was up: adopted, or failed when its keeper is dead. One that has failed stays recorded.
 * - A domain that was being created: stopped, nothing of it is kept. Being destroyed: stopped, its end is kept.
 * - A domain that was running or paused: adopted, or ended as "lost".
 * - A domain whose hypervisor this daemon cannot ask, since there is no driver or nothing to make its guest with: left
 *   alone. It may run, and its record is all that there is to find it by.
 * - A directory of a domain or a log of an ended one that nothing records: removed (tidy.c).
 *
 * A process is never unrecorded: core/spawn.h. What a driver keeps elsewhere it finds itself: present() in
 * driver/driver.h. */
#include "engine/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"

/* ---- networks ---- */

static int remove_network(Engine *e, Network *n, Error *error) {
        log_write(LOG_NOTICE, LOG_FIELDS(.network = n->name), "Network %s was %s when the daemon ended: removing it",
                  n->name, network_state_name(n->state));
        if (n->state != NETWORK_DESTROYING)
                registry_set_network_state(&e->registry, n, NETWORK_DESTROYING);
        return network_begin_removal(e, n, NULL, NULL, error);
}

static void adopt_network(Engine *e, Network *n) {
        AUTO(error_clear) Error error = ERROR_INIT;
        int r = keeper_adopt(&e->net_host, n, network_keeper_ended, e);

        if (r >= 0) {
                log_write(LOG_INFO, LOG_FIELDS(.network = n->name, .uid = &n->owner->uid), "Network %s is taken over",
                          n->name);
                return;
        }
        n->reason = r == -ESRCH ? strdup("its keeper ended while no daemon was running")
                                : string_printf("its keeper could not be taken over: %s", strerror(-r));
        registry_set_network_state(&e->registry, n, NETWORK_FAILED);
        log_write(LOG_WARNING, LOG_FIELDS(.network = n->name), "Network %s has failed: %s", n->name,
                  string_or(n->reason, "-"));
        if (store_update_network(e->store, n, &error) < 0)
                log_error("Failed to record that network %s has failed: %s, ignoring", n->name, error_text(&error));
}

static int reconcile_networks(Engine *e, Error *error) {
        Network *n;

        TAILQ_FOREACH (n, &e->registry.networks, entry) {
                int r = 0;

                if (n->state == NETWORK_CREATING || n->state == NETWORK_DESTROYING)
                        r = remove_network(e, n, error);
                else if (n->state == NETWORK_UP)
                        adopt_network(e, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- domains ---- */

/* A guest for a recorded domain, adopted; without one there is nothing left to stop. */
static int adopt_domain(Engine *e, Domain *d, const Driver *driver, Error *error) {
        int r = domain_make_guest(e, d, driver, true, error);
        if (r < 0)
                return r;
        r = driver->adopt(d->guest, error);
        if (r < 0)
                domain_drop_guest(d);
        return r;
}

/* What cannot be taken over must not live on unrecorded. */
static int kill_lost(Engine *e, const Domain *d, Error *error) {
        int pidfd;
        int r = process_open(&d->process, &pidfd);

        if (r >= 0)
                process_abandon(e->event, pidfd, NULL);
        else if (r != -ESRCH)
                return error_set_errno(error, r, "Failed to find the process of domain %s", d->name);
        return 0;
}

static bool may_be_there(Engine *e, const Domain *d, const Driver *driver) {
        return driver && (d->process.pid || (driver->present && driver->present(&e->driver_host, d)));
}

static void leave_alone(Engine *e, Domain *d, const char *why) {
        log_write(LOG_WARNING, LOG_FIELDS(.domain = d->name, .uid = &d->owner->uid),
                  "Domain %s cannot be taken over, and is left as it is: %s", d->name, why);
        d->left_alone = true;
        registry_show_domain(&e->registry, d); /* also one that was being made: it holds its network */
}

static int reconcile_domain(Engine *e, Domain *d, Error *failure) {
        const Driver *driver = hypervisor_driver(e, d->spec.hypervisor);
        AUTO(error_clear) Error error = ERROR_INIT;

        /* While none is chosen, nothing has been made. */
        if (*d->spec.hypervisor && (!driver || !driver->adopt)) {
                error_set(&error, ERROR_NOT_SUPPORTED, "there is no driver for hypervisor %s (debmarshal doctor)",
                          d->spec.hypervisor);
                leave_alone(e, d, error_text(&error));
                return 0;
        }
        int r = may_be_there(e, d, driver) ? adopt_domain(e, d, driver, &error) : 0;
        if (r < 0 && driver->present) { /* no process that could be killed is all of it */
                leave_alone(e, d, error_text(&error));
                return 0;
        }
        if (r < 0 && kill_lost(e, d, failure) < 0)
                return -EIO;

        if (d->state == DOMAIN_CREATING) {
                log_write(LOG_NOTICE, LOG_FIELDS(.domain = d->name),
                          "Domain %s was half made when the daemon ended: removing it", d->name);
                domain_undo(e, d);
        } else if (d->state == DOMAIN_DESTROYING)
                domain_end(e, d, d->end_reason, d->end_message);
        else if (r < 0 || !d->guest)
                domain_lose(e, d, r < 0 ? error_text(&error) : "there is nothing of it");
        return 0;
}

int reconcile(Engine *e, Error *error) {
        Domain *d, *next;

        int r = reconcile_networks(e, error);
        if (r < 0)
                return r;
        for (d = TAILQ_FIRST(&e->registry.domains); d; d = next) {
                next = TAILQ_NEXT(d, entry);
                r = reconcile_domain(e, d, error);
                if (r < 0)
                        return r;
        }
        tidy(e);
        ended_start(e);
        return 0;
}
