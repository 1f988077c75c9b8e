/* What an emulator says on its monitor: the parser of one line, and the client that gets all of it after a proper
 * greeting, with commands under way. Each command must be answered exactly once, whatever comes. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "driver/qmp-message.h"
#include "driver/qmp.h"
#include "fuzz.h"

#define HELLO "{\"QMP\": {}}\n{\"return\": {}, \"id\": 4}\n"

typedef struct Client {
        Qmp *qmp;
        unsigned replies, closed;
} Client;

static void on_ready(void *userdata) {
        (void)userdata;
}

static void on_event(void *userdata, const char *name, json_t *data) {
        (void)userdata;
        CHECK(name);
        CHECK(!data || json_is_object(data));
}

static void on_closed(void *userdata, const Error *e) {
        Client *c = userdata;

        CHECK(error_is_set(e));
        CHECK(c->closed++ == 0);
        CHECK(c->replies == 3);
}

static void on_reply(void *userdata, json_t *result, const Error *e) {
        Client *c = userdata;

        CHECK((result == NULL) == error_is_set(e));
        c->replies++;
}

static void check_line(const uint8_t *data, size_t size) {
        QmpMessage m;

        if (qmp_message_parse((const char *)data, size, &m) < 0)
                return;
        CHECK(m.kind < QMP_MESSAGE_KIND_COUNT && m.root);
        CHECK(m.kind != QMP_MESSAGE_EVENT || m.name);
        CHECK(m.kind != QMP_MESSAGE_ERROR || m.text);
        CHECK(m.kind != QMP_MESSAGE_RETURN || m.data);
        qmp_message_done(&m);
}

static void feed(sd_event *event, int peer, const void *data, size_t size) {
        while (size > 0) {
                ssize_t n = send(peer, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && sd_event_run(event, 0) <= 0)
                        return; /* the client has closed it */
                if (n > 0) {
                        data = (const uint8_t *)data + n;
                        size -= (size_t)n;
                }
        }
        while (sd_event_run(event, 0) > 0)
                ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const QmpEvents events = { on_ready, on_event, on_closed };
        Client c = { 0 };
        sd_event *event = NULL;
        int pair[2];

        check_line(data, size);
        CHECK(sd_event_new(&event) >= 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        CHECK(qmp_new(event, pair[0], &events, &c, &c.qmp) == 0);
        for (int i = 0; i < 3; i++)
                CHECK(qmp_send(c.qmp, "query-status", NULL, -1, on_reply, &c, NULL) == 0);
        feed(event, pair[1], HELLO, strlen(HELLO));
        feed(event, pair[1], data, size);
        CHECK(c.replies <= 3);
        close(pair[1]);
        feed(event, -1, NULL, 0);
        qmp_free(c.qmp);
        CHECK(c.replies == 3);
        CHECK(c.closed == 1);
        sd_event_unref(event);
        return 0;
}
