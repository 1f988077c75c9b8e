/* A method call from its handler to its reply.
 *
 *   handler: request_new() --> parse --> engine call --+-- refused: request_go() answers at once
 *                                                      +-- begun: the engine calls request_answered() later, once
 *
 * What is parsed out of the message holds only until the handler returns: the engine takes copies of what it needs for
 * longer. Of the message itself a request holds no more than an answer needs, since its client chose how large it is.
 *
 * The client may vanish before the answer: the engine goes on, what was asked for is made or destroyed as asked, and
 * the answer's descriptors are closed. Only a wait is pointless then: it is forgotten as soon as the client has gone,
 * which a peer's connection tells by closing and the system bus when asked to (senders.c). */
#include "bus/internal.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"

static bool has_too_many(const Bus *b, const Caller *who) {
        size_t count = 0;
        const Request *q;
        TAILQ_FOREACH (q, &b->requests, entry) {
                if (q->caller.uid == who->uid)
                        count++;
        }
        return who->uid != 0 && count >= REQUESTS_PER_UID_MAX;
}

static int request_admit(Bus *b, Face *f, sd_bus_message *m, Caller *ret, Error *e) {
        int r = caller_of(f, m, ret, e);
        if (r < 0)
                return r;
        if (has_too_many(b, ret))
                return error_set(e, ERROR_QUOTA_EXCEEDED, "Uid %u already has %u requests under way",
                                 (unsigned)ret->uid, REQUESTS_PER_UID_MAX);
        return 0;
}

/* A call that has only what sd-bus looks at when it is answered: its sender, its number, and whether an answer is
 * wanted. Where it went to and what is in it is not among that, and may be megabytes that nobody asked for. */
static int shadow_of(sd_bus_message *m, sd_bus_message **ret) {
        const char *sender = sd_bus_message_get_sender(m);
        sd_bus_message *shadow = NULL;
        uint64_t number;

        int r = sd_bus_message_get_cookie(m, &number);
        if (r >= 0)
                r = sd_bus_message_new_method_call(sd_bus_message_get_bus(m), &shadow, NULL, ROOT_PATH, NULL, "Shadow");
        if (r >= 0 && sender)
                r = sd_bus_message_set_sender(shadow, sender);
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(shadow, sd_bus_message_get_expect_reply(m));
        if (r >= 0)
                r = sd_bus_message_seal(shadow, number, 0);
        if (r < 0) {
                sd_bus_message_unref(shadow);
                return r;
        }
        *ret = shadow;
        return 0;
}

Request *request_new(sd_bus_message *m, const char *operation, RequestAppend append, int *ret_result) {
        AUTO(error_clear) Error error = ERROR_INIT;
        Face *f = face_current(sd_bus_message_get_bus(m));
        Caller who;

        if (request_admit(f->bus, f, m, &who, &error) < 0) {
                *ret_result = reply_error(m, &error);
                face_check_queue(f);
                return NULL;
        }
        Request *q = calloc(1, sizeof *q);
        int r = q ? shadow_of(m, &q->call) : -ENOMEM;
        if (r < 0) {
                free(q);
                *ret_result = r;
                return NULL;
        }
        q->bus = f->bus;
        q->face = f;
        q->caller = who;
        q->operation = operation;
        q->append = append;
        q->started_usec = now_monotonic_usec();
        TAILQ_INSERT_TAIL(&q->bus->requests, q, entry);
        return q;
}

void request_free(Request *q) {
        TAILQ_REMOVE(&q->bus->requests, q, entry);
        sender_unwatch(q);
        sd_bus_message_unref(q->call);
        error_clear(&q->error);
        free(q->network);
        free(q->domain);
        if (q->is_large)
                malloc_trim(0);
        free(q);
}

void request_forget(Request *q) {
        engine_forget_wait(q->bus->engine, q);
        request_free(q);
}

/* Without memory the audit entry lacks the name, and that is all. */
void request_set_network(Request *q, const char *name) {
        free(q->network);
        q->network = string_escape(name, 64);
}

void request_set_domain(Request *q, const char *name) {
        free(q->domain);
        q->domain = string_escape(name, 64);
}

static void request_audit(Request *q, const Error *error) {
        if (q->quiet)
                return;
        log_audit(LOG_FIELDS(.network = q->network, .domain = q->domain, .operation = q->operation,
                             .result = error ? error_id_name(error->id) : "done", .uid = &q->caller.uid,
                             .usec = now_monotonic_usec() - q->started_usec));
}

static int request_reply(Request *q, const EngineAnswer *answer) {
        sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(q->call, &reply);
        if (r >= 0 && q->append)
                r = q->append(q, reply, answer);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        sd_bus_message_unref(reply);
        return r;
}

/* The answer is given: to the client, if it is still there, and to the audit. */
static void request_end(Request *q, EngineAnswer *answer, const Error *error) {
        AUTO(error_clear) Error late = ERROR_INIT;

        if (q->face && error)
                reply_error(q->call, error);
        else if (q->face) {
                int r = request_reply(q, answer);
                if (r < 0) {
                        error_set_errno(&late, r, "It was done, but the answer cannot be sent");
                        reply_error(q->call, &late);
                }
        }
        if (q->face)
                face_check_queue(q->face);
        for (size_t i = 0; answer && i < ARRAY_LEN(answer->fds); i++)
                fd_drop(&answer->fds[i]);

        request_audit(q, error);
        request_free(q);
}

void request_answered(void *userdata, EngineAnswer *answer, const Error *error) {
        Request *q = userdata;

        if (!error && answer->network)
                request_set_network(q, answer->network->name);
        if (!error && answer->domain)
                request_set_domain(q, answer->domain->name);
        request_end(q, answer, error);
}

int request_finish(Request *q, int r, EngineAnswer *answer) {
        if (r >= 0) {
                request_end(q, answer, NULL);
                return 1;
        }
        if (!error_is_set(&q->error))
                error_set_message(&q->error, r, "The arguments"); /* the engine gives its own reasons */
        AUTO(error_clear) Error error = ERROR_INIT;
        error_move(&error, &q->error);
        request_end(q, answer, &error);
        return 1;
}

int request_go(Request *q, int r) {
        return r < 0 ? request_finish(q, r, NULL) : 1;
}

int append_fd(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        return sd_bus_message_append(reply, "h", answer->fds[0]);
}

int append_two_fds(UNUSED Request *q, sd_bus_message *reply, const EngineAnswer *answer) {
        return sd_bus_message_append(reply, "hh", answer->fds[0], answer->fds[1]);
}
