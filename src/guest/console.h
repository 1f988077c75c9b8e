/* A domain's console: one source (the guest's serial line through a pair of FIFOs, a pseudo-terminal, or a boot loader
 * before it), any number of attached clients, a ring that a new client is given first, and a bounded log on disk. What
 * the guest prints is never lost to a client that does not read: a client whose socket is full is skipped until it has
 * room and is told so with a marker line, and cut off when it stays full for a minute. Input of all clients goes to the
 * guest, with back pressure to them, not to the daemon. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "guest/file-copy.h"

#define CONSOLE_RING_SIZE     (64 * 1024)
#define CONSOLE_CLIENTS_MAX   16
#define CONSOLE_PATIENCE_USEC (60 * 1000000ULL) /* a client that takes nothing for so long is cut off */

typedef struct Console Console;

/* log_fd: the console log, open for reading and appending, the console's from now on; log_max its size in bytes: when
 * it is full its older half goes. */
int console_new(sd_event *event, int log_fd, uint64_t log_max, Console **ret);
/* Reads what the source still holds, then closes everything; clients see end-of-file after what they have still to
 * read. Returns NULL; NULL allowed. */
Console *console_free(Console *c);

/* Take output from read_fd and send input to write_fd (may be the same descriptor, a pty's master or a socket); both
 * are the console's, also on failure. Replaces an earlier source, whose pending output is read first. -1, -1: detach.
 * A source that ends by itself (end-of-file, a pty without a slave) is closed; the console and its clients stay. */
int console_set_source(Console *c, int read_fd, int write_fd);

/* A second line of the same guest: a guest of Xen's may speak on its emulated serial port as well as on Xen's console.
 * What comes from either is one stream; input goes to the one that spoke last, to both before one has. Otherwise as
 * console_set_source(). */
int console_set_second_source(Console *c, int read_fd, int write_fd);

/* Print something of ours among the guest's output ("debmarshal: boot loader started"). */
void console_note(Console *c, const char *text);

/* A position in what has been printed so far, and what was printed since: at most the last max bytes of it, and of
 * those what the ring still has. The caller's; NULL without memory. */
uint64_t console_position(const Console *c);
char *console_text_since(const Console *c, uint64_t position, size_t max, size_t *ret_length);

/* A new client: a stream socket that first gives the ring's content. ended() once, when the client has closed it or was
 * cut off, or the console goes; it must not free the console. ERROR_QUOTA_EXCEEDED past CONSOLE_CLIENTS_MAX. */
int console_attach(Console *c, void (*ended)(void *userdata), void *userdata, int *ret_fd, Error *e);

/* Its log, for file_copy_new(). A copy may outlive the console. */
SharedFile *console_log_file(Console *c);

/* For tests: instead of CONSOLE_PATIENCE_USEC. */
void console_set_patience(Console *c, uint64_t usec);
