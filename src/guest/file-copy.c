#include "guest/file-copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define PIECE_SIZE    (16 * 1024)
#define TURN_PIECES   8           /* in one turn of the loop */
#define SOCKET_BUFFER (32 * 1024) /* what a reader that does not read costs; the kernel doubles it */

struct FileCopy {
        SharedFile *file;
        uint64_t position, end; /* of all that was ever in the file, what has been cut off included */
        int fd;
        sd_event_source *io;
        void (*ended)(void *userdata);
        void *userdata;
};

int shared_file_new(int fd, SharedFile **ret) {
        AUTO(fd_drop) int owned = fd;
        SharedFile *f = malloc(sizeof *f);
        if (!f)
                return -ENOMEM;
        *f = (SharedFile){ .n_refs = 1, .fd = fd_take(&owned) };
        *ret = f;
        return 0;
}

SharedFile *shared_file_ref(SharedFile *f) {
        f->n_refs++;
        return f;
}

void shared_file_unref(SharedFile *f) {
        if (!f || --f->n_refs > 0)
                return;
        fd_drop(&f->fd);
        free(f);
}

FileCopy *file_copy_free(FileCopy *c) {
        if (!c)
                return NULL;

        sd_event_source_disable_unref(c->io);
        fd_drop(&c->fd);
        shared_file_unref(c->file);
        free(c);
        return NULL;
}

/* Bytes taken, or negative errno. */
static ssize_t give(const FileCopy *c, const char *data, size_t length) {
        ssize_t n;

        do
                n = send(c->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

/* What has been cut off is lost. A text so short is taken whole, or not at all. */
static int tell_cut(FileCopy *c) {
        uint64_t next = c->file->cut_off < c->end ? c->file->cut_off : c->end;
        char text[64];

        int length = snprintf(text, sizeof text, "\r\n[debmarshal: %llu bytes skipped]\r\n",
                              (unsigned long long)(next - c->position));
        ssize_t n = give(c, text, (size_t)length);
        if (n < 0)
                return (int)n;
        c->position = next;
        return 0;
}

static int give_piece(FileCopy *c) {
        uint64_t left = c->end - c->position;
        char piece[PIECE_SIZE];

        ssize_t n = pread(c->file->fd, piece, left < sizeof piece ? (size_t)left : sizeof piece,
                          (off_t)(c->position - c->file->cut_off));
        if (n < 0)
                return -errno;
        if (n == 0) { /* somebody has shortened it */
                c->end = c->position;
                return 0;
        }
        n = give(c, piece, (size_t)n);
        if (n < 0)
                return (int)n;
        c->position += (uint64_t)n;
        return 0;
}

/* 0: all of it is given, or its reader has gone; 1: there is more. */
static int give_some(FileCopy *c) {
        int r = 0;

        for (unsigned i = 0; i < TURN_PIECES && r >= 0 && c->position < c->end; i++)
                r = c->position < c->file->cut_off ? tell_cut(c) : give_piece(c);
        return (r >= 0 || r == -EAGAIN) && c->position < c->end;
}

static int on_io(UNUSED sd_event_source *s, UNUSED int fd, uint32_t revents, void *userdata) {
        FileCopy *c = userdata;

        if (revents & (EPOLLHUP | EPOLLERR)) {
                c->io = sd_event_source_disable_unref(c->io);
                if (c->ended)
                        c->ended(c->userdata);
                return 0;
        }
        if (give_some(c))
                return 0;
        (void)shutdown(c->fd, SHUT_WR); /* the reader's end-of-file; that it has gone is told all the same */
        return sd_event_source_set_io_events(c->io, 0);
}

static int copy_begin(FileCopy *c, sd_event *event, int *ret_fd) {
        struct stat st;
        int pair[2];

        if (fstat(c->file->fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        c->position = c->file->cut_off;
        c->end = c->file->cut_off + (uint64_t)st.st_size;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        c->fd = pair[0];
        AUTO(fd_drop) int theirs = pair[1];
        if (setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &(int){ SOCKET_BUFFER }, sizeof(int)) < 0)
                return -errno;
        int r = sd_event_add_io(event, &c->io, c->fd, EPOLLOUT, on_io, c);
        if (r < 0)
                return r;
        *ret_fd = fd_take(&theirs);
        return 0;
}

int file_copy_new(sd_event *event, SharedFile *file, FileCopy **ret, int *ret_fd, Error *e) {
        FileCopy *c = calloc(1, sizeof *c);
        if (!c)
                return error_set_errno(e, ENOMEM, "Failed to give out a file");

        c->fd = -1;
        c->file = shared_file_ref(file);
        int r = copy_begin(c, event, ret_fd);
        if (r < 0) {
                file_copy_free(c);
                return error_set_errno(e, r, "Failed to give out a file");
        }
        *ret = c;
        return 0;
}

void file_copy_on_end(FileCopy *c, void (*ended)(void *userdata), void *userdata) {
        c->ended = ended;
        c->userdata = userdata;
}
