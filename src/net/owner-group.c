#include "net/owner-group.h"

#include <string.h>

#include "base/log.h"
#include "base/time-util.h"
#include "core/user.h"

#define DEADLINE_USEC (5 * USEC_PER_SEC)
#define KNOWN_USEC    (60 * USEC_PER_SEC)

bool owner_group_is_known(const Owner *owner) {
        return owner->group_usec != 0 && now_monotonic_usec() - owner->group_usec < KNOWN_USEC;
}

void owner_group_init(OwnerGroup *g) {
        *g = (OwnerGroup){ .deadline_usec = DEADLINE_USEC };
        worker_init(&g->worker);
}

void owner_group_stop(OwnerGroup *g) {
        worker_stop(&g->worker);
}

/* In the worker: no answer, or the group. */
static int run(void *input, WorkerReply *reply, Error *e) {
        const OwnerGroup *g = input;
        AUTO(user_clear) User user = { 0 };

        int r = user_find(g->owner->uid, &user);
        if (r < 0)
                return error_set_errno(e, r, "Failed to ask the user database");
        if (r > 0) {
                memcpy(reply->data, &user.gid, sizeof user.gid);
                reply->length = sizeof user.gid;
        }
        return 0;
}

static void on_done(Worker *w, WorkerReply *reply, const Error *failure) {
        OwnerGroup *g = w->userdata;
        static LogLimit limit;

        if (failure)
                log_limited(&limit, LOG_WARNING, LOG_FIELDS(.uid = &g->owner->uid),
                            "The group of uid %u is not to be learned: %s, going on without", (unsigned)g->owner->uid,
                            error_text(failure));
        g->owner->group = (gid_t)-1;
        if (!failure && reply->length == sizeof g->owner->group)
                memcpy(&g->owner->group, reply->data, sizeof g->owner->group);
        g->owner->group_usec = now_monotonic_usec();
        g->done(g);
}

int owner_group_ask(OwnerGroup *g, sd_event *event, Error *e) {
        g->worker.what = "asking for the owner's group";
        g->worker.run = run;
        g->worker.input = g;
        g->worker.deadline_usec = g->deadline_usec;
        g->worker.done = on_done;
        g->worker.userdata = g;
        return worker_start(&g->worker, event, e);
}
