/* What an emulator prints on standard error: read from a FIFO, and the end of it kept, for the message that tells why
 * it died. The FIFO is non-blocking on the emulator's side too and never without a reader (the emulator itself), so
 * that a daemon that is away neither stops nor ends an emulator that complains; what does not fit is lost. */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#define WORDS_KEPT 4096

typedef struct Words {
        int fd;
        sd_event_source *source;
        char *text; /* room for WORDS_KEPT from its first word on: most say nothing */
        size_t length;
} Words;
#define WORDS_INIT ((Words){ .fd = -1 })

/* Takes fd, also on failure: the FIFO, opened for reading and writing, non-blocking; or a terminal, which may end. */
int words_watch(Words *w, sd_event *event, int fd);
/* Read what is there. */
void words_drain(Words *w);
/* Its last lines, each safe to show, with "; " between them. NULL when there are none, or no memory. */
char *words_last_lines(const Words *w);
void words_done(Words *w);
