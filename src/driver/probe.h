#pragma once

#include "driver/driver.h"

/* The answer to Driver.probe() of a driver that knows it at once: given in the next turn of the loop, never from inside
 * the call. *verdict is taken; one that is not set means that the driver works here. */
int probe_answer_later(const DriverHost *host, Error *verdict, GuestAnswer answer, void *userdata, Error *e);
