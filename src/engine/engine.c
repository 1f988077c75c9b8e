/* The broker's beginning and end, who may act on what, and the small things that every request uses. */
#include "engine/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"

int engine_defer(Engine *e, sd_event_handler_t handler, void *userdata, sd_event_source **ret, Error *error) {
        int r = sd_event_add_defer(e->event, ret, handler, userdata); /* one shot by default */

        return r < 0 ? error_set_errno(error, r, "Failed to go on") : 0;
}

void engine_answer(EngineDone done, void *userdata, Network *n, Domain *d, const Error *error) {
        EngineAnswer answer = { .network = n, .domain = d, .fds = { -1, -1 } };

        if (done)
                done(userdata, &answer, error);
}

int engine_authorise(const Caller *who, const Owner *owner, const char *what, Error *error) {
        if (who->uid == 0 || who->uid == owner->uid)
                return 0;
        return error_set(error, ERROR_ACCESS_DENIED, "%s belongs to uid %u, not to uid %u", what, (unsigned)owner->uid,
                         (unsigned)who->uid);
}

/* Objects that are still being created are nobody's to see. */
int engine_find_network(Engine *e, const Caller *who, const char *name, Network **ret, Error *error) {
        Network *n = registry_network(&e->registry, name);
        if (!n) {
                AUTO(string_drop) char *shown = string_escape(name, 64);
                return error_set(error, ERROR_NETWORK_NOT_FOUND, "There is no network %s", string_or(shown, "\"\""));
        }
        int r = engine_authorise(who, n->owner, n->name, error);
        if (r < 0)
                return r;
        *ret = n;
        return 0;
}

int engine_find_domain(Engine *e, const Caller *who, const char *name, Domain **ret, Error *error) {
        Domain *d = registry_domain(&e->registry, name);
        if (!d) {
                AUTO(string_drop) char *shown = string_escape(name, 64);
                return error_set(error, ERROR_DOMAIN_NOT_FOUND, "There is no domain %s", string_or(shown, "\"\""));
        }
        int r = engine_authorise(who, d->owner, d->name, error);
        if (r < 0)
                return r;
        *ret = d;
        return 0;
}

bool engine_is_empty(const Engine *e) {
        return TAILQ_EMPTY(&e->registry.networks) && TAILQ_EMPTY(&e->registry.domains) && e->n_jobs == 0 && !e->streams;
}

/* ---- start and end ---- */

static int read_boot_id(char **ret, Error *error) {
        size_t length;
        int r = file_read_all(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, ret, &length);

        return r < 0 ? error_set_errno(error, r, "Failed to read the boot id of the host") : 0;
}

static int open_subdirectory(Engine *e, const char *name, bool fresh, int *ret_fd, Error *error) {
        int r = fresh ? remove_tree(e->runtime_fd, name) : 0;

        if (r >= 0 && mkdirat(e->runtime_fd, name, 0700) < 0 && errno != EEXIST)
                r = -errno;
        if (r >= 0) {
                int fd = openat(e->runtime_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd >= 0) {
                        *ret_fd = fd;
                        return 0;
                }
                r = -errno;
        }
        return error_set_errno(error, r, "Failed to open the directory \"%s\" in the runtime directory", name);
}

int engine_start(Engine *e, Error *error) {
        AUTO(string_drop) char *boot_id = NULL;
        bool rebooted = false;

        registry_init(&e->registry);
        e->ended_fd = -1;
        e->driver_host = (DriverHost){
                .event = e->event,
                .privileged = e->scope == SCOPE_SYSTEM,
                .domains_fd = -1,
                .limits = &e->limits,
                .settings = &e->driver_settings,
        };
        int r = read_boot_id(&boot_id, error);
        if (r >= 0)
                r = store_open(e->runtime_fd, boot_id, &e->store, &rebooted, error);
        if (r >= 0)
                r = open_subdirectory(e, "domains", rebooted, &e->driver_host.domains_fd, error);
        if (r >= 0)
                r = open_subdirectory(e, "ended", rebooted, &e->ended_fd, error);
        if (r >= 0)
                r = store_load(e->store, &e->registry, error);
        if (r >= 0)
                r = hypervisors_start(e, error);
        if (r >= 0)
                r = reconcile(e, error);
        if (r < 0)
                engine_done(e);
        return r;
}

void engine_done(Engine *e) {
        e->stopping = true;
        waits_done(e);
        network_jobs_done(e);
        spares_done(e);
        domain_jobs_done(e);
        streams_done(e); /* after the consoles, which end the streams of their clients */
        hypervisors_done(e);
        tidy_done(e);
        e->expiry_source = sd_event_source_disable_unref(e->expiry_source);
        registry_done(&e->registry);
        e->store = store_close(e->store);
        fd_drop(&e->driver_host.domains_fd);
        fd_drop(&e->ended_fd);
}
