#include "driver/xen/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/probe.h"

#define CAPABILITIES "/proc/xen/capabilities"
#define HYPERVISOR   "/sys/hypervisor/type"
#define STRINGIFY(s) #s
#define SYMBOL(s)    STRINGIFY(s)

static char *absent_reason; /* NULL: no memory for one */

/* ---- the driver that is not there ---- */

static int absent_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        AUTO(error_clear) Error verdict = ERROR_INIT;

        error_set(&verdict, ERROR_NOT_SUPPORTED, "%s", string_or(absent_reason, "Xen is not there"));
        return probe_answer_later(host, &verdict, answer, userdata, e);
}

/* Nothing else is ever called: it is never usable, and adopts nothing. What domains there are stay recorded. */
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
