/* Who the clients on the system bus are.
 *
 * A message there bears the unique name of its sender, which the bus vouches for; the uid behind the name must be asked
 * of the bus, and the loop does not wait for its answer:
 *
 *   call of a stranger --> held --GetConnectionUnixUser--> answer: the calls are read again, now of a known sender
 *                                                     \--> error, none in ANSWER_USEC: each is refused
 *
 * What follows from the same sender is held behind them, so that calls keep their order: when the answer is there, a
 * held call passes only if it is the next, and what is not goes to the end of the queue again.
 *
 * An answer holds for as long as the connection to the bus: the uid of a client's connection does not change, and a bus
 * never gives a unique name away twice. So a name whose client has gone is of no use to anybody, and the names of the
 * clients that were heard of last are remembered. All are forgotten with the connection: the next bus counts anew.
 *
 * Whether a client has gone is of interest while it waits for something. All who wait share one match, since a bus
 * grants a connection a few hundred. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "base/time-util.h"

/* A bus that is busy answers late, and one that has gone ends the question: this is for one that stands still. */
#define ANSWER_USEC (5 * 60 * USEC_PER_SEC)

#define REMEMBERED_MAX 256
#define HELD_MAX       REQUESTS_PER_UID_MAX /* calls of one client, until the bus says who that is */

typedef struct Held {
        sd_bus_message *message;
        STAILQ_ENTRY(Held) entry;
} Held;

struct Sender {
        Face *face;
        char *name;
        sd_bus_slot *question; /* NULL: uid is known */
        uid_t uid;
        STAILQ_HEAD(, Held) held;
        size_t n_held;
        TAILQ_ENTRY(Sender) entry;
};

/* ---- the list, the one heard of last at its end ---- */

static Sender *sender_find(Face *f, const char *name) {
        Sender *s;

        TAILQ_FOREACH_REVERSE(s, &f->senders, SenderList, entry) {
                if (string_equal(s->name, name))
                        return s;
        }
        return NULL;
}

static void held_remove(Sender *s, Held *h) {
        STAILQ_REMOVE(&s->held, h, Held, entry);
        s->n_held--;
        sd_bus_message_unref(h->message);
        free(h);
}

static void sender_free(Sender *s) {
        TAILQ_REMOVE(&s->face->senders, s, entry);
        s->face->n_senders--;
        sd_bus_slot_unref(s->question);
        while (!STAILQ_EMPTY(&s->held))
                held_remove(s, STAILQ_FIRST(&s->held));
        free(s->name);
        free(s);
}

/* How many wait for an answer is the bus's to bound, by the connections that it lets a user have. */
static void forget_oldest(Face *f) {
        Sender *s, *next;

        for (s = TAILQ_FIRST(&f->senders); s && f->n_senders >= REMEMBERED_MAX; s = next) {
                next = TAILQ_NEXT(s, entry);
                if (!s->question && STAILQ_EMPTY(&s->held))
                        sender_free(s);
        }
}

static Sender *sender_new(Face *f, const char *name) {
        Sender *s = calloc(1, sizeof *s);
        if (!s)
                return NULL;

        STAILQ_INIT(&s->held);
        s->face = f;
        s->name = strdup(name);
        TAILQ_INSERT_TAIL(&f->senders, s, entry);
        f->n_senders++;
        if (!s->name) {
                sender_free(s);
                return NULL;
        }
        return s;
}

/* ---- asking ---- */

static int hold(Sender *s, sd_bus_message *m) {
        Held *h = malloc(sizeof *h);
        if (!h)
                return -ENOMEM;

        h->message = sd_bus_message_ref(m);
        STAILQ_INSERT_TAIL(&s->held, h, entry);
        s->n_held++;
        return 0;
}

static void refuse(sd_bus_message *m, ErrorId id, const char *why) {
        AUTO(error_clear) Error e = ERROR_INIT;

        error_set(&e, id, "%s", why);
        reply_error(m, &e);
}

static void refuse_held(Sender *s, ErrorId id, const char *why) {
        while (!STAILQ_EMPTY(&s->held)) {
                refuse(STAILQ_FIRST(&s->held)->message, id, why);
                held_remove(s, STAILQ_FIRST(&s->held));
        }
}

/* No answer is none: nothing is known against who asks. */
static void refuse_unknown(Sender *s, const sd_bus_error *error) {
        if (error && sd_bus_error_has_names(error, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT)) {
                refuse_held(s, ERROR_BUSY, "The bus has not said in time who asks: try again");
                return;
        }
        const char *why = error ? string_or(error->message, error->name) : "its answer makes no sense";
        AUTO(string_drop) char *text = string_printf("The bus does not say who asks (%s)", why);
        refuse_held(s, ERROR_ACCESS_DENIED, string_or(text, "nobody is known"));
}

static int on_answer(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Sender *s = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);
        uint32_t uid = (uint32_t)-1;
        int r = error ? -EIO : sd_bus_message_read(m, "u", &uid);

        s->question = sd_bus_slot_unref(s->question);
        if (r < 0 || uid == (uint32_t)-1) {
                refuse_unknown(s, error);
                sender_free(s);
                return 1;
        }
        s->uid = uid;
        for (Held *h = STAILQ_FIRST(&s->held), *next; h; h = next) {
                next = STAILQ_NEXT(h, entry);
                r = sd_bus_enqueue_for_read(s->face->connection, h->message);
                if (r < 0) {
                        refuse(h->message, ERROR_INTERNAL, strerror(-r));
                        held_remove(s, h);
                }
        }
        return 1;
}

static int ask(Sender *s) {
        sd_bus_message *m = NULL;

        int r = sd_bus_message_new_method_call(s->face->connection, &m, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                               "org.freedesktop.DBus", "GetConnectionUnixUser");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", s->name);
        if (r >= 0)
                r = sd_bus_call_async(s->face->connection, &s->question, m, on_answer, s, ANSWER_USEC);
        sd_bus_message_unref(m);
        return r;
}

static int hold_stranger(Face *f, const char *name, sd_bus_message *m) {
        forget_oldest(f);
        Sender *s = sender_new(f, name);
        if (!s)
                return -ENOMEM;

        int r = hold(s, m);
        if (r >= 0)
                r = ask(s);
        if (r < 0) {
                sender_free(s);
                return r;
        }
        return 1;
}

/* A call of one that is being asked for, or of whom there are held calls that come before. */
static int hold_more(Sender *s, sd_bus_message *m) {
        if (s->n_held >= HELD_MAX) {
                refuse(m, ERROR_QUOTA_EXCEEDED, "Too many calls at once of a client that is not known yet");
                return 1;
        }
        /* In this order: what is held must come again. */
        int r = s->question ? 0 : sd_bus_enqueue_for_read(s->face->connection, m);
        if (r >= 0)
                r = hold(s, m);
        return r < 0 ? r : 1;
}

/* Each message before anybody else gets it. 1: it is held; 0: it may go on. */
static int on_message(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Face *f = userdata;
        const char *name = sd_bus_message_get_sender(m);
        uint8_t type = 0;

        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL || !name || name[0] != ':')
                return 0;
        Sender *s = sender_find(f, name);
        if (!s)
                return hold_stranger(f, name, m);

        TAILQ_REMOVE(&f->senders, s, entry);
        TAILQ_INSERT_TAIL(&f->senders, s, entry);
        if (s->question || (!STAILQ_EMPTY(&s->held) && STAILQ_FIRST(&s->held)->message != m))
                return hold_more(s, m);
        if (!STAILQ_EMPTY(&s->held))
                held_remove(s, STAILQ_FIRST(&s->held));
        return 0;
}

int senders_watch(Face *f) {
        return sd_bus_add_filter(f->connection, NULL, on_message, f);
}

int sender_uid(Face *f, const char *name, uid_t *ret) {
        const Sender *s = name ? sender_find(f, name) : NULL;
        if (!s || s->question)
                return -ENXIO;

        *ret = s->uid;
        return 0;
}

/* ---- who waits ---- */

static void forget_waits(Face *f, const char *name) {
        Request *q, *next;

        for (q = TAILQ_FIRST(&f->bus->requests); q; q = next) {
                next = TAILQ_NEXT(q, entry);
                if (q->face == f && q->is_wait && string_equal(sd_bus_message_get_sender(q->call), name))
                        request_forget(q);
        }
}

static int on_name_gone(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        const char *name, *before, *now;

        if (sd_bus_message_read(m, "sss", &name, &before, &now) >= 0 && !*now)
                forget_waits(userdata, name);
        return 0;
}

static int on_match_answer(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("The system bus does not tell which clients go: %s, ignoring",
                            sd_bus_message_get_error(m)->message);
        return 1; /* without one of these sd-bus would give up the connection */
}

/* It went before the match was there. */
static int on_owner_answer(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Request *q = userdata;
        int has_owner = true;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "b", &has_owner) >= 0 && !has_owner)
                request_forget(q);
        return 1;
}

int sender_watch(Request *q) {
        static const char rule[] = "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                   "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''";
        Face *f = q->face;

        int r = f->n_waits > 0
                        ? 0
                        : sd_bus_add_match_async(f->connection, &f->gone_match, rule, on_name_gone, on_match_answer, f);
        if (r < 0)
                return r;
        f->n_waits++;
        q->is_watched = true;
        return sd_bus_call_method_async(f->connection, &q->owner_question, "org.freedesktop.DBus",
                                        "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner",
                                        on_owner_answer, q, "s", sd_bus_message_get_sender(q->call));
}

void sender_unwatch(Request *q) {
        q->owner_question = sd_bus_slot_unref(q->owner_question);
        if (q->is_watched && q->face && --q->face->n_waits == 0)
                q->face->gone_match = sd_bus_slot_unref(q->face->gone_match);
        q->is_watched = false;
}

void senders_done(Face *f) {
        f->gone_match = sd_bus_slot_unref(f->gone_match);
        while (!TAILQ_EMPTY(&f->senders))
                sender_free(TAILQ_FIRST(&f->senders));
}
