/* Not a test: how long it takes from spawn_start() to exec, bare and in a jail. Usage: bench-jail [ROUNDS]. */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/time-util.h"
#include "core/spawn.h"
#include "guest/jail.h"

static bool done;

static void on_prepared(Spawn *s) {
        spawn_release(s);
}

static void on_done(Spawn *s, const Error *e) {
        if (e) {
                fprintf(stderr, "%s\n", error_text(e));
                exit(EXIT_FAILURE);
        }
        spawn_stop(s);
        done = true;
}

static int compare(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;
        return *x < *y ? -1 : *x > *y;
}

static uint64_t once(sd_event *event, Jail *j, uint64_t flags) {
        char *argv[] = { (char[]){ "/bin/true" }, NULL };
        Spawn s;
        spawn_init(&s);
        s.what = "true";
        s.path = argv[0];
        s.argv = argv;
        s.deadline_usec = 5 * USEC_PER_SEC;
        s.prepared = on_prepared;
        s.done = on_done;
        s.clone_flags = flags;
        if (j)
                jail_enclose(j, &s);

        done = false;
        AUTO(error_clear) Error e = ERROR_INIT;
        uint64_t start = now_monotonic_usec();
        if (spawn_start(&s, event, &e) < 0) {
                fprintf(stderr, "%s\n", error_text(&e));
                exit(EXIT_FAILURE);
        }
        while (!done)
                sd_event_run(event, UINT64_MAX);
        return now_monotonic_usec() - start;
}

static void measure(const char *what, sd_event *event, Jail *j, uint64_t flags, size_t rounds) {
        uint64_t *usec = calloc(rounds, sizeof *usec);
        if (!usec)
                exit(EXIT_FAILURE);
        for (size_t i = 0; i < rounds; i++) {
                usec[i] = once(event, j, flags);
                for (int k = 0; k < 4; k++) /* let the dead be reaped outside of what is measured */
                        sd_event_run(event, USEC_PER_MSEC);
        }
        qsort(usec, rounds, sizeof *usec, compare);
        printf("%-40s median %5llu us, 90%% %5llu us\n", what, (unsigned long long)usec[rounds / 2],
               (unsigned long long)usec[rounds * 9 / 10]);
        free(usec);
}

int main(int argc, char **argv) {
        size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 300;
        sd_event *event = NULL;
        if (rounds == 0 || sd_event_new(&event) < 0)
                return EXIT_FAILURE;

        Jail j = { .privileged = geteuid() == 0, .uid = 54321, .gid = 54321 };
        jail_add_system(&j, "/bin/true");
        const uint64_t flags = jail_clone_flags(&j);
        measure("bare", event, NULL, 0, rounds);
        if (j.privileged) {
                measure("new mount namespace", event, NULL, CLONE_NEWNS, rounds);
                measure("new PID namespace", event, NULL, CLONE_NEWPID, rounds);
                measure("new network namespace", event, NULL, CLONE_NEWNET, rounds);
                measure("new IPC and UTS namespaces", event, NULL, CLONE_NEWIPC | CLONE_NEWUTS, rounds);
                measure("all the namespaces of a jail", event, NULL, flags, rounds);
        }
        measure("jail", event, &j, 0, rounds);
        sd_event_unref(event);
        return EXIT_SUCCESS;
}
