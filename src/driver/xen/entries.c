/* Who may what:
 *
 *   /local/domain/ID   the guest reads; of a few nodes in it, those by which it answers, it is the owner
 *   /vm/UUID           the guest reads
 *   /libxl/ID          dom0's alone: what xl must be told of a domain that it did not make
 *   /local/domain/0/device-model/ID    dom0's alone: what its device model finds and says
 *
 * A node of the guest's holds whatever the guest likes. We read none of them but the states of its devices. */
#include "driver/xen/entries.h"

#include <errno.h>
#include <stdio.h>

#include "base/time-util.h"
#include "driver/xen/model-args.h"

#define DOM0   0
#define MODELS "/local/domain/0/device-model"

uint64_t entries_video_memory(const XenIdentity *who) {
        return who->type == MACHINE_HVM ? MODEL_VIDEO_MEMORY : 0;
}

static const char *vm_path(const char *uuid, char buffer[XEN_PATH_MAX]) {
        snprintf(buffer, XEN_PATH_MAX, "/vm/%s", uuid);
        return buffer;
}

const char *entries_path(uint32_t id, char buffer[XEN_PATH_MAX]) {
        snprintf(buffer, XEN_PATH_MAX, "/local/domain/%u", id);
        return buffer;
}

static void add_vm(XenStoreChange *c, const XenIdentity *who) {
        char path[XEN_PATH_MAX];

        change_node(c, vm_path(who->uuid, path), NULL, DOM0, who->id);
        change_write(c, path, "uuid", "%s", who->uuid);
        change_write(c, path, "name", "%s", who->domain->name);
        change_write(c, path, "start_time", "%llu.00", (unsigned long long)(now_realtime_usec() / USEC_PER_SEC));
        if (who->domain->spec.vnc_password) { /* where Xen's tools look for it; nobody but dom0 may */
                change_node(c, path, "vncpasswd", DOM0, XENSTORE_NOBODY);
                change_write(c, path, "vncpasswd", "%s", who->domain->spec.vnc_password);
        }
}

static void add_for_tools(XenStoreChange *c, const XenIdentity *who) {
        char path[XEN_PATH_MAX];

        snprintf(path, sizeof path, "/libxl/%u", who->id);
        change_node(c, path, NULL, DOM0, XENSTORE_NOBODY);
        change_write(c, path, "dm-version", "qemu_xen");
        change_write(c, path, "type", "%s", machine_type_name(who->type));
}

static void add_guest_owned(XenStoreChange *c, const char *path, uint32_t id) {
        static const char *const keys[] = {
                "control/shutdown",
                "control/feature-poweroff",
                "control/feature-reboot",
                "control/feature-suspend",
                "control/sysrq",
                "device/suspend/event-channel",
                "data",
                "drivers",
                "feature",
                "attr",
                "error",
        };

        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
                change_node(c, path, keys[i], id, XENSTORE_NOBODY);
}

static void add_memory(XenStoreChange *c, const char *path, const XenIdentity *who) {
        unsigned long long all = who->domain->spec.memory >> 10, video = entries_video_memory(who) >> 10;

        change_write(c, path, "memory/static-max", "%llu", all);
        change_write(c, path, "memory/target", "%llu", all - video);
        change_write(c, path, "memory/videoram", "%llu", video);
}

/* What hvmloader looks for. */
static void add_for_loader(XenStoreChange *c, const char *path, uint32_t id) {
        change_node(c, path, "hvmloader", DOM0, id);
        change_write(c, path, "hvmloader/bios", "seabios");
        change_write(c, path, "hvmloader/allow-memory-relocate", "0");
        change_node(c, path, "platform", DOM0, id);
        change_write(c, path, "platform/acpi", "1");
        change_write(c, path, "platform/acpi_s3", "0");
        change_write(c, path, "platform/acpi_s4", "0");
        change_write(c, path, "platform/device-model", "qemu_xen");
}

/* Where a device model looks, and tells how it is. */
static void add_for_model(XenStoreChange *c, const XenIdentity *who) {
        char path[XEN_PATH_MAX];

        snprintf(path, sizeof path, MODELS "/%u", who->id);
        change_node(c, path, NULL, DOM0, XENSTORE_NOBODY);
        change_write(c, path, XEN_OWNER_KEY, "%s", who->uuid);
}

static void fill_domain(XenStoreChange *c, const void *userdata) {
        static const char *const directories[] = { "cpu", "memory", "device", "control", "console" };
        const XenIdentity *who = userdata;
        char path[XEN_PATH_MAX], vm[XEN_PATH_MAX];

        add_vm(c, who);
        add_for_tools(c, who);
        change_remove(c, entries_path(who->id, path));
        change_node(c, path, NULL, DOM0, who->id);
        change_write(c, path, "vm", "%s", vm_path(who->uuid, vm));
        change_write(c, path, "name", "%s", who->domain->name);
        change_write(c, path, "domid", "%u", who->id);
        for (size_t i = 0; i < ARRAY_LEN(directories); i++)
                change_node(c, path, directories[i], DOM0, who->id);
        add_guest_owned(c, path, who->id);
        add_memory(c, path, who);
        if (who->type == MACHINE_HVM)
                add_for_loader(c, path, who->id);
        if (model_wanted(who->type, &who->domain->spec))
                add_for_model(c, who);
        for (unsigned i = 0; i < who->domain->spec.vcpus; i++) {
                char key[32];
                snprintf(key, sizeof key, "cpu/%u/availability", i);
                change_write(c, path, key, "online");
        }
        change_write(c, path, "control/platform-feature-multiprocessor-suspend", "1");
        change_write(c, path, "control/platform-feature-xs_reset_watches", "1");
}

int entries_add(XenStore *s, const XenIdentity *who, Error *e) {
        return xenstore_change(s, fill_domain, who, e);
}

typedef struct RingEntries {
        const XenIdentity *who;
        const XenRings *rings;
} RingEntries;

/* The limit is that of what xenconsoled keeps while nobody reads the terminal. */
static void fill_rings(XenStoreChange *c, const void *userdata) {
        const RingEntries *r = userdata;
        char path[XEN_PATH_MAX];

        entries_path(r->who->id, path);
        change_write(c, path, "store/port", "%u", r->rings->store_port);
        change_write(c, path, "store/ring-ref", "%lu", r->rings->store_frame);
        change_write(c, path, "console/port", "%u", r->rings->console_port);
        change_write(c, path, "console/ring-ref", "%lu", r->rings->console_frame);
        change_write(c, path, "console/type", "xenconsoled");
        change_write(c, path, "console/output", "pty");
        change_write(c, path, "console/limit", "1048576");
        change_write(c, path, "console/tty", "%s", "");
}

int entries_add_rings(XenStore *s, const XenIdentity *who, const XenRings *rings, Error *e) {
        return xenstore_change(s, fill_rings, &(const RingEntries){ who, rings }, e);
}

typedef struct Removal {
        uint32_t id;
        const char *uuid;
        XenRemains remains;
        bool model; /* what its device model left is its own, not that of another one of its number */
} Removal;

static void remove_numbered(XenStoreChange *c, const char *directory, uint32_t id) {
        char path[XEN_PATH_MAX];

        snprintf(path, sizeof path, "%s/%u", directory, id);
        change_remove(c, path);
}

/* Where the kernel's drivers tell their troubles. */
static void remove_troubles(XenStoreChange *c, uint32_t id) {
        remove_numbered(c, "/local/domain/0/error/backend/vbd", id);
        remove_numbered(c, "/local/domain/0/error/backend/vif", id);
}

static void fill_removal(XenStoreChange *c, const void *userdata) {
        static const char *const of_domain[] = { MODELS, "/libxl", "/local/domain" };
        static const char *const of_devices[] = {
                "/local/domain/0/backend/vbd",   "/local/domain/0/backend/vif", "/local/domain/0/backend/console",
                "/local/domain/0/backend/qdisk", "/local/domain/0/backend/vfb", "/local/domain/0/backend/vkbd",
        };
        const Removal *r = userdata;
        char path[XEN_PATH_MAX];

        for (size_t i = 0; i < ARRAY_LEN(of_devices); i++)
                remove_numbered(c, of_devices[i], r->id);
        remove_troubles(c, r->id);
        for (size_t i = 0; i < ARRAY_LEN(of_domain) && r->remains == XEN_REMAINS_DOMAIN; i++)
                remove_numbered(c, of_domain[i], r->id);
        if (r->model)
                remove_numbered(c, MODELS, r->id);
        change_remove(c, vm_path(r->uuid, path));
}

static bool says(XenStore *s, const char *path, const char *wanted) {
        AUTO(string_drop) char *value = NULL;

        return xenstore_read(s, path, &value) >= 0 && string_equal(value, wanted);
}

int entries_remove(XenStore *s, uint32_t id, const char *uuid, XenRemains remains, Error *e) {
        char path[XEN_PATH_MAX];

        snprintf(path, sizeof path, MODELS "/%u/" XEN_OWNER_KEY, id);
        return xenstore_change(s, fill_removal, &(const Removal){ id, uuid, remains, says(s, path, uuid) }, e);
}

static void fill_last_removal(XenStoreChange *c, const void *userdata) {
        const Removal *r = userdata;
        char path[XEN_PATH_MAX];

        change_remove(c, vm_path(r->uuid, path));
        if (r->id != 0)
                remove_troubles(c, r->id);
}

int entries_remove_last(XenStore *s, uint32_t id, const char *uuid, Error *e) {
        return xenstore_change(s, fill_last_removal, &(const Removal){ .id = id, .uuid = uuid }, e);
}

/* ---- finding ---- */

static bool domain_is_ours(XenStore *s, const char *id, const char *uuid) {
        char path[XEN_PATH_MAX], vm[XEN_PATH_MAX];

        snprintf(path, sizeof path, "/local/domain/%s/vm", id);
        return says(s, path, vm_path(uuid, vm));
}

static bool device_is_ours(XenStore *s, const char *directory, const char *id, const char *uuid) {
        AUTO(string_list_free) char **devices = NULL;
        char path[XEN_PATH_MAX];
        bool ours = false;

        snprintf(path, sizeof path, "%s/%s/" XEN_OWNER_KEY, directory, id); /* of a device model */
        if (says(s, path, uuid))
                return true;
        snprintf(path, sizeof path, "%s/%s", directory, id);
        if (xenstore_list(s, path, &devices) < 0)
                return false;
        for (size_t i = 0; devices && devices[i] && !ours; i++) {
                snprintf(path, sizeof path, "%s/%s/%s/" XEN_OWNER_KEY, directory, id, devices[i]);
                ours = says(s, path, uuid);
        }
        return ours;
}

/* The first number below directory of which something is ours. */
static int find_number(XenStore *s, const char *directory, const char *uuid, XenRemains remains, uint32_t *ret_id) {
        AUTO(string_list_free) char **ids = NULL;
        uint64_t id;
        int r = xenstore_list(s, directory, &ids);

        for (size_t i = 0; r >= 0 && ids && ids[i]; i++) {
                if (parse_u64(ids[i], UINT16_MAX, &id) < 0 || id == DOM0)
                        continue;
                if (!(remains == XEN_REMAINS_DOMAIN ? domain_is_ours(s, ids[i], uuid)
                                                    : device_is_ours(s, directory, ids[i], uuid)))
                        continue;
                *ret_id = (uint32_t)id;
                return 0;
        }
        return r < 0 ? r : -ENOENT;
}

int entries_find(XenStore *s, const char *uuid, uint32_t *ret_id, XenRemains *ret_remains) {
        static const struct {
                const char *directory;
                XenRemains remains;
        } places[] = {
                { "/local/domain", XEN_REMAINS_DOMAIN },
                { "/local/domain/0/backend/vbd", XEN_REMAINS_DEVICES },
                { "/local/domain/0/backend/vif", XEN_REMAINS_DEVICES },
                { "/local/domain/0/backend/qdisk", XEN_REMAINS_DEVICES },
                { MODELS, XEN_REMAINS_DEVICES },
        };
        int r = -ENOENT;

        for (size_t i = 0; i < ARRAY_LEN(places) && r == -ENOENT; i++) {
                r = find_number(s, places[i].directory, uuid, places[i].remains, ret_id);
                if (r >= 0)
                        *ret_remains = places[i].remains;
        }
        return r;
}
