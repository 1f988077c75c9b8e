#include "driver/abandon.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "core/child.h"

void spawn_abandon(Spawn *s, sd_event *event, Process *p, ProcessEnded ended, void *userdata) {
        int pidfd = s->pidfd >= 0 ? fcntl(s->pidfd, F_DUPFD_CLOEXEC, 3) : -1;

        if (pidfd >= 0)
                (void)process_watch(p, event, &s->id, pidfd, ended, userdata);
        spawn_stop(s);
}

/* Its end, when it is killed, is the last close. */
static _Noreturn void hold(const int taps[], size_t n_taps) {
        (void)child_close_others(&(ChildFds){ taps, n_taps }, 1);
        for (;;)
                pause();
}

void taps_abandon(sd_event *event, int taps[], size_t n_taps) {
        bool any = false;
        for (size_t i = 0; i < n_taps; i++)
                any = any || taps[i] >= 0;
        if (!any)
                return;

        int pidfd = -1;
        pid_t pid = child_fork(0, &pidfd);
        if (pid == 0)
                hold(taps, n_taps);
        for (size_t i = 0; i < n_taps; i++)
                fd_drop(&taps[i]);
        if (pid > 0)
                process_abandon(event, pidfd, NULL);
}
