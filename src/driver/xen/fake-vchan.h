/* In place of libxenvchan, for unit tests: one stream at a time, served or not, with a ring of FAKE_RING bytes each
 * way. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FAKE_RING 1024

typedef struct FakeVchan {
        bool served;      /* a client may connect */
        const char *only; /* to this one; NULL: to any */
        bool closed;      /* by the server */
        bool broken;      /* waiting for it fails */
        unsigned connected, disconnected;
        char to_client[FAKE_RING], from_client[FAKE_RING];
        size_t n_to_client, n_from_client;
} FakeVchan;
extern FakeVchan fake_vchan;

void fake_vchan_reset(void);
/* The server's side; each tells the client. */
void fake_vchan_send(const char *text);
size_t fake_vchan_take(char *buffer, size_t size);
void fake_vchan_close(void);
void fake_vchan_notify(void);
