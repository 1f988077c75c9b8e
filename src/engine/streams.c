/* What a caller gets as a descriptor: sockets made inside a network, its namespaces, a capture, a domain's console and
 * log, and the requests to a live guest. Whatever the daemon goes on holding for a caller (an attached console, a log
 * or picture that is read, a running capture, a connection being made) is a Stream, charged to who asked. */
#include "engine/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

#define CONNECT_USEC (10 * USEC_PER_SEC)

typedef struct Stream {
        Engine *engine;
        Owner *owner;           /* charged with one stream */
        const Network *network; /* what it is in; NULL for a console */
        EngineDone done;
        void *userdata;
        InsideJob inside;
        Capture capture;
        FileCopy *copy;
        bool answered;
        struct Stream *next;
} Stream;

static const Charge one_stream = { .streams = 1 };

static int stream_new(Engine *e, const Caller *who, const Network *n, EngineDone done, void *userdata, Stream **ret,
                      Error *error) {
        Owner *owner;

        int r = owners_get(&e->registry.owners, who->uid, &owner);
        if (r < 0)
                return error_set_errno(error, r, "Failed to look up what uid %u holds", (unsigned)who->uid);
        Stream *s = calloc(1, sizeof *s);
        if (!s)
                return error_set_errno(error, ENOMEM, "Failed to make a stream");
        r = owner_charge(owner, &one_stream, limits_for(&e->limits, who->uid), error);
        if (r < 0) {
                free(s);
                return r;
        }
        *s = (Stream){
                .engine = e, .owner = owner, .network = n, .done = done, .userdata = userdata, .next = e->streams
        };
        inside_init(&s->inside);
        capture_init(&s->capture);
        e->streams = s;
        *ret = s;
        return 0;
}

static void stream_free(Stream *s) {
        for (Stream **at = &s->engine->streams; *at; at = &(*at)->next) {
                if (*at == s) {
                        *at = s->next;
                        break;
                }
        }
        inside_stop(&s->inside);
        capture_stop(&s->capture);
        file_copy_free(s->copy);
        owner_release(s->owner, &one_stream);
        free(s);
}

static void stream_answer(Stream *s, int fd, const Error *error) {
        EngineAnswer answer = { .fds = { fd, -1 } };

        if (s->answered) {
                fd_drop(&fd);
                return;
        }
        s->answered = true;
        s->done(s->userdata, &answer, error);
}

void streams_stop_network(Engine *e, const Network *n) {
        for (Stream *s = e->streams, *next; s; s = next) {
                AUTO(error_clear) Error error = ERROR_INIT;

                next = s->next;
                if (s->network != n)
                        continue;
                error_set(&error, ERROR_NETWORK_NOT_FOUND, "Network %s is going", n->name);
                stream_answer(s, -1, &error);
                stream_free(s);
        }
}

void streams_done(Engine *e) {
        while (e->streams)
                stream_free(e->streams);
}

/* ---- inside a network ---- */

static int find_network_up(Engine *e, const Caller *who, const char *name, Network **ret, Error *error) {
        int r = engine_find_network(e, who, name, ret, error);
        if (r < 0)
                return r;
        if ((*ret)->state == NETWORK_UP)
                return 0;
        return error_set(error, ERROR_INVALID_STATE, "Network %s is %s%s%s", (*ret)->name,
                         network_state_name((*ret)->state), (*ret)->reason ? ": " : "", string_or((*ret)->reason, ""));
}

static void inside_done(InsideJob *j, FdSet *fds, const Error *error) {
        Stream *s = j->userdata;

        stream_answer(s, !error && fds->count > 0 ? fd_take(&fds->fds[0]) : -1, error);
        stream_free(s);
}

static int start_inside(Engine *e, const Caller *who, Network *n, InsideAct act, const struct sockaddr_storage *to,
                        socklen_t length, EngineDone done, void *userdata, Error *error) {
        Stream *s;
        int r = stream_new(e, who, n, done, userdata, &s, error);
        if (r < 0)
                return r;

        s->inside.host = &e->net_host;
        s->inside.act = act;
        s->inside.to = *to;
        s->inside.to_length = length;
        s->inside.deadline_usec = CONNECT_USEC;
        s->inside.done = inside_done;
        s->inside.userdata = s;
        r = inside_start(&s->inside, n, error);
        if (r < 0)
                stream_free(s);
        return r;
}

static socklen_t address4(struct sockaddr_storage *to, uint32_t address, uint16_t port) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;

        *to = (struct sockaddr_storage){ 0 };
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        in->sin_addr.s_addr = htonl(address);
        return sizeof *in;
}

/* A host's name, short or full, or an address: inside the namespace any is harmless, the rig has no way out. */
static int resolve(const Network *n, const char *host, uint16_t port, struct sockaddr_storage *to, socklen_t *length,
                   Error *error) {
        char domain[NETWORK_DNS_DOMAIN_MAX];
        AUTO(string_drop) char *label = strdup(host);
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
        struct in_addr a4;
        struct in6_addr a6;

        if (!label)
                return error_set_errno(error, ENOMEM, "Failed to look up a host");
        char *dot = strchr(label, '.');
        if (dot && strcasecmp(dot + 1, network_dns_domain(n, domain)) == 0)
                *dot = '\0';

        const Host *h = network_host_by_name(n, label);
        if (h) {
                *length = address4(to, h->address, port);
                return 0;
        }
        if (inet_pton(AF_INET, host, &a4) == 1) {
                *length = address4(to, ntohl(a4.s_addr), port);
                return 0;
        }
        if (inet_pton(AF_INET6, host, &a6) == 1) {
                *to = (struct sockaddr_storage){ 0 };
                *in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = a6 };
                *length = sizeof *in6;
                return 0;
        }
        AUTO(string_drop) char *shown = string_escape(host, 64);
        return error_set(error, ERROR_INVALID_INPUT, "Network %s has no host \"%s\"", n->name, string_or(shown, ""));
}

int engine_network_connect(Engine *e, const Caller *who, const char *network, const char *host, uint16_t port,
                           EngineDone done, void *userdata, Error *error) {
        struct sockaddr_storage to;
        socklen_t length = 0;
        Network *n;

        int r = find_network_up(e, who, network, &n, error);
        if (r < 0)
                return r;
        if (port == 0)
                return error_set(error, ERROR_INVALID_INPUT, "Port 0 cannot be connected to");
        r = resolve(n, host, port, &to, &length, error);
        if (r < 0)
                return r;
        return start_inside(e, who, n, INSIDE_CONNECT, &to, length, done, userdata, error);
}

int engine_network_listen(Engine *e, const Caller *who, const char *network, uint16_t port, EngineDone done,
                          void *userdata, Error *error) {
        struct sockaddr_storage to;
        Network *n;

        int r = find_network_up(e, who, network, &n, error);
        if (r < 0)
                return r;
        socklen_t length = address4(&to, subnet_gateway(&n->subnet), port);
        return start_inside(e, who, n, INSIDE_LISTEN, &to, length, done, userdata, error);
}

int engine_network_namespaces(Engine *e, const Caller *who, const char *network, int *ret_user_fd, int *ret_net_fd,
                              Error *error) {
        Network *n;
        int r = find_network_up(e, who, network, &n, error);

        return r < 0 ? r : network_open_namespaces(n, ret_user_fd, ret_net_fd, error);
}

static void capture_started(Capture *c, int read_fd, const Error *error) {
        Stream *s = c->userdata;

        stream_answer(s, read_fd, error);
        if (error)
                stream_free(s);
}

static void capture_ended(Capture *c) {
        stream_free(c->userdata);
}

int engine_network_capture(Engine *e, const Caller *who, const char *network, const char *device, EngineDone done,
                           void *userdata, Error *error) {
        Network *n;
        Stream *s;

        int r = find_network_up(e, who, network, &n, error);
        if (r >= 0)
                r = stream_new(e, who, n, done, userdata, &s, error);
        if (r < 0)
                return r;

        s->capture.host = &e->net_host;
        s->capture.device = device && *device ? device : NULL;
        s->capture.started = capture_started;
        s->capture.ended = capture_ended;
        s->capture.lingering = (Lingering){ s->owner, &one_stream };
        s->capture.userdata = s;
        r = capture_start(&s->capture, n, error);
        if (r < 0)
                stream_free(s);
        return r;
}

/* ---- a domain's console, and its log ---- */

static int find_domain_held(Engine *e, const Caller *who, const char *name, Domain **ret, Error *error) {
        int r = engine_find_domain(e, who, name, ret, error);

        return r < 0 ? r : domain_check_taken_over(e, *ret, error);
}

static void stream_ended(void *userdata) {
        stream_free(userdata);
}

int engine_domain_console(Engine *e, const Caller *who, const char *domain, int *ret_fd, Error *error) {
        Domain *d;
        Stream *s;

        int r = find_domain_held(e, who, domain, &d, error);
        if (r < 0)
                return r;
        if (!d->guest)
                return error_set(error, ERROR_INVALID_STATE, "Domain %s is going", d->name);
        r = stream_new(e, who, NULL, NULL, NULL, &s, error);
        if (r < 0)
                return r;
        r = console_attach(d->guest->console, stream_ended, s, ret_fd, error);
        if (r < 0)
                stream_free(s);
        return r;
}

static int stream_give_file(Stream *s, SharedFile *file, int *ret_fd, Error *error) {
        int r = file_copy_new(s->engine->event, file, &s->copy, ret_fd, error);

        if (r >= 0)
                file_copy_on_end(s->copy, stream_ended, s);
        return r;
}

static int give_log(Engine *e, const Caller *who, SharedFile *file, int *ret_fd, Error *error) {
        Stream *s;

        int r = stream_new(e, who, NULL, NULL, NULL, &s, error);
        if (r < 0)
                return r;
        r = stream_give_file(s, file, ret_fd, error);
        if (r < 0)
                stream_free(s);
        return r;
}

int engine_domain_log(Engine *e, const Caller *who, const char *domain, int *ret_fd, Error *error) {
        Domain *d;

        int r = find_domain_held(e, who, domain, &d, error);
        if (r < 0)
                return r;
        if (!d->guest)
                return error_set(error, ERROR_INVALID_STATE, "Domain %s is going", d->name);
        return give_log(e, who, console_log_file(d->guest->console), ret_fd, error);
}

int stream_old_log(Engine *e, const Caller *who, const char *name, int *ret_fd, Error *error) {
        SharedFile *file = NULL;

        int fd = openat(e->ended_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        int r = fd < 0 ? -errno : shared_file_new(fd, &file);
        if (r < 0)
                return error_set_errno(error, r, "Failed to open the console log");
        r = give_log(e, who, file, ret_fd, error);
        shared_file_unref(file); /* the copy has its own */
        return r;
}

/* ---- requests to a live guest ---- */

typedef struct Act {
        Engine *engine;
        EngineDone done;
        void *userdata;
        Stream *stream; /* to give a file through; NULL: the answer is a stream itself, or nothing */
} Act;

static int give_answer(Stream *s, int fd, int *ret_fd, Error *error) {
        SharedFile *file = NULL;

        int r = shared_file_new(fd, &file);
        if (r < 0)
                return error_set_errno(error, r, "Failed to give out a file");
        r = stream_give_file(s, file, ret_fd, error);
        shared_file_unref(file); /* the copy has its own */
        return r;
}

static void act_answered(void *userdata, int fd, const Error *error) {
        AUTO(error_clear) Error late = ERROR_INIT;
        Act *act = userdata;
        EngineAnswer answer = { .fds = { -1, -1 } };

        if (!act->stream)
                answer.fds[0] = fd;
        else if (!error && give_answer(act->stream, fd, &answer.fds[0], &late) < 0)
                error = &late;
        if (act->stream && error)
                stream_free(act->stream);
        if (act->engine->stopping)
                fd_drop(&answer.fds[0]);
        else
                act->done(act->userdata, &answer, error);
        free(act);
}

/* What there must be before the driver is asked: so much a caller is charged for. */
static int act_new(Engine *e, const Caller *who, DomainAct kind, EngineDone done, void *userdata, Act **ret,
                   Error *error) {
        Act *act = calloc(1, sizeof *act);
        if (!act)
                return error_set_errno(error, ENOMEM, "Failed to ask a domain");

        *act = (Act){ .engine = e, .done = done, .userdata = userdata };
        int r = kind == ACT_SCREENSHOT ? stream_new(e, who, NULL, NULL, NULL, &act->stream, error) : 0;
        if (r < 0)
                free(act);
        else
                *ret = act;
        return r;
}

typedef int (*GuestRequest)(Guest *g, GuestAnswer answer, void *userdata, Error *e);

static GuestRequest act_slot(const Driver *driver, DomainAct act) {
        switch (act) {
        case ACT_PAUSE:
                return driver->pause;
        case ACT_RESUME:
                return driver->resume;
        case ACT_RESET:
                return driver->reset;
        case ACT_SHUTDOWN:
                return driver->shutdown;
        case ACT_SCREENSHOT:
                return driver->screenshot;
        case ACT_VNC:
                return driver->open_vnc;
        case ACT_AGENT:
                return driver->open_agent;
        }
        return NULL;
}

static const char *const act_names[] = {
        [ACT_PAUSE] = "pause a domain",
        [ACT_RESUME] = "resume a domain",
        [ACT_RESET] = "reset a domain",
        [ACT_SHUTDOWN] = "ask a domain to shut down",
        [ACT_SCREENSHOT] = "show a domain's screen",
        [ACT_VNC] = "give a domain's screen over VNC",
        [ACT_AGENT] = "connect to a guest agent",
};

int engine_domain_act(Engine *e, const Caller *who, const char *domain, DomainAct act, EngineDone done, void *userdata,
                      Error *error) {
        Domain *d;
        Act *a = NULL;

        int r = find_domain_held(e, who, domain, &d, error);
        if (r < 0)
                return r;
        if (!d->guest || (d->state != DOMAIN_RUNNING && d->state != DOMAIN_PAUSED))
                return error_set(error, ERROR_INVALID_STATE, "Domain %s is %s", d->name, domain_state_name(d->state));

        GuestRequest request = act_slot(d->guest->driver, act);
        if (!request)
                return error_set(error, ERROR_NOT_SUPPORTED, "Hypervisor %s cannot %s", d->guest->driver->name,
                                 act_names[act]);
        r = act_new(e, who, act, done, userdata, &a, error);
        if (r < 0)
                return r;
        r = request(d->guest, act_answered, a, error);
        if (r < 0) {
                if (a->stream)
                        stream_free(a->stream);
                free(a);
        }
        return r;
}
