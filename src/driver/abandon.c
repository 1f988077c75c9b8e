#include "driver/abandon.h"

#include <fcntl.h>

void spawn_abandon(Spawn *s, sd_event *event, Process *p, ProcessEnded ended, void *userdata) {
        int pidfd = s->pidfd >= 0 ? fcntl(s->pidfd, F_DUPFD_CLOEXEC, 3) : -1;

        if (pidfd >= 0)
                (void)process_watch(p, event, &s->id, pidfd, ended, userdata);
        spawn_stop(s);
}
