#include "driver/xen/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define CAPABILITIES "/proc/xen/capabilities"
#define HYPERVISOR   "/sys/hypervisor/type"
#define STRINGIFY(s) #s
#define SYMBOL(s)    STRINGIFY(s)

static char *absent_reason; /* NULL: no memory for one */

/* ---- the driver that is not there ---- */

typedef struct Probe {
        GuestAnswer answer;
        void *userdata;
} Probe;

static int say_absent(UNUSED sd_event_source *s, void *userdata) {
        Probe *p = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        error_set(&e, ERROR_NOT_SUPPORTED, "%s", string_or(absent_reason, "Xen is not there"));
        p->answer(p->userdata, -1, &e);
        return 0;
}

static int absent_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        sd_event_source *source = NULL;
        Probe *p = calloc(1, sizeof *p);
        int r = p ? sd_event_add_defer(host->event, &source, say_absent, p) : -ENOMEM;

        if (r < 0) {
                free(p);
                return error_set_errno(e, r, "Failed to look for Xen");
        }
        *p = (Probe){ answer, userdata };
        sd_event_source_set_destroy_callback(source, free);
        (void)sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
        return 0;
}

/* Nothing else is ever called: it is never usable, and adopts nothing. */
static const Driver absent_driver = { .name = "xen", .probe = absent_probe };

static const Driver *absent(char *reason) {
        free(absent_reason);
        absent_reason = reason;
        return &absent_driver;
}

/* ---- finding it ---- */

static bool file_says(const char *path, const char *word) {
        AUTO(string_drop) char *text = NULL;
        size_t length;

        return file_read_all(AT_FDCWD, path, 256, &text, &length) >= 0 && strstr(text, word);
}

static const Driver *load(const char *directory, char **ret_problem) {
        AUTO(string_drop) char *path = string_printf("%s/" XEN_MODULE, directory);

        if (!path || access(path, F_OK) < 0)
                return NULL;
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* for good */
        const Driver *driver = module ? dlsym(module, SYMBOL(XEN_MODULE_SYMBOL)) : NULL;
        if (!driver && !*ret_problem)
                *ret_problem = string_printf("The Xen driver cannot be loaded: %s", string_or(dlerror(), "no reason"));
        return driver;
}

const Driver *xen_driver_load(const char *beside, const char *installed) {
        const char *const directories[] = { beside, installed };
        const Driver *driver = NULL;
        char *problem = NULL;

        if (!file_says(HYPERVISOR, "xen") && access(CAPABILITIES, F_OK) < 0)
                return absent(strdup("This host does not run on Xen"));
        if (!file_says(CAPABILITIES, "control_d"))
                return absent(strdup("This host is a Xen guest, or has no /proc/xen: only dom0 can make domains"));
        for (size_t i = 0; i < ARRAY_LEN(directories) && !driver; i++)
                if (directories[i])
                        driver = load(directories[i], &problem);
        if (driver) {
                free(problem);
                return driver;
        }
        return absent(problem ? problem
                              : string_printf("The Xen driver, " XEN_MODULE ", is not in %s",
                                              string_or(installed, "its place")));
}
