/* The floor for guests: the bare emulator with the devices that debmarshal's guests have, started by fork and exec with
 * nothing around it, until its monitor has confirmed that the guest runs; and killed, until it is reaped. Its command
 * line is written here by hand, so that it is no judge in its own cause.
 *
 * usage: floor-guest [-n ROUNDS] [-m MIB] [-k KERNEL -i INITRD] [-t] [-s] [-p]
 *
 *   -t  with a network interface, on a tap in a namespace of its own (root; making the tap is not counted)
 *   -p  paused: started, and not let run
 *   -s  serve: for each line "create" or "destroy" on standard input a line "ok<TAB>USEC<TAB>PID" on standard output,
 *       or "error<TAB>TEXT"; destroy takes the guest that was created last
 *
 * Without -s: {"create_usec": [...], "destroy_usec": [...]} on standard output. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM    "/usr/bin/qemu-system-x86_64"
#define GUESTS_MAX 1024
#define ARGS_MAX   96

typedef struct Options {
        unsigned rounds, mib;
        const char *kernel, *initrd;
        bool tap, serve, paused;
} Options;

typedef struct Guest {
        pid_t pid;
        int monitor, agent, tap;
        char fifo[64]; /* without .in and .out */
} Guest;

static Options options = { .rounds = 20, .mib = 128 };
static char directory[] = "/tmp/floor-guest-XXXXXX";
static Guest guests[GUESTS_MAX];
static size_t n_guests;

static uint64_t now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int failed(const char *what) {
        fprintf(stderr, "floor-guest: %s: %s\n", what, strerror(errno));
        return -1;
}

/* ---- what the emulator is given ---- */

/* A listening socket and a connection to it, which waits until somebody accepts. */
static int make_socket(const char *name, int *ret_listening, int *ret_connected) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        snprintf(address.sun_path, sizeof address.sun_path, "%s/%s-%zu", directory, name, n_guests);
        *ret_listening = socket(AF_UNIX, SOCK_STREAM, 0);
        *ret_connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (*ret_listening < 0 || *ret_connected < 0 ||
            bind(*ret_listening, (struct sockaddr *)&address, sizeof address) < 0 || listen(*ret_listening, 1) < 0 ||
            connect(*ret_connected, (struct sockaddr *)&address, sizeof address) < 0)
                return failed("socket");
        return unlink(address.sun_path);
}

static int make_fifos(Guest *g) {
        char path[80];

        snprintf(g->fifo, sizeof g->fifo, "%s/console-%zu", directory, n_guests);
        for (int i = 0; i < 2; i++) {
                snprintf(path, sizeof path, "%s.%s", g->fifo, i == 0 ? "in" : "out");
                if (mkfifo(path, 0600) < 0)
                        return failed("mkfifo");
        }
        return 0;
}

static void remove_fifos(const Guest *g) {
        char path[80];

        for (int i = 0; i < 2; i++) {
                snprintf(path, sizeof path, "%s.%s", g->fifo, i == 0 ? "in" : "out");
                unlink(path);
        }
}

static int make_tap(void) {
        struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
        int fd = open("/dev/net/tun", O_RDWR);

        if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
                return failed("tap");
        return fd;
}

static void run_emulator(const Guest *g, int monitor, int agent) {
        char monitor_arg[80], agent_arg[80], console_arg[120], memory_arg[80], size_arg[32], tap_arg[64];
        const char *args[ARGS_MAX] = {
                PROGRAM,
                "-name",
                "floor",
                "-nodefaults",
                "-no-user-config",
                "-S",
                "-sandbox",
                "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                "-msg",
                "timestamp=off",
                "-action",
                "shutdown=pause,panic=pause",
                "-machine",
                "q35,usb=off,sata=off,smbus=off,vmport=off,hpet=off,memory-backend=ram",
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-smp",
                "1",
                "-m",
                size_arg,
                "-object",
                memory_arg,
                "-device",
                "virtio-rng-pci",
                "-device",
                "pvpanic-pci",
                "-chardev",
                monitor_arg,
                "-mon",
                "chardev=qmp,mode=control",
                "-chardev",
                console_arg,
                "-serial",
                "chardev:console",
                "-chardev",
                agent_arg,
                "-device",
                "virtio-serial-pci",
                "-device",
                "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
                "-display",
                "none",
                "-vnc",
                "none",
                "-device",
                "VGA",
        };
        size_t n = 0;

        snprintf(monitor_arg, sizeof monitor_arg, "socket,id=qmp,fd=%d,server=on,wait=off", monitor);
        snprintf(agent_arg, sizeof agent_arg, "socket,id=agent,fd=%d,server=on,wait=off", agent);
        snprintf(console_arg, sizeof console_arg, "pipe,id=console,path=%s", g->fifo);
        snprintf(size_arg, sizeof size_arg, "%uM", options.mib);
        snprintf(memory_arg, sizeof memory_arg, "memory-backend-memfd,id=ram,size=%uM,share=on", options.mib);
        while (args[n])
                n++;
        if (g->tap >= 0) {
                snprintf(tap_arg, sizeof tap_arg, "tap,id=net0,fd=%d", g->tap);
                args[n++] = "-netdev";
                args[n++] = tap_arg;
                args[n++] = "-device";
                args[n++] = "virtio-net-pci,netdev=net0,mac=00:16:3e:00:00:01,romfile=";
        }
        if (options.kernel) {
                args[n++] = "-kernel";
                args[n++] = options.kernel;
                args[n++] = "-initrd";
                args[n++] = options.initrd;
                args[n++] = "-append";
                args[n++] = "console=ttyS0";
        }
        execv(PROGRAM, (char *const *)(uintptr_t)args);
        _exit(127);
}

/* ---- the monitor ---- */

/* Wait until a line of the emulator holds that word. */
static int await_word(int monitor, const char *word) {
        char buffer[65536];
        size_t length = 0;

        while (length < sizeof buffer - 1) {
                ssize_t n = read(monitor, buffer + length, sizeof buffer - 1 - length);
                if (n <= 0)
                        return failed("monitor");
                length += (size_t)n;
                buffer[length] = '\0';
                if (strstr(buffer, word) && buffer[length - 1] == '\n')
                        return 0;
        }
        return -1;
}

static int tell(int monitor, const char *command, const char *id) {
        char line[128], word[32];

        int n = snprintf(line, sizeof line, "{\"execute\":\"%s\",\"id\":\"%s\"}\n", command, id);
        if (send(monitor, line, (size_t)n, MSG_NOSIGNAL) != n)
                return failed("monitor");
        snprintf(word, sizeof word, "\"id\": \"%s\"", id);
        return await_word(monitor, word);
}

/* ---- rounds ---- */

static int create(uint64_t *ret_usec) {
        Guest *g = &guests[n_guests];
        int monitor, agent;

        if (n_guests == GUESTS_MAX)
                return -1;
        g->tap = options.tap ? make_tap() : -1;
        if (options.tap && g->tap < 0)
                return -1;
        uint64_t start = now_usec();
        if (make_socket("monitor", &monitor, &g->monitor) < 0 || make_socket("agent", &agent, &g->agent) < 0 ||
            make_fifos(g) < 0)
                return -1;
        g->pid = vfork();
        if (g->pid == 0)
                run_emulator(g, monitor, agent);
        close(monitor);
        close(agent);
        if (g->pid < 0)
                return failed("fork");
        if (await_word(g->monitor, "QMP") < 0 || tell(g->monitor, "qmp_capabilities", "a") < 0 ||
            tell(g->monitor, options.paused ? "query-status" : "cont", "b") < 0) {
                kill(g->pid, SIGKILL);
                waitpid(g->pid, NULL, 0);
                return -1;
        }
        *ret_usec = now_usec() - start;
        if (g->tap >= 0)
                close(g->tap);
        n_guests++;
        return 0;
}

static int destroy(uint64_t *ret_usec) {
        if (n_guests == 0)
                return -1;
        Guest *g = &guests[--n_guests];
        uint64_t start = now_usec();
        kill(g->pid, SIGKILL);
        waitpid(g->pid, NULL, 0);
        close(g->monitor);
        close(g->agent);
        remove_fifos(g);
        *ret_usec = now_usec() - start;
        return 0;
}

static void serve(void) {
        char line[64];

        while (fgets(line, sizeof line, stdin)) {
                uint64_t usec = 0;
                int r = strcmp(line, "create\n") == 0    ? create(&usec)
                        : strcmp(line, "destroy\n") == 0 ? destroy(&usec)
                                                         : -1;
                pid_t pid = n_guests > 0 ? guests[n_guests - 1].pid : 0;

                if (r < 0)
                        puts("error\tfailed; see standard error");
                else
                        printf("ok\t%llu\t%d\n", (unsigned long long)usec, (int)pid);
                fflush(stdout);
        }
}

static void print_list(const char *name, const uint64_t *values, const char *end) {
        printf("\"%s\": [", name);
        for (unsigned i = 0; i < options.rounds; i++)
                printf("%s%llu", i ? ", " : "", (unsigned long long)values[i]);
        printf("]%s", end);
}

static int measure(void) {
        uint64_t *created = calloc(options.rounds, sizeof *created),
                 *destroyed = calloc(options.rounds, sizeof *destroyed);
        uint64_t unused;

        /* The first one fills caches and is not counted. */
        int r = created && destroyed && create(&unused) == 0 && destroy(&unused) == 0 ? 0 : -1;
        for (unsigned i = 0; i < options.rounds && r == 0; i++)
                r = create(&created[i]) == 0 && destroy(&destroyed[i]) == 0 ? 0 : -1;
        if (r == 0) {
                printf("{");
                print_list("create_usec", created, ", ");
                print_list("destroy_usec", destroyed, "}\n");
        }
        free(created);
        free(destroyed);
        return r;
}

static int parse(int argc, char **argv) {
        int c;

        while ((c = getopt(argc, argv, "n:m:k:i:tsp")) >= 0)
                switch (c) {
                case 'n':
                        options.rounds = (unsigned)atoi(optarg);
                        break;
                case 'm':
                        options.mib = (unsigned)atoi(optarg);
                        break;
                case 'k':
                        options.kernel = optarg;
                        break;
                case 'i':
                        options.initrd = optarg;
                        break;
                case 't':
                        options.tap = true;
                        break;
                case 's':
                        options.serve = true;
                        break;
                case 'p':
                        options.paused = true;
                        break;
                default:
                        return -1;
                }
        return optind == argc && options.rounds > 0 && options.mib > 0 && !options.kernel == !options.initrd ? 0 : -1;
}

int main(int argc, char **argv) {
        uint64_t unused;
        int r = 0;

        if (parse(argc, argv) < 0) {
                fputs("usage: floor-guest [-n ROUNDS] [-m MIB] [-k KERNEL -i INITRD] [-t] [-s] [-p]\n", stderr);
                return 2;
        }
        if (!mkdtemp(directory) || (options.tap && unshare(CLONE_NEWNET) < 0))
                return failed("setting up") < 0;
        if (options.serve)
                serve();
        else
                r = measure();
        while (n_guests > 0)
                destroy(&unused);
        rmdir(directory);
        return r < 0;
}
