#include "driver/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define LINES_SHOWN 6
#define LINE_SHOWN  400 /* bytes */

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

static int on_readable(UNUSED sd_event_source *s, UNUSED int fd, UNUSED uint32_t revents, void *userdata) {
        read_some(userdata);
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
        AUTO(string_list_free) StringList lines = NULL;
        const char *starts[LINES_SHOWN] = { NULL };
        size_t lengths[LINES_SHOWN] = { 0 }, n = 0;
        const char *end = w->text + w->length;

        if (!w->text)
                return NULL;
        while (end > w->text && n < LINES_SHOWN) {
                const char *newline = memrchr(w->text, '\n', (size_t)(end - w->text));
                const char *start = newline ? newline + 1 : w->text;

                if (end > start) {
                        starts[n] = start;
                        lengths[n++] = (size_t)(end - start);
                }
                end = newline ? newline : w->text;
        }
        while (n-- > 0) {
                char line[LINE_SHOWN + 1];
                size_t length = lengths[n] < LINE_SHOWN ? lengths[n] : LINE_SHOWN;

                memcpy(line, starts[n], length);
                line[length] = '\0';
                AUTO(string_drop) char *shown = string_escape(line, LINE_SHOWN);
                if (!shown || string_list_append(&lines, shown) < 0)
                        return NULL;
        }
        return lines ? string_list_join(lines, "; ") : NULL;
}

void words_done(Words *w) {
        w->source = sd_event_source_disable_unref(w->source);
        fd_drop(&w->fd);
        free(w->text);
        w->text = NULL;
        w->length = 0;
}
