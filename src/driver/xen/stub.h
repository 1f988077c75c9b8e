/* A device model in a domain of its own: the stub domain of a guest of type hvm, its target. It may do to its target
 * what a device model has to, by Xen's own rule, and nothing to anybody else; not even dom0 runs a process for it.
 *
 * It is a domain as any other, under a uuid that follows from its target's: so it is known before it exists, and found
 * and removed by the same rule. What is here is the daemon's side of one that is there: its log, and the streams of its
 * device model, which come through vchans (scripts/stubdomain/init serves them). work_stub() makes it. */
#pragma once

#include "driver/driver.h"
#include "driver/words.h"
#include "driver/xen/shot.h"
#include "driver/xen/vchan.h"

void stub_uuid(const uint8_t of[DOMAIN_UUID_SIZE], uint8_t ret[DOMAIN_UUID_SIZE]);
/* The stub domain as a domain, for what makes domains: good as long as *of and name are. Nothing in it is owned. */
#define STUB_NAME_MAX 80
void stub_describe(const Domain *of, char name[STUB_NAME_MAX], Domain *ret);

/* What it boots from: open for reading. ERROR_NOT_SUPPORTED says where it is expected, and how it is made. */
int stub_open_image(const DriverHost *host, int *ret_kernel, int *ret_initrd, Error *e);

/* It holds the guest's kernel and initrd in its own memory, which is fixed, up to three times: as they come, as it has
 * unpacked them, and as its device model has read them. ERROR_INVALID_INPUT when they are too large for that. */
#define STUB_FILES_MAX (32ULL << 20) /* bytes */
int stub_check_files(const GuestFiles *files, Error *e);

typedef struct Stub {
        /* In. */
        Guest *guest;

        /* Private. */
        uint32_t id; /* Xen's number of it; 0: none */
        Words words;
        Vchan *serial, *viewer, *picture;
        Shot *shot; /* while one is taken */
        GuestAnswer answer;
        void *userdata;
} Stub;

void stub_init(Stub *s);
/* It runs: read its log from its terminal, which is taken (-1: it cannot be read), and make the guest's serial port a
 * line of its console. */
int stub_connect(Stub *s, uint32_t id, int terminal, Error *e);
/* Let go of it, of the memory that is shared with it too: it can be removed then. Answers who waits. Any state. */
void stub_disconnect(Stub *s);

/* What it said last, with "; " between the lines; the caller's; NULL: nothing. */
char *stub_last_words(Stub *s);
/* A viewer of the guest's screen, one at a time: a stream socket that speaks RFB. */
int stub_open_vnc(Stub *s, int *ret_fd, Error *e);
/* A picture of it, one at a time, beside whoever else looks: a memfd with a PNG. */
int stub_shoot(Stub *s, GuestAnswer answer, void *userdata, Error *e);
