/* The engine as D-Bus objects, on every connection that there is: the system bus, and any number of peers on the
 * daemon's own socket. docs/dbus.md says what can be called. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "engine/engine.h"

#define BUS_NAME "com.googlecode.debmarshal"

typedef struct Bus Bus;

/* engine must have been started, and outlives the Bus. Becomes the registry's listener. */
int bus_new(sd_event *event, Engine *engine, Bus **ret, Error *e);
/* Close every connection and forget every request. To be called before engine_done(), with no turn of the loop between.
 * Returns NULL; NULL allowed. */
Bus *bus_free(Bus *b);

/* Serve a connection that was accepted. Takes fd, also on failure. ERROR_QUOTA_EXCEEDED past limits.connections of its
 * uid. */
int bus_add_peer(Bus *b, int fd, Error *e);
/* Connect to the system bus and ask for our name there; without a bus, or when it goes, try again every few seconds.
 * settled() comes once, possibly from inside: the first attempt has ended, with the name or without it. */
typedef void (*BusSettled)(void *userdata);
void bus_join_system(Bus *b, BusSettled settled, void *userdata);

size_t bus_peers(const Bus *b);
/* Grows with each new peer: whether somebody was here since the last look. */
uint64_t bus_peers_ever(const Bus *b);
