#include "driver/xen/fake-vchan.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <libxenvchan.h>

FakeVchan fake_vchan;
static int event_fd = -1;

void fake_vchan_reset(void) {
        memset(&fake_vchan, 0, sizeof fake_vchan);
}

void fake_vchan_notify(void) {
        if (event_fd >= 0)
                (void)eventfd_write(event_fd, 1);
}

void fake_vchan_send(const char *text) {
        size_t length = strlen(text);

        memcpy(fake_vchan.to_client + fake_vchan.n_to_client, text, length);
        fake_vchan.n_to_client += length;
        fake_vchan_notify();
}

static size_t take(char *ring, size_t *used, void *data, size_t size) {
        size_t n = size < *used ? size : *used;

        memcpy(data, ring, n);
        memmove(ring, ring + n, *used - n);
        *used -= n;
        return n;
}

size_t fake_vchan_take(char *buffer, size_t size) {
        size_t n = take(fake_vchan.from_client, &fake_vchan.n_from_client, buffer, size);

        fake_vchan_notify();
        return n;
}

void fake_vchan_close(void) {
        fake_vchan.closed = true;
        fake_vchan_notify();
}

struct libxenvchan *libxenvchan_client_init(struct xentoollog_logger *logger, int domain, const char *path) {
        (void)logger;
        (void)domain;
        if (!fake_vchan.served || (fake_vchan.only && !strstr(path, fake_vchan.only)))
                return NULL;
        fake_vchan.connected++;
        event_fd = eventfd(0, EFD_CLOEXEC);
        return calloc(1, sizeof(struct libxenvchan));
}

void libxenvchan_close(struct libxenvchan *c) {
        if (!c)
                return;
        fake_vchan.disconnected++;
        close(event_fd);
        event_fd = -1;
        free(c);
}

int libxenvchan_fd_for_select(struct libxenvchan *c) {
        (void)c;
        return event_fd;
}

int libxenvchan_wait(struct libxenvchan *c) {
        eventfd_t value;

        (void)c;
        return fake_vchan.broken ? -1 : eventfd_read(event_fd, &value);
}

int libxenvchan_read(struct libxenvchan *c, void *data, size_t size) {
        (void)c;
        if (fake_vchan.n_to_client == 0 && fake_vchan.closed)
                return -1;
        return (int)take(fake_vchan.to_client, &fake_vchan.n_to_client, data, size);
}

int libxenvchan_write(struct libxenvchan *c, const void *data, size_t size) {
        size_t room = FAKE_RING - fake_vchan.n_from_client, n = size < room ? size : room;

        (void)c;
        if (fake_vchan.closed)
                return -1;
        memcpy(fake_vchan.from_client + fake_vchan.n_from_client, data, n);
        fake_vchan.n_from_client += n;
        return (int)n;
}
