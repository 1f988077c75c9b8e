/* What the daemon says, as JSON values: the one model that tables and --json are made of. */
#pragma once

#include <jansson.h>
#include <systemd/sd-bus.h>

#include "base/error.h"

void json_drop(json_t **value); /* usable with AUTO() */

/* Read a dictionary of properties (a{sv}) into an object, each name turned from "CreatedUsec" to "created_usec".
 * Arrays and structs become arrays. A property of a type that JSON cannot say is left out. -errno. */
int value_read_properties(sd_bus_message *m, json_t **ret);

/* A member of an object: "" or 0 when there is none of that kind. */
const char *value_text(const json_t *object, const char *key);
uint64_t value_number(const json_t *object, const char *key);

/* To standard output, indented, with a line end. */
int value_print(const json_t *value, Error *e);

/* "CreatedUsec" to "created_usec", cut to the buffer. */
void snake_case(const char *name, char *buffer, size_t size);
