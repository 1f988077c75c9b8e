/* A device model that fails, in the way that its file name says. run.sh builds it, test_device_model.py configures it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MONITOR 3 /* the listening socket, the first descriptor that a model is given */

static void serve(void) {
        char line[4096];
        FILE *monitor = fdopen(accept(MONITOR, NULL, NULL), "r+");

        if (!monitor)
                exit(4);
        setvbuf(monitor, NULL, _IONBF, 0);
        fputs("{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n", monitor);
        while (fgets(line, sizeof line, monitor)) {
                const char *id = strstr(line, "\"id\":");
                fprintf(monitor, "{\"return\": {}, \"id\": %d}\r\n", id ? atoi(id + 5) : 0);
        }
}

int main(int argc, char **argv) {
        const char *slash = strrchr(argv[0], '/'), *how = slash ? slash + 1 : argv[0];

        (void)argc;
        if (strcmp(how, "dies-at-once") == 0) {
                fputs("could not initialise the flux\n", stderr);
                return 3;
        }
        if (strcmp(how, "dies-later") == 0) {
                fputs("a second is enough\n", stderr);
                sleep(1);
                return 5;
        }
        if (strcmp(how, "never-confirms") == 0)
                fputs("still thinking\n", stderr);
        if (strcmp(how, "keeps-its-privilege") == 0)
                serve();
        while (strcmp(how, "fills-its-log") == 0)
                if (fputs("more and more and more of it\n", stderr) < 0) /* nobody may have read so far */
                        clearerr(stderr);
        for (;;)
                pause();
}
