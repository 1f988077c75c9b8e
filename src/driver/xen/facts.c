/* A worker looks, since xenstored need not answer and a hypercall may wait: it opens what every other worker opens,
 * which is the proof that Xen works here, and notes what it sees. Its reply is a row of texts, three to a fact, each
 * ended by a NUL: the name, what there is, and the cure, which is empty where there is nothing to mend. */
#include "driver/xen/facts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/probe.h"
#include "driver/xen/build.h"
#include "driver/xen/hypervisor.h"
#include "driver/xen/model.h"
#include "driver/xen/store.h"
#include "driver/xen/stub.h"

#define DEADLINE_USEC   (8 * USEC_PER_SEC)
#define CAPABILITIES    "/sys/hypervisor/properties/capabilities"
#define DOMAINS_AT_ONCE 64
#define FACTS_MAX       16
#define TEXTS_PER_FACT  3

/* ---- in the worker ---- */

static void add_text(WorkerReply *reply, const char *text) {
        size_t length = strlen(text) + 1;

        if (length <= sizeof reply->data - reply->length) {
                memcpy(reply->data + reply->length, text, length);
                reply->length += length;
        }
}

__attribute__((format(printf, 4, 5))) static void add_fact(WorkerReply *reply, const char *name, const char *cure,
                                                           const char *format, ...) {
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        add_text(reply, name);
        add_text(reply, text);
        add_text(reply, cure);
}

static void add_version(Xen *x, WorkerReply *reply) {
        int version = xc_version(x->xc, XENVER_version, NULL);
        xen_extraversion_t more = { 0 };

        if (version < 0 || xc_version(x->xc, XENVER_extraversion, &more) < 0)
                return;
        more[sizeof more - 1] = '\0';
        add_fact(reply, "version", "", "%d.%d%s, which this build is for", version >> 16, version & 0xffff, more);
}

static void add_capabilities(WorkerReply *reply) {
        AUTO(string_drop) char *text = NULL;
        size_t length;

        if (file_read_all(AT_FDCWD, CAPABILITIES, 512, &text, &length) < 0)
                return;
        if (strstr(text, "hvm-"))
                add_fact(reply, "capabilities", "", "guests of type pv, pvh and hvm");
        else
                add_fact(reply, "capabilities", "switch hardware virtualisation on in the firmware's setup, or use pv",
                         "guests of type pv only: the processor's virtualisation is off");
}

static void add_memory(const xc_physinfo_t *info, WorkerReply *reply) {
        char available[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX];
        uint64_t free_bytes = info->free_pages << XC_PAGE_SHIFT;
        bool low = free_bytes < 64ULL << 20;

        add_fact(reply, "memory", low ? "destroy domains, or give dom0 less (dom0_mem=) and boot again" : "",
                 "%s free of %s", size_format(free_bytes, available),
                 size_format(info->total_pages << XC_PAGE_SHIFT, total));
}

static void add_domains(Xen *x, WorkerReply *reply) {
        xc_domaininfo_t info[DOMAINS_AT_ONCE];
        uint32_t next = 1;
        unsigned count = 0;
        int n;

        while ((n = xc_domain_getinfolist(x->xc, next, DOMAINS_AT_ONCE, info)) > 0) {
                count += (unsigned)n;
                next = info[n - 1].domain + 1;
        }
        add_fact(reply, "domains", "", "%u beside dom0", count);
}

static bool process_is(const char *pid, const char *name) {
        AUTO(string_drop) char *comm = NULL;
        char path[64];
        size_t length;

        snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
        return file_read_all(AT_FDCWD, path, 64, &comm, &length) >= 0 && length == strlen(name) + 1 &&
               strncmp(comm, name, length - 1) == 0;
}

static bool runs(const char *name) {
        DIR *directory = opendir("/proc");
        bool found = false;

        if (!directory)
                return false;
        for (struct dirent *entry; !found && (entry = readdir(directory));)
                found = *entry->d_name >= '0' && *entry->d_name <= '9' && process_is(entry->d_name, name);
        closedir(directory);
        return found;
}

static void add_daemons(WorkerReply *reply) {
        add_fact(reply, "xenstored", "", "answers");
        if (runs("xenconsoled"))
                add_fact(reply, "xenconsoled", "", "runs");
        else
                add_fact(reply, "xenconsoled",
                         "sudo systemctl restart xen, which starts xenconsoled (package xen-utils-common)",
                         "does not run, so no guest gets a console, and none starts");
}

/* What guests of type hvm need beside. */
static void add_model(Xen *x, const DriverHost *host, WorkerReply *reply) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(string_drop) char *program = NULL;
        char path[64] = "hvmloader";
        AUTO(fd_drop) int loader = build_hvm_open_loader(x, path, sizeof path);

        if (model_find_program(host, &program, &e) >= 0)
                add_fact(reply, "device-model", "", "%s", program);
        else
                add_fact(reply, "device-model", "sudo apt install qemu-system-xen",
                         "guests of type hvm cannot start: %s", error_text(&e));
        if (loader >= 0)
                add_fact(reply, "hvmloader", "", "%s", path);
        else
                add_fact(reply, "hvmloader", "sudo apt install xen-utils-4.17",
                         "guests of type hvm cannot start: no %s", path);
}

/* Optional: guests that do not ask for one need none. */
static void add_stub_image(const DriverHost *host, WorkerReply *reply) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(fd_drop) int kernel = -1, initrd = -1;

        if (stub_open_image(host, &kernel, &initrd, &e) >= 0)
                add_fact(reply, "stub-domain", "", "its image is there");
        else
                add_fact(reply, "stub-domain", "", "not to be had: %s", error_text(&e));
}

/* A hypercall whose interface is versioned: another release of Xen refuses it. */
static int look(void *host, WorkerReply *reply, Error *e) {
        AUTO(xen_close) Xen xen = { .xc = NULL };
        AUTO(xenstore_drop) XenStore *store = NULL;
        AUTO(string_list_free) char **names = NULL;
        xc_physinfo_t info = { 0 };

        int r = xen_open(&xen, e);
        if (r >= 0 && xc_physinfo(xen.xc, &info) != 0)
                r = xen_fail(&xen, e, "Xen does not answer to this build (is it of another release?)");
        if (r >= 0)
                r = xenstore_open(&store, e);
        if (r >= 0 && (r = xenstore_list(store, "/local", &names)) < 0)
                error_set_errno(e, r, "xenstored does not answer");
        if (r < 0)
                return r;
        add_version(&xen, reply);
        add_capabilities(reply);
        add_memory(&info, reply);
        add_domains(&xen, reply);
        add_daemons(reply);
        add_model(&xen, host, reply);
        add_stub_image(host, reply);
        return 0;
}

/* ---- in the daemon ---- */

static char seen[WORKER_REPLY_MAX];
static size_t n_facts;
static const char *facts[FACTS_MAX * TEXTS_PER_FACT];

static void keep(const WorkerReply *reply) {
        size_t n = 0;

        n_facts = 0;
        if (!reply)
                return;
        memcpy(seen, reply->data, reply->length);
        for (size_t i = 0; i < reply->length && n < ARRAY_LEN(facts); i += strlen(seen + i) + 1)
                facts[n++] = seen + i;
        n_facts = n / TEXTS_PER_FACT;
}

static const ProbeLook probe_look = {
        .what = "looking at Xen",
        .run = look,
        .deadline_usec = DEADLINE_USEC,
        .too_late = "Xen or xenstored does not answer: is xenstored running?",
        .found = keep,
};

int xen_facts_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        AUTO(error_clear) Error verdict = ERROR_INIT;

        if (host->privileged)
                return probe_in_worker(host, &probe_look, answer, userdata, e);
        error_set(&verdict, ERROR_NOT_SUPPORTED, "Xen is for the system scope: only root may make domains");
        return probe_answer_later(host, &verdict, answer, userdata, e);
}

int xen_facts_describe(size_t index, DriverFact *ret) {
        if (index >= n_facts)
                return -ENOENT;
        const char *const *f = facts + index * TEXTS_PER_FACT;
        *ret = (DriverFact){ .name = f[0], .text = f[1], .cure = f[2] };
        return 0;
}
