/* What the runtime directory holds beside the store, kept as the store says: a directory for each domain, a log for
 * each ended one, and nothing else. A removal that fails is tried again by and by: what nobody records is swept away,
 * at the start of a daemon and whenever something could not be removed. */
#include "engine/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define FIRST_USEC (100 * USEC_PER_MSEC)
#define LAST_USEC  (60 * 60 * USEC_PER_SEC)

static bool domain_directory_known(Engine *e, const char *name) {
        return registry_domain(&e->registry, name);
}

static bool ended_log_known(Engine *e, const char *name) {
        uint64_t id = strtoull(name, NULL, 10);
        char log_name[32];
        EndedDomain *d;
        Domain *living;

        ended_log_name(id, log_name);
        if (!string_equal(name, log_name)) /* no sign, no leading zero, nothing but a number */
                return false;
        TAILQ_FOREACH (d, &e->registry.ended, entry)
                if (d->id == id)
                        return true;
        /* One that is on its way from here to there. */
        TAILQ_FOREACH (living, &e->registry.domains, entry)
                if (living->id == id)
                        return true;
        return false;
}

/* Returns the first failure, when the rest has been swept too. */
static int sweep(Engine *e, int dir_fd, bool (*known)(Engine *e, const char *name)) {
        AUTO(fd_drop) int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir)
                return -errno;

        (void)fd_take(&fd);
        int result = 0;
        struct dirent *entry;
        while (errno = 0, (entry = readdir(dir))) {
                if (string_equal(entry->d_name, ".") || string_equal(entry->d_name, "..") || known(e, entry->d_name))
                        continue;
                int r = remove_tree(dir_fd, entry->d_name);
                if (r >= 0)
                        log_info("Removed %s, which nothing records", entry->d_name);
                else {
                        log_warning("Failed to remove %s: %s, will try again", entry->d_name, strerror(-r));
                        result = result ? result : r;
                }
        }
        if (errno != 0)
                result = result ? result : -errno;
        closedir(dir);
        return result;
}

static int on_tidy(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        tidy(userdata);
        return 0;
}

void tidy_later(Engine *e) {
        e->tidy_usec = e->tidy_usec == 0 ? FIRST_USEC : e->tidy_usec < LAST_USEC / 2 ? 2 * e->tidy_usec : LAST_USEC;
        e->tidy_source = sd_event_source_disable_unref(e->tidy_source);
        int r = sd_event_add_time_relative(e->event, &e->tidy_source, CLOCK_BOOTTIME, e->tidy_usec, 0, on_tidy, e);
        if (r < 0)
                log_warning("Failed to set the timer for what could not be removed: %s, ignoring", strerror(-r));
}

void tidy(Engine *e) {
        int r = sweep(e, e->driver_host.domains_fd, domain_directory_known);
        int r2 = sweep(e, e->ended_fd, ended_log_known);

        if (r < 0 || r2 < 0)
                tidy_later(e);
        else
                tidy_done(e);
}

void tidy_done(Engine *e) {
        e->tidy_source = sd_event_source_disable_unref(e->tidy_source);
        e->tidy_usec = 0;
}
