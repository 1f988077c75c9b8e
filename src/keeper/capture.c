/* From a packet socket to pcapng on standard output, without any right: the daemon's child opened the socket before.
 *
 * Frames are taken while there are any and written when there are none, or when the buffer is full; a reader that is
 * slow makes us wait in write() and the kernel drop frames, whose number the next one carries. The end is whichever
 * comes first: nobody reads any more, the network's keeper ends, or the daemon. */
#include "keeper/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/capabilities.h"
#include "base/fd.h"
#include "base/macros.h"
#include "base/string-util.h"
#include "keeper/pcapng.h"
#include "net/keeper-protocol.h"

#define FRAME_MAX  0x40000 /* more than any device takes at once */
#define TAG_LENGTH 4
#define TAG_OFFSET 12 /* behind the two addresses */
#define OUTPUT_MAX (2 * (FRAME_MAX + 2 * PCAPNG_BLOCK_MAX))

typedef struct Capture {
        char output[OUTPUT_MAX];
        size_t filled;
        char frame[TAG_LENGTH + FRAME_MAX];
        int *interfaces; /* their numbers in the kernel, by their numbers in the file */
        uint32_t n_interfaces;
        uint64_t dropped; /* not told yet */
} Capture;

typedef struct Frame {
        const char *data;
        uint32_t captured, length;
        uint64_t time_nsec;
        int interface;
} Frame;

static int flush(Capture *c) {
        int r = fd_write_all(STDOUT_FILENO, c->output, c->filled);
        c->filled = 0;

        struct tpacket_stats stats;
        socklen_t size = sizeof stats;
        if (getsockopt(CAPTURE_FD_PACKETS, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0)
                c->dropped += stats.tp_drops;
        return r;
}

static int make_room(Capture *c, size_t length) {
        return c->filled + length > sizeof c->output ? flush(c) : 0;
}

static int add_interface(Capture *c, int index) {
        int *grown = reallocarray(c->interfaces, c->n_interfaces + 1, sizeof *grown);
        if (!grown)
                return -ENOMEM;
        c->interfaces = grown;

        char name[IF_NAMESIZE];
        if (!if_indextoname((unsigned)index, name))
                snprintf(name, sizeof name, "#%d", index); /* it is gone already */
        int r = make_room(c, PCAPNG_BLOCK_MAX);
        if (r < 0)
                return r;
        c->filled += pcapng_interface(c->output + c->filled, name, FRAME_MAX);
        c->interfaces[c->n_interfaces++] = index;
        return 0;
}

static int find_interface(Capture *c, int index, uint32_t *ret) {
        for (uint32_t i = c->n_interfaces; i > 0; i--)
                if (c->interfaces[i - 1] == index) {
                        *ret = i - 1;
                        return 0;
                }
        *ret = c->n_interfaces;
        return add_interface(c, index);
}

static int write_frame(Capture *c, const Frame *f) {
        uint32_t interface;
        int r = find_interface(c, f->interface, &interface);
        if (r == 0)
                r = make_room(c, PCAPNG_BLOCK_MAX + f->captured);
        if (r < 0)
                return r;
        c->filled += pcapng_packet(c->output + c->filled, interface, f->time_nsec, f->data, f->captured, f->length,
                                   c->dropped);
        c->dropped = 0;
        return 0;
}

/* The kernel takes a VLAN tag out of the frame and tells it beside; put it back where it was. */
static void restore_tag(Capture *c, Frame *f, const struct tpacket_auxdata *aux) {
        if (!(aux->tp_status & TP_STATUS_VLAN_VALID) || f->captured < TAG_OFFSET)
                return;
        uint16_t type = aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETHERTYPE_VLAN;
        const uint16_t tag[2] = { htons(type), htons(aux->tp_vlan_tci) };

        memmove(c->frame, c->frame + TAG_LENGTH, TAG_OFFSET);
        memcpy(c->frame + TAG_OFFSET, tag, sizeof tag);
        f->data = c->frame;
        f->captured += TAG_LENGTH;
        f->length += TAG_LENGTH;
}

static void read_details(Capture *c, struct msghdr *message, Frame *f) {
        for (struct cmsghdr *m = CMSG_FIRSTHDR(message); m; m = CMSG_NXTHDR(message, m)) {
                if (m->cmsg_level == SOL_SOCKET && m->cmsg_type == SCM_TIMESTAMPNS) {
                        struct timespec t;
                        memcpy(&t, CMSG_DATA(m), sizeof t);
                        f->time_nsec = (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
                } else if (m->cmsg_level == SOL_PACKET && m->cmsg_type == PACKET_AUXDATA) {
                        struct tpacket_auxdata aux;
                        memcpy(&aux, CMSG_DATA(m), sizeof aux);
                        restore_tag(c, f, &aux);
                }
        }
}

/* 1: a frame was written to the buffer; 0: there is none now. */
static int take_frame(Capture *c) {
        char details[256];
        struct sockaddr_ll from = { 0 };
        struct iovec vector = { .iov_base = c->frame + TAG_LENGTH, .iov_len = FRAME_MAX };
        struct msghdr message = {
                .msg_name = &from,
                .msg_namelen = sizeof from,
                .msg_iov = &vector,
                .msg_iovlen = 1,
                .msg_control = details,
                .msg_controllen = sizeof details,
        };
        ssize_t n = recvmsg(CAPTURE_FD_PACKETS, &message, MSG_TRUNC | MSG_DONTWAIT);
        if (n < 0) /* ENETDOWN: the device was taken down, and may come up again */
                return errno == EAGAIN || errno == EINTR || errno == ENETDOWN ? 0 : -errno;

        Frame f = { .data = c->frame + TAG_LENGTH, .length = (uint32_t)n, .interface = from.sll_ifindex };
        f.captured = n < FRAME_MAX ? (uint32_t)n : FRAME_MAX;
        read_details(c, &message, &f);
        int r = write_frame(c, &f);
        return r < 0 ? r : 1;
}

/* Returns whether to go on. */
static bool wait_for_frames(void) {
        struct pollfd fds[] = {
                { .fd = CAPTURE_FD_PACKETS, .events = POLLIN },
                { .fd = CAPTURE_FD_KEEPER, .events = POLLIN },
                { .fd = STDOUT_FILENO }, /* POLLERR: nobody reads */
        };
        int n;
        do
                n = poll(fds, ARRAY_LEN(fds), -1);
        while (n < 0 && errno == EINTR);
        return n > 0 && fds[1].revents == 0 && fds[2].revents == 0;
}

/* A file without any interface is none to some readers, even when no frame has come: the device that was asked for,
 * or else the network's bridge, is there from the start. */
static int add_first_interface(Capture *c) {
        struct sockaddr_ll bound = { 0 };
        socklen_t size = sizeof bound;
        if (getsockname(CAPTURE_FD_PACKETS, (struct sockaddr *)&bound, &size) < 0)
                return -errno;
        int index = bound.sll_ifindex ? bound.sll_ifindex : (int)if_nametoindex(NETWORK_BRIDGE);
        return index > 0 ? add_interface(c, index) : 0;
}

static int run(Capture *c) {
        c->filled = pcapng_section(c->output, "debmarshal");
        int r = add_first_interface(c);
        if (r == 0)
                r = flush(c);
        while (r >= 0 && wait_for_frames()) {
                do
                        r = take_frame(c);
                while (r > 0);
                if (r == 0)
                        r = flush(c);
        }
        return r;
}

/* The argument is the daemon's pid: was it dead before we asked to die with it? */
static bool tie_to_parent(const char *pid_text) {
        uint64_t parent;
        return parse_u64(pid_text, INT32_MAX, &parent) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
               getppid() == (pid_t)parent;
}

int capture_main(int argc, char **argv) {
        int program_fd = CAPTURE_FD_PROGRAM;
        fd_drop(&program_fd);
        if (argc != 1 || !tie_to_parent(argv[0]) || capabilities_keep(0) < 0 || chdir("/") < 0)
                return EXIT_FAILURE;

        Capture *c = calloc(1, sizeof *c);
        if (!c)
                return EXIT_FAILURE;
        int r = run(c);
        free(c->interfaces);
        free(c);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
