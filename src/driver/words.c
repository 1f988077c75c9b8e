#include "driver/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/last-lines.h"

/* Without memory the words are lost. */
static void keep(Words *w, const char *data, size_t length) {
        if (length == 0 || (!w->text && !(w->text = malloc(WORDS_KEPT))))
                return;
        if (length > WORDS_KEPT) {
                data += length - WORDS_KEPT;
                length = WORDS_KEPT;
        }
        if (w->length + length > WORDS_KEPT) {
                size_t drop = w->length + length - WORDS_KEPT;
                memmove(w->text, w->text + drop, w->length - drop);
                w->length -= drop;
        }
        memcpy(w->text + w->length, data, length);
        w->length += length;
}

/* One buffer each turn: an emulator that prints without end shall not hold the loop. */
static int read_some(Words *w) {
        char buffer[WORDS_KEPT];
        ssize_t n = read(w->fd, buffer, sizeof buffer);

        if (n < 0)
                return -errno;
        keep(w, buffer, (size_t)n);
        return n > 0;
}

/* A terminal whose other side has gone tells so for ever. */
static int on_readable(sd_event_source *s, UNUSED int fd, UNUSED uint32_t revents, void *userdata) {
        int r = read_some(userdata);

        if (r <= 0 && r != -EAGAIN && r != -EINTR)
                (void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
        return 0;
}

int words_watch(Words *w, sd_event *event, int fd) {
        w->fd = fd;
        int r = sd_event_add_io(event, &w->source, fd, EPOLLIN, on_readable, w);
        if (r < 0)
                words_done(w);
        return r;
}

void words_drain(Words *w) {
        if (w->fd < 0)
                return;
        for (int i = 0; i < 16 && read_some(w) > 0; i++) /* a FIFO holds 64 KiB */
                ;
}

char *words_last_lines(const Words *w) {
        return last_lines(w->text, w->length);
}

void words_done(Words *w) {
        w->source = sd_event_source_disable_unref(w->source);
        fd_drop(&w->fd);
        free(w->text);
        w->text = NULL;
        w->length = 0;
}
