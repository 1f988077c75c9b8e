/* A capture is a program of its own, as it runs for as long as somebody reads. All that needs a right happens before it
 * is executed, in the child that becomes it: entering the network, opening the packet socket on the right device. So a
 * wrong device's name is told as any failed start is, and the program itself runs without any capability.
 *
 * Which frames: of one device, what passes it either way. Of the whole network, each frame once and where it comes in:
 * a frame between two guests is seen coming in at the port of the first (and going out at the second's, which is left
 * out); the gateway's own frames go out through the bridge (and what comes in there has been seen at a port). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/string-util.h"
#include "net/enter.h"
#include "net/inside.h"
#include "net/keeper-protocol.h"

#define LOOPBACK_INDEX 1
#define SNAP_MAX       0x40000
#define START_USEC     (10 * 1000000ULL)
#define RECEIVE_BUFFER (8 << 20)

void capture_init(Capture *c) {
        *c = (Capture){ .namespaces = { -1, -1 }, .fds = { -1, -1, -1 }, .write_fd = -1, .read_fd = -1 };
        spawn_init(&c->spawn);
        c->process = PROCESS_INIT;
}

static void capture_close(Capture *c) {
        for (size_t i = 0; i < ENTER_COUNT; i++)
                fd_drop(&c->namespaces[i]);
        for (size_t i = 0; i < ARRAY_LEN(c->fds); i++)
                fd_drop(&c->fds[i]);
        fd_drop(&c->write_fd);
        fd_drop(&c->read_fd);
}

void capture_stop(Capture *c) {
        int pidfd = fd_take(&c->process.pidfd);
        spawn_stop(&c->spawn);
        process_done(&c->process);
        if (pidfd >= 0)
                process_abandon(c->host->event, pidfd, &c->lingering);
        capture_close(c);
}

/* ---- in the child ---- */

static int take_each_frame_once(int fd, unsigned bridge) {
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + SKF_AD_IFINDEX),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LOOPBACK_INDEX, 5, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bridge, 0, 2),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + SKF_AD_PKTTYPE),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 3, 2),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + SKF_AD_PKTTYPE),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, 0),
                BPF_STMT(BPF_RET | BPF_K, SNAP_MAX),
        };
        const struct sock_fprog program = { .len = ARRAY_LEN(code), .filter = code };
        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno : 0;
}

static int ask_for_details(int fd) {
        const int on = 1, size = RECEIVE_BUFFER;
        /* As much as the host allows to anybody; the rest is told as a number of dropped frames. */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) < 0 ||
            setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) < 0)
                return -errno;
        return 0;
}

/* The socket takes nothing before it is bound: so no frame gets past the filter. */
static int open_packets(const char *device, int *ret_fd, const char **ret_step) {
        static char find_step[sizeof "find device " + 4 * IF_NAMESIZE]; /* escaped: it goes to the caller's terminal */
        const char *name = device ? device : NETWORK_BRIDGE;
        AUTO(string_drop) char *shown = string_escape(name, IF_NAMESIZE);
        snprintf(find_step, sizeof find_step, "find device %s", string_or(shown, "?"));

        *ret_step = find_step;
        unsigned index = if_nametoindex(name);
        if (index == 0)
                return -errno;

        *ret_step = "open a packet socket";
        AUTO(fd_drop) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        int r = ask_for_details(fd);
        if (r == 0 && !device)
                r = take_each_frame_once(fd, index);
        if (r < 0)
                return r;

        struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
        where.sll_ifindex = device ? (int)index : 0;
        if (bind(fd, (const struct sockaddr *)&where, sizeof where) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

static int prepare(void *userdata, const char **ret_step) {
        Capture *c = userdata; /* the child's copy */
        int r = enter_network(c->namespaces, c->host->privileged, c->owner_uid, NULL, NULL, ret_step);
        return r < 0 ? r : open_packets(c->device, &c->fds[0], ret_step);
}

/* ---- in the daemon ---- */

static void on_ended(Process *p, const ChildExit *exit UNUSED) {
        Capture *c = container_of(p, Capture, process);
        capture_close(c);
        c->ended(c);
}

static void on_prepared(Spawn *s) {
        spawn_release(s); /* it dies with the daemon, so there is nothing to record */
}

static void on_spawned(Spawn *s, const Error *failure) {
        Capture *c = container_of(s, Capture, spawn);
        AUTO(error_clear) Error e = ERROR_INIT;

        if (failure) {
                bool misnamed = c->has_device && s->child_errno == ENODEV;
                error_set(&e, misnamed ? ERROR_INVALID_INPUT : failure->id, "%s", error_text(failure));
        } else {
                int r = process_watch(&c->process, c->host->event, &s->id, spawn_take_pidfd(s), on_ended, c);
                if (r == 0)
                        c->process.lingering = c->lingering;
                else
                        error_set_errno(&e, r, "Failed to watch the capture");
        }
        int read_fd = error_is_set(&e) ? -1 : fd_take(&c->read_fd);
        capture_close(c);
        c->started(c, read_fd, error_is_set(&e) ? &e : NULL);
}

static int open_descriptors(Capture *c, const Network *n, Error *e) {
        int r = network_open_namespaces(n, &c->namespaces[ENTER_USER], &c->namespaces[ENTER_NET], e);
        if (r < 0)
                return r;
        r = process_open(&n->keeper, &c->fds[1]);
        if (r < 0 && r != -ESRCH)
                return error_set_errno(e, r, "Failed to find the keeper of network %s", n->name);
        if (r < 0)
                return error_set(e, ERROR_NETWORK_FAILED, "The keeper of network %s is gone", n->name);
        c->fds[2] = open(c->host->keeper_path, O_PATH | O_CLOEXEC);
        if (c->fds[2] < 0)
                return error_set_errno(e, errno, "Failed to find %s", c->host->keeper_path);

        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return error_set_errno(e, errno, "Failed to make a pipe");
        c->read_fd = ends[0];
        c->write_fd = ends[1];
        return 0;
}

static void describe_spawn(Capture *c) {
        Spawn *s = &c->spawn;
        snprintf(c->parent, sizeof c->parent, "%d", (int)getpid());
        c->argv[0] = (char *)(uintptr_t) "debmarshal-keeper";
        c->argv[1] = (char *)(uintptr_t) "--capture";
        c->argv[2] = c->parent;
        s->what = "the capture";
        s->path = CAPTURE_PROGRAM_PATH;
        s->argv = c->argv;
        s->fds = c->fds;
        s->n_fds = ARRAY_LEN(c->fds);
        s->keep = c->namespaces;
        s->n_keep = ENTER_COUNT;
        s->stdio[STDOUT_FILENO] = c->write_fd;
        s->prepare = prepare;
        s->prepare_data = c;
        s->deadline_usec = START_USEC;
        s->lingering = c->lingering;
        s->prepared = on_prepared;
        s->done = on_spawned;
}

int capture_start(Capture *c, const Network *n, Error *e) {
        if (c->device && (strlen(c->device) >= IF_NAMESIZE || !*c->device)) {
                AUTO(string_drop) char *shown = string_escape(c->device, 64);
                return error_set(e, ERROR_INVALID_INPUT, "\"%s\" is no name of a network device", string_or(shown, ""));
        }
        int r = open_descriptors(c, n, e);
        if (r == 0) {
                c->owner_uid = n->owner->uid;
                c->has_device = c->device != NULL;
                describe_spawn(c);
                r = spawn_start(&c->spawn, c->host->event, e);
        }
        if (r < 0)
                capture_close(c);
        return r;
}
