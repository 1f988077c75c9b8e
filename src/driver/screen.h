/* The screen of a guest that some QEMU draws: a picture of it, and viewers. Both are asked for on its monitor, and
 * answered once, also when the connection goes; nothing of an emulator listens anywhere.
 *
 * number: another one for each request to that emulator, for the names and descriptor sets that must differ. */
#pragma once

#include "driver/driver.h"
#include "driver/qmp.h"

/* Descriptor sets from here on are requests'. */
#define SCREEN_SETS 1000u

/* A file that is a PNG. */
int screen_shoot(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e);
/* The same as PPM, which an emulator without libpng can make, too. Not looked into. */
int screen_shoot_ppm(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e);
/* A stream socket that speaks RFB. */
int screen_open_vnc(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e);
/* Before any viewer: the password that each is asked for. reply as qmp_send()'s. */
int screen_set_password(Qmp *qmp, const char *password, QmpReply reply, void *userdata, Error *e);
