/* com.googlecode.debmarshal.Domain: one domain. Its properties are for everybody, its methods for its owner. */
#include "bus/internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* ---- properties ---------------------------------------------------------------------------------------------------
 */

static int append_name(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "s", d->name);
}

static int append_id(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "t", d->id);
}

static int append_owner(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "u", (uint32_t)d->owner->uid);
}

static int append_state(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "s", domain_state_name(d->state));
}

static int append_hypervisor(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "s", d->spec.hypervisor);
}

static int append_arch(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "s", d->spec.arch);
}

static int append_memory(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "t", d->spec.memory);
}

static int append_vcpus(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "u", (uint32_t)d->spec.vcpus);
}

/* Network, MAC, and the host of the network that the MAC is reserved for. */
static int append_nics(sd_bus_message *reply, Face *f, const Domain *d) {
        char mac[MAC_TEXT_MAX];

        int r = sd_bus_message_open_container(reply, 'a', "(sss)");
        for (size_t i = 0; i < d->spec.n_nics && r >= 0; i++) {
                const NicSpec *nic = &d->spec.nics[i];
                const Network *n = registry_network(&f->bus->engine->registry, nic->network);
                const Host *h = n ? network_host_by_mac(n, &nic->mac) : NULL;
                r = sd_bus_message_append(reply, "(sss)", nic->network, mac_format(&nic->mac, mac), h ? h->name : "");
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_on_poweroff(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "s", end_action_name(d->spec.on_poweroff));
}

static int append_on_reboot(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "s", end_action_name(d->spec.on_reboot));
}

static int append_created(sd_bus_message *reply, UNUSED Face *f, const Domain *d) {
        return sd_bus_message_append(reply, "t", d->created_usec);
}

static const struct {
        const char *name;
        int (*append)(sd_bus_message *reply, Face *f, const Domain *d);
} properties[] = {
        { "Name", append_name },
        { "Id", append_id },
        { "Owner", append_owner },
        { "State", append_state },
        { "Hypervisor", append_hypervisor },
        { "Arch", append_arch },
        { "Memory", append_memory },
        { "Vcpus", append_vcpus },
        { "Nics", append_nics },
        { "OnPoweroff", append_on_poweroff },
        { "OnReboot", append_on_reboot },
        { "CreatedUsec", append_created },
};

static int get_property(sd_bus *c, UNUSED const char *path, UNUSED const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, UNUSED sd_bus_error *e) {
        for (size_t i = 0; i < ARRAY_LEN(properties); i++)
                if (string_equal(properties[i].name, property))
                        return properties[i].append(reply, face_current(c), userdata);
        return -ENOENT;
}

/* ---- methods: userdata is the Domain ------------------------------------------------------------------------------
 */

/* A request about this domain: what every handler begins with. */
static Request *domain_request(sd_bus_message *m, const Domain *d, const char *operation, RequestAppend append,
                               int *ret_result) {
        Request *q = request_new(m, operation, append, ret_result);
        if (q)
                request_set_domain(q, d->name);
        return q;
}

static int on_open_console(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Domain *d = userdata;
        int r;
        Request *q = domain_request(m, d, "Domain.OpenConsole", append_fd, &r);
        if (!q)
                return r;

        EngineAnswer answer = { .fds = { -1, -1 } };
        r = engine_domain_console(q->bus->engine, &q->caller, d->name, &answer.fds[0], &q->error);
        return request_finish(q, r, &answer);
}

static int on_open_log(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Domain *d = userdata;
        int r;
        Request *q = domain_request(m, d, "Domain.OpenLog", append_fd, &r);
        if (!q)
                return r;

        EngineAnswer answer = { .fds = { -1, -1 } };
        r = engine_domain_log(q->bus->engine, &q->caller, d->name, &answer.fds[0], &q->error);
        return request_finish(q, r, &answer);
}

static int act(sd_bus_message *m, Domain *d, const char *operation, DomainAct what, RequestAppend append) {
        int r;
        Request *q = domain_request(m, d, operation, append, &r);
        if (!q)
                return r;

        return request_go(q,
                          engine_domain_act(q->bus->engine, &q->caller, d->name, what, request_answered, q, &q->error));
}

static int on_screenshot(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.Screenshot", ACT_SCREENSHOT, append_fd);
}

static int on_open_vnc(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.OpenVnc", ACT_VNC, append_fd);
}

static int on_open_agent(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.OpenAgent", ACT_AGENT, append_fd);
}

static int on_pause(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.Pause", ACT_PAUSE, NULL);
}

static int on_resume(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.Resume", ACT_RESUME, NULL);
}

static int on_reset(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.Reset", ACT_RESET, NULL);
}

static int on_shutdown(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        return act(m, userdata, "Domain.Shutdown", ACT_SHUTDOWN, NULL);
}

static int append_end(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        AUTO(string_drop) char *copy = NULL;
        return sd_bus_message_append(reply, "ss", end_reason_name(answer->reason), valid_text(answer->text, &copy));
}

static int on_wait(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Domain *d = userdata;
        uint64_t timeout_usec;
        int r;
        Request *q = domain_request(m, d, "Domain.Wait", append_end, &r);
        if (!q)
                return r;

        q->quiet = true;
        r = sd_bus_message_read(m, "t", &timeout_usec);
        /* A peer's connection tells by its end that the client has gone; on the system bus that has to be asked for. */
        if (r >= 0 && q->face->is_system)
                r = sender_watch(q);
        if (r >= 0)
                r = engine_domain_wait(q->bus->engine, &q->caller, d->name, timeout_usec, request_answered, q,
                                       &q->error);
        q->is_wait = r >= 0;
        return request_go(q, r);
}

/* Its JSON, the caller's to free; NULL without memory. */
static char *domain_describe(const Domain *d) {
        AUTO(string_drop) char *spec = NULL;
        char *text = NULL;

        if (domain_spec_to_json(&d->spec, &spec) < 0)
                return NULL;
        json_t *object = json_loads(spec, 0, NULL);
        json_t *rest = json_pack("{s:s, s:I, s:s, s:I, s:I}", "name", d->name, "id", (json_int_t)d->id, "state",
                                 domain_state_name(d->state), "pid", (json_int_t)d->process.pid, "created_usec",
                                 (json_int_t)d->created_usec);
        if (json_is_string(json_object_get(object, "vnc_password"))) /* that there is one, and no more */
                json_object_set_new(object, "vnc_password", json_true());
        if (object && rest && json_object_update(object, rest) == 0)
                text = json_dumps(object, JSON_COMPACT);
        json_decref(object);
        json_decref(rest);
        return text;
}

static int append_text(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        AUTO(string_drop) char *copy = NULL;
        return sd_bus_message_append(reply, "s", valid_text(answer->text, &copy));
}

static int on_describe(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        AUTO(string_drop) char *text = NULL;
        Domain *d = userdata;
        int r;
        Request *q = domain_request(m, d, "Domain.Describe", append_text, &r);
        if (!q)
                return r;

        q->quiet = true;
        r = engine_authorise(&q->caller, d->owner, d->name, &q->error);
        if (r >= 0 && !(text = domain_describe(d)))
                r = error_set_errno(&q->error, ENOMEM, "Failed to describe domain %s", d->name);
        EngineAnswer answer = { .fds = { -1, -1 }, .text = text };
        return request_finish(q, r, &answer);
}

static int on_destroy(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Domain *d = userdata;
        int r;
        Request *q = domain_request(m, d, "Domain.Destroy", NULL, &r);
        if (!q)
                return r;

        return request_go(
                q, engine_destroy_domain(q->bus->engine, &q->caller, d->name, NULL, request_answered, q, &q->error));
}

#define PROPERTY_CONST(name, type)  SD_BUS_PROPERTY(name, type, get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST)
#define PROPERTY_CHANGE(name, type) SD_BUS_PROPERTY(name, type, get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
const sd_bus_vtable domain_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("OpenConsole", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", stream), on_open_console, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenLog", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", log), on_open_log, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Screenshot", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", png), on_screenshot, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenVnc", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", stream), on_open_vnc, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenAgent", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", stream), on_open_agent, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Pause", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_pause, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Resume", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_resume, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Reset", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_reset, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Shutdown", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_shutdown, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Wait", SD_BUS_ARGS("t", timeout_usec), SD_BUS_RESULT("s", reason, "s", message),
                                on_wait, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), on_describe, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Destroy", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_destroy, ANYBODY),
        PROPERTY_CONST("Name", "s"),
        PROPERTY_CONST("Id", "t"),
        PROPERTY_CONST("Owner", "u"),
        PROPERTY_CHANGE("State", "s"),
        PROPERTY_CONST("Hypervisor", "s"),
        PROPERTY_CONST("Arch", "s"),
        PROPERTY_CONST("Memory", "t"),
        PROPERTY_CONST("Vcpus", "u"),
        PROPERTY_CONST("Nics", "a(sss)"),
        PROPERTY_CONST("OnPoweroff", "s"),
        PROPERTY_CONST("OnReboot", "s"),
        PROPERTY_CONST("CreatedUsec", "t"),
        SD_BUS_VTABLE_END,
};
